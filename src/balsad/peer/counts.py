"""What a member exchanged with another, as plain numbers that a scrape reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balsad.membership import format_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from balsad.observe.cells import LabelledCounter, LabelledGauge, LabelledHistogram
    from balsad.observe.metrics import Metrics
    from balsad.peer.transport import PeerTransport


class PeerCounts:
    """One other member's numbers; they outlive its connections."""

    __slots__ = (
        "appends_received",
        "appends_sent",
        "bytes_received",
        "bytes_sent",
        "receive_failures",
        "send_failures",
        "snapshot_receive_failures",
        "snapshot_receives",
        "snapshot_receives_in_flight",
        "snapshot_send_failures",
        "snapshot_sends",
        "snapshot_sends_in_flight",
    )

    def __init__(self) -> None:
        self.bytes_sent = 0
        self.bytes_received = 0
        self.send_failures = 0
        self.receive_failures = 0
        self.appends_sent = 0
        self.appends_received = 0
        self.snapshot_sends = 0
        self.snapshot_send_failures = 0
        self.snapshot_sends_in_flight = 0
        self.snapshot_receives = 0
        self.snapshot_receive_failures = 0
        self.snapshot_receives_in_flight = 0


def copy_peer_counts(metrics: Metrics, transport: PeerTransport) -> None:
    """Bring the metrics of the network up to date; call it at each scrape."""
    local = transport.identity.member_id_text
    for member_id, counts in transport.counts.items():
        name = format_id(member_id)
        metrics.peer_sent_bytes.of(name).value = counts.bytes_sent
        metrics.peer_received_bytes.of(name).value = counts.bytes_received
        _set(metrics.peer_sent_failures, name, counts.send_failures)
        _set(metrics.snapshot_send_success, name, counts.snapshot_sends)
        _set(metrics.snapshot_send_failures, name, counts.snapshot_send_failures)
        _set(metrics.snapshot_send_inflights, name, counts.snapshot_sends_in_flight)
        _set(metrics.snapshot_receive_success, name, counts.snapshot_receives)
        _set(metrics.snapshot_receive_failures, name, counts.snapshot_receive_failures)
        _set(metrics.snapshot_receive_inflights, name, counts.snapshot_receives_in_flight)
    for address, failures in transport.receive_failures.items():
        metrics.peer_received_failures.of(address).value = failures
    metrics.known_peers.clear()
    for peer in transport.peers:
        name = format_id(peer.id)
        metrics.known_peers.of(local, name).value = 1
        metrics.active_peers.of(local, name).value = int(peer.status.is_active)
        disconnects = transport.disconnects.get(peer.id, 0) + peer.status.disconnects
        if disconnects:
            metrics.disconnected_peers.of(local, name).value = disconnects


def connect_metrics(metrics: Metrics, transport: PeerTransport) -> None:
    """Have the metrics of the network filled: numbers at each scrape, histograms as things happen."""
    transport.observe_round_trip = _observer(metrics.peer_round_trip_s)
    transport.observe_snapshot_send = _observer(metrics.snapshot_send_s)
    transport.observe_snapshot_receive = _observer(metrics.snapshot_receive_s)
    metrics.on_scrape.append(lambda: copy_peer_counts(metrics, transport))


def _observer(histograms: LabelledHistogram) -> Callable[[int, float], None]:
    return lambda member_id, seconds: histograms.of(format_id(member_id)).observe(seconds)


def _set(cells: LabelledCounter | LabelledGauge, name: str, value: int) -> None:
    """etcd shows a combination of labels only once it has counted something."""
    if value or (name,) in {labels for labels, _ in cells.items()}:
        cells.of(name).value = value
