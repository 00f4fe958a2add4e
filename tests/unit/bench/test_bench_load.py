"""The load generators count what was done, and nothing that was not."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

from balsad.proto import rpc_pb2 as rpc
from bench import h2load, load, single
from bench.connection import LoadError, call
from bench.cpu import Meter
from bench.load import Load, Request, Target
from bench.setting import Generate
from bench.workloads import PUT_ONE, RANGE_LINEARIZABLE, VALUE, Workload, stored_key
from tests.unit.bench.lying_member import LyingMember

needs_h2load = pytest.mark.skipif(not h2load.is_installed(), reason="h2load is not installed")
GENERATORS = [
    pytest.param(load.generate, id="own"),
    pytest.param(h2load.generate, id="h2load", marks=needs_h2load),
]


@pytest.fixture
def member() -> Iterator[LyingMember]:
    with LyingMember() as one:
        for number in range(1000):
            one.keys[stored_key(number)] = VALUE
        yield one


def measure(generate: Generate, workload: Workload, member: LyingMember) -> dict[str, float]:
    setting: Any = type("Setting", (), {"generate": staticmethod(generate), "seconds": 0.3})
    return dict(single.measure(setting, workload, [Target(member.address, 2, 3)], []))


@pytest.mark.parametrize("generate", GENERATORS)
@pytest.mark.parametrize("workload", [PUT_ONE, RANGE_LINEARIZABLE], ids=lambda workload: workload.kind)
def test_bench_honest_member_is_measured(member: LyingMember, generate: Generate, workload: Workload) -> None:
    sample = measure(generate, workload, member)

    assert 0 < sample["p50_ms"] <= sample["p99_ms"]
    assert 0 < sample["per_s"] * 0.25 < member.calls


@pytest.mark.parametrize("generate", GENERATORS)
def test_bench_lost_puts_are_found(member: LyingMember, generate: Generate) -> None:
    member.loses = True

    with pytest.raises(LoadError, match="made 0 revisions"):
        measure(generate, PUT_ONE, member)


@pytest.mark.parametrize("generate", GENERATORS)
@pytest.mark.parametrize("workload", [PUT_ONE, RANGE_LINEARIZABLE], ids=lambda workload: workload.kind)
def test_bench_refused_calls_are_found(member: LyingMember, generate: Generate, workload: Workload) -> None:
    """h2load does not look at grpc-status: the answers it saw are too short."""
    member.refuses_every = 7

    with pytest.raises(LoadError, match=r"calls failed|answers of|made \d+ revisions|not today"):
        measure(generate, workload, member)


@pytest.mark.parametrize("generate", GENERATORS)
def test_bench_wrong_answers_are_found(member: LyingMember, generate: Generate) -> None:
    member.empties = True

    with pytest.raises(LoadError, match="a wrong answer"):
        measure(generate, RANGE_LINEARIZABLE, member)


def test_bench_answers_that_become_short_under_load_are_found() -> None:
    found = Load(done=1000, failed=0, seconds=1.0, p50_s=0.1, p99_s=0.1, answer_bytes=40.0)

    with pytest.raises(LoadError, match="answers of 40 bytes instead of 300"):
        RANGE_LINEARIZABLE.judge(found, 300, 0)


def test_bench_reads_that_write_are_found() -> None:
    found = Load(done=1000, failed=0, seconds=1.0, p50_s=0.1, p99_s=0.1, answer_bytes=300.0)

    with pytest.raises(LoadError, match="made 1 revisions"):
        RANGE_LINEARIZABLE.judge(found, 300, 1)


def test_bench_every_body_is_sent_once(member: LyingMember) -> None:
    bodies = [rpc.PutRequest(key=b"%d" % number).SerializeToString() for number in range(101)]

    found = load.send_all(Request(PUT_ONE.request.path, bodies), Target(member.address, 3, 5), Meter([]))

    assert found.done == 101
    assert {b"%d" % number for number in range(101)} <= member.keys.keys()


def test_bench_a_server_that_ends_is_an_error(member: LyingMember) -> None:
    member.stop()

    with pytest.raises(LoadError):
        load.generate(PUT_ONE.request, [Target(member.address, 1, 1)], 0.1, Meter([]))


def test_bench_long_messages_keep_within_the_windows_of_the_server() -> None:
    """grpcio's server gives a stream 64 KiB at first; it drops a client that sends more."""
    sizes: list[int] = []

    def count(body: bytes, context: grpc.ServicerContext) -> bytes:
        sizes.append(len(body))
        return body[:300_000]

    handler = grpc.method_handlers_generic_handler("a.B", {"C": grpc.unary_unary_rpc_method_handler(count)})
    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=(handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        answer = call(f"127.0.0.1:{port}", "/a.B/C", b"x" * 1_000_000)
        found = load.send_all(Request("/a.B/C", [b"y" * 200_000] * 8), Target(f"127.0.0.1:{port}", 1, 4), Meter([]))
    finally:
        server.stop(None)

    assert answer == b"x" * 300_000
    assert found.done == 8
    assert sizes == [1_000_000] + [200_000] * 8


def test_bench_shares_of_h2load_are_the_whole() -> None:
    shares = h2load._shares([Target("a", 10, 10), Target("b", 2, 10)], 4)

    assert [share.connections for share in shares] == [2, 3, 2, 3, 1, 1]
    assert [share.address for share in shares] == ["a"] * 4 + ["b"] * 2
