"""grpc_server_*: what the transport counted of each method, read when somebody scrapes.

Every method that etcd registers before its interceptors is there from the start, with every status code at 0; the
methods registered later (lock, election) appear with their first call.
Source: grpc-ecosystem/go-grpc-prometheus server_metrics.go; etcd server/etcdserver/api/v3rpc/grpc.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from balsad.observe.cells import Histogram, Labelled
from balsad.observe.exposition import Family, Labels, Sample


class MethodCounts(Protocol):
    """What the transport tells of one method."""

    @property
    def service(self) -> str:
        """`etcdserverpb.KV`"""

    @property
    def name(self) -> str: ...

    @property
    def started(self) -> int: ...

    @property
    def handled(self) -> Mapping[int, int]:
        """Calls ended, by status code."""

    @property
    def received(self) -> int: ...

    @property
    def sent(self) -> int: ...

    @property
    def bytes_in(self) -> int: ...

    @property
    def bytes_out(self) -> int: ...


CODES: Final = (
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
)

HANDLING_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_UNARY: Final = "unary"
_TYPES: Final = {
    ("etcdserverpb.Watch", "Watch"): "bidi_stream",
    ("etcdserverpb.Lease", "LeaseKeepAlive"): "bidi_stream",
    ("etcdserverpb.Maintenance", "Snapshot"): "server_stream",
    ("grpc.health.v1.Health", "Watch"): "server_stream",
    ("v3electionpb.Election", "Observe"): "server_stream",
}
_REGISTERED: Final = {
    "etcdserverpb.KV": "Range Put DeleteRange Txn Compact",
    "etcdserverpb.Watch": "Watch",
    "etcdserverpb.Lease": "LeaseGrant LeaseRevoke LeaseKeepAlive LeaseTimeToLive LeaseLeases",
    "etcdserverpb.Cluster": "MemberAdd MemberRemove MemberUpdate MemberList MemberPromote",
    "etcdserverpb.Maintenance": "Alarm Status Defragment Hash HashKV Snapshot MoveLeader Downgrade",
    "etcdserverpb.Auth": (
        "AuthEnable AuthDisable AuthStatus Authenticate UserAdd UserGet UserList UserDelete UserChangePassword "
        "UserGrantRole UserRevokeRole RoleAdd RoleGet RoleList RoleDelete RoleGrantPermission RoleRevokePermission"
    ),
    "grpc.health.v1.Health": "Check Watch",
}
METHODS: Final = tuple((service, name) for service, names in _REGISTERED.items() for name in names.split())
"""Service and name of the methods that are told of from the start."""


def grpc_type(service: str, name: str) -> str:
    """unary, server_stream or bidi_stream."""
    return _TYPES.get((service, name), _UNARY)


def _labels(service: str, name: str) -> Labels:
    return (("grpc_method", name), ("grpc_service", service), ("grpc_type", grpc_type(service, name)))


_ZERO_LABELS: Final = {key: _labels(*key) for key in METHODS}


def grpc_families(methods: Iterable[MethodCounts], handling: Labelled[Histogram] | None = None) -> list[Family]:
    """`handling`, if there is one, holds the durations of `--metrics extensive` by type, service and method"""
    started: list[Sample] = []
    handled: list[Sample] = []
    received: list[Sample] = []
    sent: list[Sample] = []
    bytes_in = bytes_out = 0
    seen: set[tuple[str, str]] = set()
    for method in methods:
        key = (method.service, method.name)
        bytes_in += method.bytes_in
        bytes_out += method.bytes_out
        if key not in _ZERO_LABELS and not method.started:
            continue
        seen.add(key)
        labels = _ZERO_LABELS.get(key) or _labels(*key)
        started.append((labels, method.started))
        received.append((labels, method.received))
        sent.append((labels, method.sent))
        ended = method.handled
        handled += [
            ((("grpc_code", code), *labels), ended.get(number, 0))
            for number, code in enumerate(CODES)
            if key in _ZERO_LABELS or number in ended
        ]
    for key, labels in _ZERO_LABELS.items():
        if key not in seen:
            started.append((labels, 0))
            received.append((labels, 0))
            sent.append((labels, 0))
            handled += [((("grpc_code", code), *labels), 0) for code in CODES]
    families = [
        Family("grpc_server_started_total", "counter", "Total number of RPCs started on the server.", started),
        Family(
            "grpc_server_handled_total",
            "counter",
            "Total number of RPCs completed on the server, regardless of success or failure.",
            handled,
        ),
        Family(
            "grpc_server_msg_received_total",
            "counter",
            "Total number of RPC stream messages received on the server.",
            received,
        ),
        Family(
            "grpc_server_msg_sent_total",
            "counter",
            "Total number of gRPC stream messages sent by the server.",
            sent,
        ),
        Family(
            "etcd_network_client_grpc_received_bytes_total",
            "counter",
            "The total number of bytes received from grpc clients.",
            [((), bytes_in)],
        ),
        Family(
            "etcd_network_client_grpc_sent_bytes_total",
            "counter",
            "The total number of bytes sent to grpc clients.",
            [((), bytes_out)],
        ),
    ]
    if handling is not None:
        for service, name in METHODS:
            handling.of(grpc_type(service, name), service, name)
        durations: list[Sample] = [
            (tuple(zip(handling.labels, values, strict=True)), cell) for values, cell in handling.items()
        ]
        families.append(
            Family(
                "grpc_server_handling_seconds",
                "histogram",
                "Histogram of response latency (seconds) of gRPC that had been "
                "application-level handled by the server.",
                durations,
            )
        )
    return families
