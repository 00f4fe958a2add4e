"""Probes: round trips, clocks, and what is logged of them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from balsad.env.real import RealClock
from balsad.peer.http_client import Dialer, HttpClient
from balsad.peer.prober import RAFT_MESSAGE, Prober, ProbeStatus, clock_of
from balsad.peer.url_picker import UrlPicker
from tests.unit.peer.conftest import Run
from tests.unit.peer.peer_kit import bound, end, url_of


def test_round_trips_are_smoothed_and_clocks_compared() -> None:
    """Source: xiang90/probing status.go: each probe counts for an eighth."""
    status = ProbeStatus()
    assert not status.is_healthy
    status.record(0.8, here=1000.0, there=990.0)
    assert (status.round_trip_s, status.is_healthy) == (pytest.approx(0.1), True)
    assert status.clock_diff_s == pytest.approx(10 - 0.05)
    status.record(0.8, here=1000.0, there=1000.0)
    assert status.round_trip_s == pytest.approx(0.1875)
    status.fail("gone")
    assert (status.is_healthy, status.error) == (False, "gone")


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (b'{"OK":true,"Now":"1970-01-01T00:00:01Z"}\n', 1.0),
        (b'{"OK":true,"Now":"1970-01-01T00:00:01.25Z"}\n', 1.25),
        (b'{"OK":true,"Now":"1970-01-01T00:00:01.123456789Z"}\n', 1.123456),
        (b'{"OK":true,"Now":"1970-01-01T02:00:01.5+02:00"}\n', 1.5),
    ],
)
def test_clocks_are_read(body: bytes, seconds: float) -> None:
    assert clock_of(body) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"OK":false,"Now":"1970-01-01T00:00:01Z"}', b'{"OK":true}', b'{"OK":true,"Now":"noon"}', b"\xff"],
)
def test_what_is_no_health_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        clock_of(body)


def test_a_probe_finds_a_member_and_its_clock(run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    observed: list[tuple[int, float]] = []

    class Ahead(RealClock):
        @staticmethod
        def time() -> float:
            return RealClock.time() + 7

    async def work() -> None:
        nobody = bound()
        async with end(2, tmp_path) as other:
            client = HttpClient(Dialer(None, 1.0))
            prober = Prober(
                RAFT_MESSAGE,
                peer_id=2,
                client=client,
                picker=UrlPicker([url_of(nobody), other.url]),
                clock=Ahead(),
                observe_round_trip_s=lambda member_id, seconds: observed.append((member_id, seconds)),
            )
            # In the order of their texts one of the two URLs comes first; one probe or two find the member.
            for _ in range(2):
                await prober._probe_once()
                if prober.status.is_healthy:
                    break
            assert prober.status.is_healthy
            assert 6 < prober.status.clock_diff_s < 8
            assert prober.report_once() == 30
            assert [record.message for record in caplog.records] == ["prober found high clock drift"]
            assert caplog.records[0].__dict__["fields"]["remote-peer-id"] == "2"
            assert observed == [(2, prober.status.round_trip_s)]
            assert prober.status.round_trip_s > 0
            client.close()
        for _ in range(2):
            await prober._probe_once()
        assert not prober.status.is_healthy
        assert "connection refused" in prober.status.error
        caplog.clear()
        assert prober.report_once() == 5
        assert "prober detected unhealthy status" in [record.message for record in caplog.records]
        nobody.close()

    with caplog.at_level(logging.WARNING, "balsad.peer.prober"):
        run(work())
