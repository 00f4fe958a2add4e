"""The door and the KV service: the short ways answer the very bytes of the long ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from balsad.api.v3.checks import check_put, check_txn
from balsad.api.v3.door import Door, decode
from balsad.api.v3.kv import KvApi
from balsad.errors import (
    DuplicateKeyError,
    EmptyKeyError,
    InternalError,
    LeaseProvidedError,
    NoLeaderError,
    RequestError,
    TooManyOpsError,
    ValueProvidedError,
)
from balsad.proto import rpc_pb2 as rpc
from balsad.transport import Headers
from tests.unit.server.server_kit import Running, in_loop, new_call, running
from tests.unit.storage.bolt_disks import MappingDisk


class Api:
    def __init__(self, life: Running) -> None:
        self.life = life
        self.door = Door(life.member.service)
        self.kv = KvApi(life.member.service, self.door)
        self.known = headers()
        self.door.admit(self.known)

    async def ask(self, method: str, raw: bytes, **metadata: bytes) -> tuple[tuple[int, str], list[bytes]]:
        call = new_call(**metadata)
        try:
            getattr(self.kv, method)(call.given, raw)
        except RequestError as error:  # which the transport makes the call's status
            call.given.fail(error.code, error.text)
        await self.life.answer(call)
        assert call.status is not None
        return call.status, call.messages

    def at_once(self, raw: bytes) -> tuple[tuple[int, str], list[bytes]] | None:
        """What the short way says."""
        try:
            answer = self.kv.range_now(self.known, raw)
        except RequestError as error:
            return (int(error.code), error.text), []
        return None if answer is None else ((0, ""), [answer])


def headers(**metadata: bytes) -> Headers:
    return Headers("", "", {name.encode(): value for name, value in metadata.items()}, [])


ranges = st.builds(
    rpc.RangeRequest,
    key=st.sampled_from([b"", b"a", b"b", b"none", b"k" * 127, b"k" * 128]),
    range_end=st.sampled_from([b"", b"", b"", b"\0", b"b"]),
    serializable=st.booleans(),
    limit=st.sampled_from([0, 0, 1]),
    revision=st.sampled_from([0, 0, 0, 2, 99]),
    keys_only=st.booleans(),
    count_only=st.booleans(),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    requests=st.lists(ranges, min_size=1, max_size=8), tail=st.sampled_from([b"", b"\x38\x01", b"\x38\x00", b"\x08"])
)
def test_the_short_way_of_a_range_answers_like_the_long_one(requests: list[rpc.RangeRequest], tail: bytes) -> None:
    async def scenario() -> None:
        async with running("/d", disk=new_disk()) as life:
            api = Api(life)
            for key in (b"a", b"b", b"k" * 127, b"k" * 128):
                await api.ask("put", rpc.PutRequest(key=key, value=key * 2).SerializeToString())
            for request in requests:
                for raw in (request.SerializeToString(), request.SerializeToString() + tail):
                    assert api.at_once(raw) == await api.ask("range", raw), raw

    in_loop(scenario())


def new_disk() -> MappingDisk:
    disk = MappingDisk()
    disk.makedirs("/d")
    return disk


def test_the_short_way_is_taken_only_when_nobody_has_to_be_asked(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            api = Api(life)
            raw = rpc.RangeRequest(key=b"a").SerializeToString()
            assert api.at_once(raw) is not None
            life.member.service.reads_are_free = False
            assert api.at_once(raw) is None
            life.member.service.reads_are_free = True
            # A header block is admitted once before it goes the short way.
            assert api.kv.range_now(headers(), raw) is None

    in_loop(scenario())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    puts=st.lists(
        st.builds(
            rpc.PutRequest,
            key=st.sampled_from([b"a", b"b", b"k" * 127, b"k" * 128]),
            value=st.sampled_from([b"", b"v", bytes(127), bytes(128), bytes(20_000)]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_the_short_way_of_a_put_answers_like_the_long_one(puts: list[rpc.PutRequest]) -> None:
    """An unknown field at the end sends a request the long way; it changes nothing else."""

    async def scenario(tail: bytes) -> None:
        async with running("/d", disk=new_disk()) as life:
            api = Api(life)
            answers.append([await api.ask("put", put.SerializeToString() + tail) for put in puts])
            hashes.append(life.member.store.hash_by_revision(0).hash)

    answers: list[Any] = []
    hashes: list[int] = []
    in_loop(scenario(b""))
    in_loop(scenario(b"\x78\x01"))

    assert answers[0] == answers[1]
    assert hashes[0] == hashes[1]


def test_bytes_that_are_no_message(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            api = Api(life)
            for method in ("range", "put", "delete_range", "txn", "compact"):
                status, messages = await api.ask(method, b"\x0a\x05ab")
                assert status[0] == 13
                assert status[1].startswith("grpc: error unmarshalling request: ")
                assert messages == []
            assert life.member.driver.waiting == {}

    in_loop(scenario())
    with pytest.raises(InternalError):
        decode(rpc.PutRequest, b"\xff")


def test_who_requires_a_leader_is_refused_without_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            door = Api(life).door
            strict, easy = headers(hasleader=b"true"), headers(hasleader=b"false")
            door.admit(strict)
            life.member.driver.leader = 0
            door.admit(easy)
            with pytest.raises(NoLeaderError):
                door.admit(strict)
            life.member.driver.leader = life.member.service.member_id

    in_loop(scenario())


def test_versions_of_clients_are_counted_and_bounded(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            door = Door(life.member.service)
            same = Headers("", "", {b"client-api-version": b"3.5.1"}, [])
            for _ in range(3):
                door.admit(same)
            for number in range(500):
                door.admit(Headers("", "", {b"client-api-version": b"9.%d\xff" % number}, []))
            assert door.client_requests[("unary", "3.5.1")].value == 3
            assert len(door.client_requests) <= 65
            assert sum(counter.value for counter in door.client_requests.values()) == 503

    in_loop(scenario())


# Checks


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (rpc.PutRequest(), EmptyKeyError),
        (rpc.PutRequest(key=b"a", ignore_value=True, value=b"1"), ValueProvidedError),
        (rpc.PutRequest(key=b"a", ignore_lease=True, lease=1), LeaseProvidedError),
    ],
)
def test_puts_that_contradict_themselves(request_: rpc.PutRequest, error: type[Exception]) -> None:
    with pytest.raises(error):
        check_put(request_)


def put(key: bytes) -> rpc.RequestOp:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key))


def delete(key: bytes, end: bytes = b"") -> rpc.RequestOp:
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, range_end=end))


def nest(*success: rpc.RequestOp, failure: tuple[rpc.RequestOp, ...] = ()) -> rpc.RequestOp:
    return rpc.RequestOp(request_txn=rpc.TxnRequest(success=success, failure=failure))


def test_inner_txns_share_the_room_that_the_outer_left() -> None:
    deep = nest()
    for _ in range(4):
        deep = nest(deep)
    check_txn(rpc.TxnRequest(success=[deep]), 5)
    with pytest.raises(TooManyOpsError):
        check_txn(rpc.TxnRequest(success=[deep]), 4)


def test_a_txn_of_very_many_operations_is_judged() -> None:
    """With --max-txn-ops as high: 20,000 puts and a nest 40 deep."""
    check_txn(rpc.TxnRequest(success=[put(b"%d" % number) for number in range(20_000)]), 20_000)
    deep = nest(put(b"a"))
    for _ in range(40):
        deep = nest(deep)
    check_txn(rpc.TxnRequest(success=[deep]), 128)
    with pytest.raises(DuplicateKeyError):
        check_txn(rpc.TxnRequest(success=[deep, put(b"a")]), 128)


@pytest.mark.parametrize(
    "operations",
    [
        [put(b"a"), put(b"a")],
        [nest(put(b"a")), put(b"a")],
        [nest(put(b"a")), nest(put(b"a"))],
        [nest(failure=(put(b"a"),)), nest(put(b"a"))],
        [put(b"a"), delete(b"a")],
        [delete(b"a", b"c"), put(b"b")],
        [nest(delete(b"a", b"c")), put(b"b")],
        [delete(b"a", b"c"), nest(put(b"b"))],
        [nest(delete(b"a")), nest(put(b"a"))],
    ],
)
def test_no_key_is_changed_twice(operations: list[rpc.RequestOp]) -> None:
    with pytest.raises(DuplicateKeyError):
        check_txn(rpc.TxnRequest(success=operations), 128)
    with pytest.raises(DuplicateKeyError):
        check_txn(rpc.TxnRequest(failure=operations), 128)


@pytest.mark.parametrize(
    "operations",
    [
        [put(b"a"), put(b"b")],
        [nest(put(b"a"), failure=(put(b"a"),))],
        [delete(b"a"), delete(b"a", b"c")],
        [delete(b"a", b"c"), put(b"c")],
        [delete(b"b", b"a"), put(b"a")],
        [delete(b"a", b"\0"), put(b"b")],
        [nest(put(b"a")), nest(delete(b"a"))],  # etcd looks only back
    ],
)
def test_what_only_looks_like_it(operations: list[rpc.RequestOp]) -> None:
    check_txn(rpc.TxnRequest(success=operations), 128)


def test_the_branches_are_judged_apart() -> None:
    check_txn(rpc.TxnRequest(success=[put(b"a")], failure=[put(b"a")]), 128)
