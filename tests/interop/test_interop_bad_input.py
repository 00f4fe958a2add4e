"""Bad input from outside: balsad answers, and ends, as the real etcd does; where it is stricter, the test says why.

The first half asks two running servers the same wrong things. The second half
starts servers on ports, folders and flags that cannot be.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from balsad.proto import rpc_pb2 as rpc
from tests.interop.servers import HeldPort, Member, Program, balsad, clean_environment, program, real, start
from tests.interop.v3 import V3, connect

pytestmark = [pytest.mark.real]

QUICK = ("--max-txn-ops=4", "--max-request-bytes=10000")


class Asker:
    """Asks one server by raw bytes."""

    def __init__(self, member: Member, client: V3) -> None:
        self.member = member
        self.v3 = client

    def raw(self, path: str, message: bytes) -> tuple[str, str]:
        """Code and text, or OK and the answer's bytes without what differs between two clusters."""
        call = self.v3.channel.unary_unary(path)
        try:
            return "OK", str(call(message, timeout=10))
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""

    def ask(self, method: str, request: Any, response: Any) -> tuple[str, str]:
        try:
            answer = self.v3.call(method, request, response)
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""
        if answer.HasField("header"):
            answer.header.cluster_id = answer.header.member_id = answer.header.raft_term = 0
        return "OK", str(answer)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Asker, Asker]]:
    """Ours and the real one, which hear the same all the time."""
    folder = tmp_path_factory.mktemp("pair")
    with contextlib.ExitStack() as stack:
        askers = []
        for name, who in (("ours", balsad()), ("theirs", real())):
            member = stack.enter_context(start(who, folder / name, *QUICK))
            askers.append(Asker(member, stack.enter_context(connect(member.address))))
        yield askers[0], askers[1]


def same(pair: tuple[Asker, Asker], question: Callable[[Asker], Any]) -> Any:
    """What both answer."""
    ours, theirs = (question(asker) for asker in pair)
    assert ours == theirs
    return ours


KV = "/etcdserverpb.KV/"
GARBAGE = [
    b"\x0a",
    b"\x0a\x05ab",
    b"\xff\xff\xff",
    b"\x0b",
    b"\x0a\x01a\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
]


@pytest.mark.parametrize("method", ["KV/Range", "KV/Put", "KV/DeleteRange", "KV/Txn", "Lease/LeaseGrant"])
def test_bytes_that_are_no_message_are_an_internal_error(pair: tuple[Asker, Asker], method: str) -> None:
    """Code and the words of grpc-go; what its decoder says after the colon is its own."""
    for garbage in GARBAGE:

        def question(asker: Asker, garbage: bytes = garbage) -> tuple[str, str]:
            code, text = asker.raw(f"/etcdserverpb.{method}", garbage)
            return code, text.partition("request: ")[0]

        assert same(pair, question) == ("INTERNAL", "grpc: error unmarshalling "), garbage


@pytest.mark.parametrize("path", [KV + "Nothing", "/etcdserverpb.Nothing/Range", "/nothing/at/all"])
def test_methods_that_do_not_exist(pair: tuple[Asker, Asker], path: str) -> None:
    assert same(pair, lambda asker: asker.raw(path, b""))[0] == "UNIMPLEMENTED"


def test_a_path_that_is_no_method(pair: tuple[Asker, Asker]) -> None:
    """grpc-go's odd choice of a code."""
    assert same(pair, lambda asker: asker.raw("/x", b""))[0] == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("size", [9_900, 10_000, 11_000, 534_000, 600_000])
def test_large_requests(pair: tuple[Asker, Asker], size: int) -> None:
    """--max-request-bytes=10000: above it etcd refuses, above 512 KiB more gRPC itself does."""
    request = rpc.PutRequest(key=b"large", value=bytes(size))

    code, text = same(pair, lambda asker: asker.ask("KV/Put", request, rpc.PutResponse))

    if size < 9_950:
        assert code == "OK"
    elif size < 12_000:
        assert (code, text) == ("INVALID_ARGUMENT", "etcdserver: request is too large")
    elif size > 10_000 + 512 * 1024:
        assert code == "RESOURCE_EXHAUSTED"


def put_op(key: bytes, **fields: Any) -> rpc.RequestOp:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, **fields))


def delete_op(key: bytes, end: bytes = b"") -> rpc.RequestOp:
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, range_end=end))


def txn_op(*operations: rpc.RequestOp, failure: tuple[rpc.RequestOp, ...] = ()) -> rpc.RequestOp:
    return rpc.RequestOp(request_txn=rpc.TxnRequest(success=operations, failure=failure))


def txn(*operations: rpc.RequestOp, **fields: Any) -> rpc.TxnRequest:
    return rpc.TxnRequest(success=operations, **fields)


NOTHING = rpc.RequestOp()
BAD_TXNS = [
    txn(*[put_op(b"%d" % number) for number in range(5)]),
    txn(*[put_op(b"%d" % number) for number in range(4)]),
    rpc.TxnRequest(compare=[rpc.Compare(key=b"a")] * 5),
    rpc.TxnRequest(compare=[rpc.Compare()]),
    rpc.TxnRequest(failure=[put_op(b"%d" % number) for number in range(5)]),
    txn(txn_op(*[put_op(b"%d" % number) for number in range(4)])),
    txn(txn_op(*[put_op(b"%d" % number) for number in range(3)])),
    txn(txn_op(txn_op(txn_op(txn_op())))),
    txn(txn_op(txn_op(txn_op(txn_op(txn_op()))))),
    txn(NOTHING),
    rpc.TxnRequest(failure=[NOTHING]),
    txn(put_op(b"a"), put_op(b"a")),
    txn(put_op(b"a"), txn_op(put_op(b"a"))),
    txn(txn_op(put_op(b"a")), txn_op(put_op(b"a"))),
    txn(txn_op(put_op(b"a"), failure=(put_op(b"a"),))),
    txn(txn_op(put_op(b"a"), failure=(delete_op(b"a"),)), txn_op(put_op(b"b"))),
    txn(delete_op(b"a"), put_op(b"a")),
    txn(put_op(b"a"), delete_op(b"a")),
    txn(delete_op(b"a", b"c"), put_op(b"b")),
    txn(delete_op(b"a", b"c"), put_op(b"c")),
    txn(delete_op(b"a", b"\0"), put_op(b"b")),
    txn(put_op(b"b"), delete_op(b"a", b"\0")),
    txn(put_op(b"new"), delete_op(b"a", b"\0"), put_op(b"other")),
    txn(delete_op(b"a"), txn_op(put_op(b"a"))),
    txn(txn_op(delete_op(b"a")), txn_op(delete_op(b"a"))),
    txn(txn_op(put_op(b"a")), txn_op(delete_op(b"a"))),
    txn(txn_op(put_op(b"a")), delete_op(b"a")),
    txn(txn_op(delete_op(b"a")), txn_op(put_op(b"a"))),
    txn(delete_op(b"c", b"a"), put_op(b"b")),
    txn(put_op(b"")),
    txn(delete_op(b"")),
    txn(rpc.RequestOp(request_range=rpc.RangeRequest())),
    txn(rpc.RequestOp(request_range=rpc.RangeRequest(key=b"a", revision=1 << 40))),
    txn(rpc.RequestOp(request_range=rpc.RangeRequest(key=b"a", revision=-5)), put_op(b"z")),
    txn(put_op(b"none", ignore_value=True)),
    txn(put_op(b"none", ignore_lease=True)),
    txn(put_op(b"a", ignore_value=True, value=b"1")),
    txn(put_op(b"a", ignore_lease=True, lease=1)),
    txn(put_op(b"a", lease=77)),
    txn(put_op(b"a", lease=77, ignore_value=True)),
    txn(put_op(b"none", lease=77, ignore_value=True)),
    rpc.TxnRequest(compare=[rpc.Compare(key=b"a", target=9, result=9)], success=[put_op(b"t")]),  # type: ignore[arg-type]
    rpc.TxnRequest(compare=[rpc.Compare(key=b"a", target=9)], success=[put_op(b"t")]),  # type: ignore[arg-type]
    rpc.TxnRequest(compare=[rpc.Compare(key=b"none", target=3)], success=[put_op(b"t")]),
    rpc.TxnRequest(compare=[rpc.Compare(key=b"c", range_end=b"a", version=3)], success=[put_op(b"t")]),
]


@pytest.mark.parametrize("number", range(len(BAD_TXNS)))
def test_txns(pair: tuple[Asker, Asker], number: int) -> None:
    code, _ = same(pair, lambda asker: asker.ask("KV/Txn", BAD_TXNS[number], rpc.TxnResponse))
    whole = rpc.RangeRequest(key=b"\0", range_end=b"\0")

    assert same(pair, lambda asker: asker.ask("KV/Range", whole, rpc.RangeResponse))[0] == "OK"
    assert code in ("OK", "INVALID_ARGUMENT", "OUT_OF_RANGE", "NOT_FOUND")


HOSTILE_KEYS = [
    b"\0",
    b"\0\0",
    b"\xff" * 200,
    b"k" * 127,
    b"k" * 128,
    b"k" * 9_000,
    b"\n",
    "ключ".encode(),
    b"/../../etc",
    b"%s%n\x1b[31m",
    b"\xc3\x28",
]


@pytest.mark.parametrize("key", HOSTILE_KEYS)
def test_hostile_keys(pair: tuple[Asker, Asker], key: bytes) -> None:
    for value in (b"", b"1", b"v" * 127, b"v" * 128, b"v" * 900):
        put = rpc.PutRequest(key=key, value=value, prev_kv=True)
        same(pair, lambda asker, put=put: asker.ask("KV/Put", put, rpc.PutResponse))
        for end in (b"", b"\0", key + b"\0", key, b"\xff"):
            request = rpc.RangeRequest(key=key, range_end=end)
            same(pair, lambda asker, request=request: asker.ask("KV/Range", request, rpc.RangeResponse))
    delete = rpc.DeleteRangeRequest(key=key, prev_kv=True)
    same(pair, lambda asker: asker.ask("KV/DeleteRange", delete, rpc.DeleteRangeResponse))


ODD_REQUESTS: list[tuple[str, Any, Any]] = [
    ("KV/Range", rpc.RangeRequest(), rpc.RangeResponse),
    ("KV/Range", rpc.RangeRequest(key=b"a", revision=1 << 50), rpc.RangeResponse),
    ("KV/Range", rpc.RangeRequest(key=b"a", limit=-1), rpc.RangeResponse),
    ("KV/Range", rpc.RangeRequest(key=b"\0", range_end=b"\0", sort_order=9), rpc.RangeResponse),  # type: ignore[arg-type]
    ("KV/Put", rpc.PutRequest(), rpc.PutResponse),
    ("KV/Put", rpc.PutRequest(value=b"1"), rpc.PutResponse),
    ("KV/Put", rpc.PutRequest(key=b"a", lease=12345), rpc.PutResponse),
    ("KV/Put", rpc.PutRequest(key=b"a", lease=-1), rpc.PutResponse),
    ("KV/Put", rpc.PutRequest(key=b"none", ignore_value=True), rpc.PutResponse),
    ("KV/Put", rpc.PutRequest(key=b"none", ignore_lease=True, lease=9), rpc.PutResponse),
    ("KV/DeleteRange", rpc.DeleteRangeRequest(), rpc.DeleteRangeResponse),
    ("KV/Compact", rpc.CompactionRequest(revision=1 << 50), rpc.CompactionResponse),
    ("KV/Compact", rpc.CompactionRequest(revision=-3), rpc.CompactionResponse),
    ("Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=5, TTL=9_000_000_001), rpc.LeaseGrantResponse),
    ("Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=6, TTL=100), rpc.LeaseGrantResponse),
    ("Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=6, TTL=100), rpc.LeaseGrantResponse),
    ("Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=-7, TTL=100), rpc.LeaseGrantResponse),
    ("Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=8, TTL=-1), rpc.LeaseGrantResponse),
    ("Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=9, TTL=0), rpc.LeaseGrantResponse),
    ("Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=404), rpc.LeaseRevokeResponse),
    ("Lease/LeaseRevoke", rpc.LeaseRevokeRequest(), rpc.LeaseRevokeResponse),
    ("Lease/LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=404, keys=True), rpc.LeaseTimeToLiveResponse),
    ("Lease/LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(), rpc.LeaseTimeToLiveResponse),
    ("Maintenance/HashKV", rpc.HashKVRequest(revision=1 << 50), rpc.HashKVResponse),
    ("Maintenance/MoveLeader", rpc.MoveLeaderRequest(targetID=1), rpc.MoveLeaderResponse),
    ("Maintenance/Alarm", rpc.AlarmRequest(), rpc.AlarmResponse),
    ("Maintenance/Alarm", rpc.AlarmRequest(action=1), rpc.AlarmResponse),  # type: ignore[arg-type]
    ("Maintenance/Alarm", rpc.AlarmRequest(action=2), rpc.AlarmResponse),  # type: ignore[arg-type]
    ("Maintenance/Alarm", rpc.AlarmRequest(action=2, alarm=1, memberID=3), rpc.AlarmResponse),  # type: ignore[arg-type]
    ("Cluster/MemberAdd", rpc.MemberAddRequest(), rpc.MemberAddResponse),
    ("Cluster/MemberAdd", rpc.MemberAddRequest(peerURLs=["nonsense"]), rpc.MemberAddResponse),
    ("Cluster/MemberRemove", rpc.MemberRemoveRequest(ID=1), rpc.MemberRemoveResponse),
    ("Cluster/MemberUpdate", rpc.MemberUpdateRequest(ID=1, peerURLs=["http://127.0.0.1:1"]), rpc.MemberUpdateResponse),
    ("Cluster/MemberPromote", rpc.MemberPromoteRequest(ID=1), rpc.MemberPromoteResponse),
]


@pytest.mark.parametrize("number", range(len(ODD_REQUESTS)))
def test_odd_requests(pair: tuple[Asker, Asker], number: int) -> None:
    method, request, response = ODD_REQUESTS[number]

    same(pair, lambda asker: asker.ask(method, request, response))


def create(key: bytes = b"watched", **fields: Any) -> rpc.WatchRequest:
    return rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=key, **fields))


def cancel(watch_id: int) -> rpc.WatchRequest:
    return rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=watch_id))


ODD_WATCHES: list[list[rpc.WatchRequest]] = [
    [create(watch_id=5), create(watch_id=5), create()],
    [create(watch_id=-5), cancel(-5), cancel(-5)],
    [create(), create(), cancel(1), create(), cancel(0), create(watch_id=1)],
    [cancel(3), cancel(0), cancel(-1)],
    [create(b"")],
    [create(b"", range_end=b"\0")],
    [create(range_end=b"a")],
    [create(range_end=b"watched")],
    [create(start_revision=1 << 40)],
    [create(start_revision=1)],
    [create(filters=[0, 1]), create(filters=[9])],  # type: ignore[list-item]
    [rpc.WatchRequest()],
    [rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()), create()],
]


@pytest.mark.parametrize("number", range(len(ODD_WATCHES)))
def test_odd_watches(pair: tuple[Asker, Asker], number: int) -> None:
    """All that is answered up to a last watch that marks the end."""

    def question(asker: Asker) -> list[str]:
        watch = asker.v3.watch()
        for request in ODD_WATCHES[number]:
            watch.send(request)
        watch.send(create(b"end", watch_id=1000))
        answers = []
        while True:
            answer = watch.next()
            answer.header.cluster_id = answer.header.member_id = answer.header.raft_term = 0
            if answer.watch_id == 1000:
                break
            answers.append(str(answer))
        watch.close()
        return sorted(answers)

    same(pair, question)


@pytest.mark.parametrize("path", ["Watch/Watch", "Lease/LeaseKeepAlive", "Maintenance/Snapshot"])
def test_bytes_that_are_no_message_end_a_stream(pair: tuple[Asker, Asker], path: str) -> None:
    def question(asker: Asker) -> str:
        call = asker.v3.channel.stream_stream(f"/etcdserverpb.{path}")(iter([b"\x0a\x05ab"]), timeout=10)
        with pytest.raises(grpc.RpcError) as refused:
            list(call)
        return str(refused.value.code().name)

    same(pair, question)


def test_odd_renewals(pair: tuple[Asker, Asker]) -> None:
    """Leases that are not there are answered with a TTL of 0, in the order asked."""
    for asker in pair:
        asker.ask("Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=70, TTL=1000), rpc.LeaseGrantResponse)

    def question(asker: Asker) -> list[tuple[int, int]]:
        stub = asker.v3.channel.stream_stream(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            request_serializer=rpc.LeaseKeepAliveRequest.SerializeToString,
            response_deserializer=rpc.LeaseKeepAliveResponse.FromString,
        )
        requests = [rpc.LeaseKeepAliveRequest(ID=lease) for lease in (404, 70, 0, -1, 70)]
        return [(answer.ID, answer.TTL) for answer in stub(iter(requests), timeout=10)]

    assert same(pair, question) == [(404, 0), (70, 1000), (0, 0), (-1, 0), (70, 1000)]


# Alarms


EVERY_KIND: list[tuple[str, Any, Any]] = [
    ("KV/Range", rpc.RangeRequest(key=b"a"), rpc.RangeResponse),
    ("KV/Range", rpc.RangeRequest(key=b"a", serializable=True), rpc.RangeResponse),
    ("KV/Put", rpc.PutRequest(key=b"a", value=b"2"), rpc.PutResponse),
    ("KV/Put", rpc.PutRequest(key=b"a", value=b"2", prev_kv=True), rpc.PutResponse),
    ("KV/DeleteRange", rpc.DeleteRangeRequest(key=b"b"), rpc.DeleteRangeResponse),
    ("KV/Txn", txn(put_op(b"c")), rpc.TxnResponse),
    ("KV/Txn", txn(delete_op(b"c")), rpc.TxnResponse),
    ("KV/Txn", txn(rpc.RequestOp(request_range=rpc.RangeRequest(key=b"a"))), rpc.TxnResponse),
    ("KV/Txn", txn(txn_op(put_op(b"c"))), rpc.TxnResponse),
    ("KV/Compact", rpc.CompactionRequest(revision=2), rpc.CompactionResponse),
    ("Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=5, TTL=500), rpc.LeaseGrantResponse),
    ("Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=3), rpc.LeaseRevokeResponse),
    ("Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=4), rpc.LeaseRevokeResponse),
    ("Maintenance/Defragment", rpc.DefragmentRequest(), rpc.DefragmentResponse),
]


@pytest.mark.parametrize("kind", [1, 2], ids=["nospace", "corrupt"])
def test_what_is_served_under_an_alarm(tmp_path: Path, kind: int) -> None:
    """Every kind of request under either alarm, and again after it was disarmed; the alarm outlives a restart."""
    answers: list[list[Any]] = []
    for name, who in (("ours", balsad()), ("theirs", real())):
        seen: list[Any] = []
        answers.append(seen)
        like = None
        for _life in range(2):
            with start(who, tmp_path / name, like=like) as member, connect(member.address) as client:
                asker = Asker(member, client)
                if like is None:
                    client.put(b"a", b"1")
                    client.put(b"b", b"1")
                    client.lease_grant(3, 500)
                    client.alarm(rpc.AlarmRequest(action=1, memberID=7, alarm=kind))  # type: ignore[arg-type]
                seen += [asker.ask(*request) for request in EVERY_KIND]
                seen.append(asker.ask("Maintenance/Alarm", rpc.AlarmRequest(), rpc.AlarmResponse))
                seen.append(list(client.status().errors))
                seen.append(member.get("/health"))
                if like is not None:
                    off = rpc.AlarmRequest(action=2, memberID=7, alarm=kind)  # type: ignore[arg-type]
                    seen.append(asker.ask("Maintenance/Alarm", off, rpc.AlarmResponse))
                    seen += [asker.ask(*request) for request in EVERY_KIND]
                    seen.append(member.get("/health"))
                like = member

    assert answers[0] == answers[1]
    assert "database space exceeded" in str(answers[0]) or "corrupt cluster" in str(answers[0])


# Space


@pytest.mark.parametrize("name", ["balsad", "real"])
def test_a_full_db_is_repaired_as_the_handbook_says(tmp_path: Path, name: str) -> None:
    """A put raises the alarm; then backup, compact, defragment, disarm, and puts go again. Across restarts, too."""
    quota = "--quota-backend-bytes=150000"
    who = program(name)
    with start(who, tmp_path / "data", quota) as member, connect(member.address) as client:
        with pytest.raises(grpc.RpcError) as refused:
            for _ in range(100):
                client.put(b"filler", bytes(8_000))
                # The quota looks at the file, which grows on the backend's beat of 100 ms.
                time.sleep(0.005)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.value.details() == "etcdserver: mvcc: database space exceeded"
        assert member.etcdctl("alarm", "list").strip().endswith("alarm:NOSPACE")
        assert member.get("/health") == {"health": "false", "reason": "ALARM NOSPACE"}
        assert "database space exceeded" in member.etcdctl("put", "small", "1", check=False)
        assert member.etcdctl("get", "filler", "--keys-only").strip() == "filler"

    with start(who, tmp_path / "data", quota, like=member) as member:
        # Alarms outlive restarts.
        assert "database space exceeded" in member.etcdctl("put", "small", "1", check=False)
        member.etcdctl("snapshot", "save", str(tmp_path / "backup.db"))
        status = json.loads(member.etcdctl("endpoint", "status", "-w", "json"))[0]["Status"]
        revision = status["header"]["revision"]
        assert member.etcdctl("compact", str(revision), "--physical") == f"compacted revision {revision}\n"
        assert member.etcdctl("defrag") == f"Finished defragmenting etcd member[{member.client_url}]\n"
        assert json.loads(member.etcdctl("endpoint", "status", "-w", "json"))[0]["Status"]["dbSize"] < 150_000
        # Room alone is not enough: the alarm stands until somebody says so.
        assert "database space exceeded" in member.etcdctl("put", "small", "1", check=False)
        disarmed = json.loads(member.etcdctl("alarm", "disarm", "-w", "json"))
        assert [alarm["alarm"] for alarm in disarmed["alarms"]] == [1]
        assert member.etcdctl("put", "small", "1") == "OK\n"
        assert member.etcdctl("alarm", "list") == ""
        assert member.get("/health")["health"] == "true"


def test_a_negative_quota_is_none(tmp_path: Path) -> None:
    with start(balsad(), tmp_path / "data", "--quota-backend-bytes=-1") as member:
        assert member.etcdctl("put", "a", "1") == "OK\n"
        assert "etcd_server_quota_backend_bytes -1" not in member.logs()


# Where a member cannot start


def try_to_start(who: Program, data_dir: Path, *flags: str, seconds: float = 20) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and the log of a server that ends by itself."""
    client, peer = HeldPort(), HeldPort()
    peer_url = f"http://127.0.0.1:{peer.number}"
    client_url = f"http://127.0.0.1:{client.number}"
    command = [
        *who.command,
        f"--data-dir={data_dir}",
        f"--listen-client-urls={client_url}",
        f"--advertise-client-urls={client_url}",
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster=default={peer_url}",
        *flags,
    ]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=clean_environment(),
        timeout=seconds,
        check=False,
    )
    client.release()
    peer.release()
    text = (done.stdout + done.stderr).decode()
    if who.name == "balsad":
        assert "Traceback" not in text
        assert "stacktrace" not in text
    lines = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    return done.returncode, lines


def last_words(lines: list[dict[str, Any]]) -> str:
    """The one line that says why it ended."""
    fatal = [line for line in lines if line["level"] in ("fatal", "panic")]
    assert len(fatal) == 1, lines
    return str(fatal[0]["error"])


@pytest.fixture
def listening() -> Iterator[int]:
    """A port where somebody listens."""
    with socket.socket() as somebody:
        somebody.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        yield somebody.getsockname()[1]


@pytest.mark.parametrize("flag", ["client", "peer"])
def test_a_port_in_use(tmp_path: Path, listening: int, flag: str) -> None:
    """Told before anything is written."""
    url = f"--listen-{flag}-urls=http://127.0.0.1:{listening}"
    words = []
    for name, who in (("ours", balsad()), ("theirs", real())):
        code, lines = try_to_start(who, tmp_path / name, url)
        assert code == 1
        assert not (tmp_path / name).exists()
        words.append(last_words(lines))

    assert words[0] == words[1] == f"listen tcp 127.0.0.1:{listening}: bind: address already in use"


@pytest.mark.parametrize("holder", ["balsad", "real"])
def test_a_data_dir_in_use(tmp_path: Path, holder: str) -> None:
    """The real etcd waits for ever for the lock of the db; balsad says who has what, so that somebody can act."""
    with start(program(holder), tmp_path / "data") as member:
        assert member.etcdctl("put", "a", "1") == "OK\n"

        code, lines = try_to_start(balsad(), tmp_path / "data")

        assert code == 1
        db = tmp_path / "data/member/snap/db"
        assert last_words(lines) == f"{db}: cannot lock the database file: another process is using it"
        assert member.etcdctl("put", "b", "1") == "OK\n"
    with start(program(holder), tmp_path / "data", like=member) as member:
        assert member.etcdctl("get", "", "--prefix", "--keys-only").split() == ["a", "b"]


def test_a_data_dir_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    for who in (balsad(), real()):
        code, lines = try_to_start(who, path)
        assert code == 1
        assert "not a directory" in last_words(lines)
        assert any("failed to list data directory" in str(line) for line in lines)
    assert path.read_text() == "mine"


def foreign_db(folder: Path) -> None:
    (folder / "member/snap").mkdir(parents=True)
    (folder / "member/snap/db").write_text("hello" * 5000)


def db_folder(folder: Path) -> None:
    (folder / "member/snap/db").mkdir(parents=True)


def foreign_wal(folder: Path) -> None:
    (folder / "member/wal").mkdir(parents=True)
    (folder / "member/wal/hello.wal").write_text("hello")


def wal_file(folder: Path) -> None:
    (folder / "member").mkdir(parents=True)
    (folder / "member/wal").write_text("hello")


def proxy(folder: Path) -> None:
    (folder / "proxy").mkdir(parents=True)
    (folder / "member").mkdir(parents=True)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (foreign_db, "member/snap/db"),
        (db_folder, "member/snap/db"),
        (foreign_wal, "member/wal"),
        (wal_file, "member/wal"),
        (proxy, "invalid datadir"),
    ],
)
def test_foreign_files_in_the_places_of_ours(tmp_path: Path, make: Callable[[Path], None], names: str) -> None:
    """One line names the path; nothing there is changed."""
    data = tmp_path / "data"
    make(data)
    before = contents(data)

    code, lines = try_to_start(balsad(), data)

    assert code == 1
    assert names in last_words(lines)
    after = contents(data)
    assert {path: content for path, content in after.items() if path in before} == before


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_foreign_files_beside_ours_are_only_mentioned(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "member/snap").mkdir(parents=True)
    for path in ("lost+found", "member/readme", "member/snap/x.txt", "member/snap/zz.snap"):
        (data / path).write_text("mine")
    with start(balsad(), data) as member:
        assert '"filename":"lost+found"' in member.logs()
        assert member.etcdctl("put", "a", "1") == "OK\n"
    for path in ("lost+found", "member/readme", "member/snap/x.txt"):
        assert (data / path).read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("folder", ["", "member", "member/wal", "member/snap"])
def test_folders_without_permission(tmp_path: Path, folder: str) -> None:
    data = tmp_path / "data"
    (data / "member/wal").mkdir(parents=True)
    (data / "member/snap").mkdir(parents=True)
    (data / folder).chmod(0o500)
    try:
        code, lines = try_to_start(balsad(), data)
    finally:
        (data / folder).chmod(0o700)

    assert code == 1
    assert "permission denied" in last_words(lines)


def test_a_wal_dir_elsewhere(tmp_path: Path) -> None:
    """The real etcd goes on from it, and back; a wal-dir without the log is not taken for a new member's."""
    data, wal = tmp_path / "data", tmp_path / "wal"
    like = None
    for number, who in enumerate((balsad(), real(), balsad())):
        with start(who, data, f"--wal-dir={wal}", like=like) as like:
            assert like.etcdctl("put", f"k{number}", "1") == "OK\n"
            assert like.etcdctl("get", "", "--prefix", "--keys-only").split() == [f"k{k}" for k in range(number + 1)]
    assert not (data / "member/wal").exists()
    before = contents(data)

    code, lines = try_to_start(balsad(), data)

    assert code == 1
    assert f"{data}/member/wal has no log" in last_words(lines)
    assert contents(data) == before
    shutil.rmtree(wal)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--initial-cluster=other=http://127.0.0.1:1"], "in the initial cluster configuration"),
        (["--initial-cluster=default=nonsense"], "URL"),
        (["--auto-compaction-mode=never"], "never"),
        (["--listen-client-urls=http://no.such.host.invalid:1"], ""),
        (["--no-such-flag"], ""),
        (["--config-file=/no/such/file"], "no such file"),
    ],
)
def test_flags_that_cannot_be(tmp_path: Path, flags: list[str], reason: str) -> None:
    """Both refuse, neither with exit code 0, and nothing is written."""
    for name, who in (("ours", balsad()), ("theirs", real())):
        code, lines = try_to_start(who, tmp_path / name, *flags)
        assert code != 0, (name, lines)
        assert not (tmp_path / name / "member/wal").exists()
        if name == "ours" and reason:
            assert reason in str(lines), lines


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--cert-file=/no/cert", "--key-file=/no/key"], "open /no/cert: no such file or directory"),
        (["--cert-file=/no/cert"], "KeyFile and CertFile must both be present[key: , cert: /no/cert]"),
        (["--cert-file=JUNK", "--key-file=JUNK"], "tls: failed to find any PEM data in certificate input"),
        (["--auto-tls", "--self-signed-cert-validity=0"], "selfSignedCertValidity is invalid"),
        (["--auth-token=jwt,pub-key=/no/key,sign-method=RS256"], "auth: invalid auth options"),
    ],
)
def test_certificates_that_cannot_serve_are_told_by_their_files(tmp_path: Path, flags: list[str], said: str) -> None:
    """At an https URL nobody starts, and the last line is the same; at an http one both start without them."""
    junk = tmp_path / "junk.pem"
    junk.write_text("nothing")
    flags = [flag.replace("JUNK", str(junk)) for flag in flags]
    last = []
    for name, who in (("ours", balsad()), ("theirs", real())):
        url = f"https://127.0.0.1:{HeldPort().number}"
        urls = [] if "auth-token" in flags[0] else [f"--listen-client-urls={url}", f"--advertise-client-urls={url}"]
        code, lines = try_to_start(who, tmp_path / name, *urls, *flags)
        assert code == 1, (name, lines)
        last.append(lines[-1])
        assert last[-1]["level"] == "fatal"
        assert said in str(last[-1]["error"])
        assert ("problem loading JWT options" in str(lines)) == ("auth-token" in flags[0]), (name, lines)
    assert last[0]["msg"] == last[1]["msg"]


def test_certificates_are_not_needed_where_nothing_is_secure(tmp_path: Path) -> None:
    warned = "scheme is HTTP while key and cert files are present; ignoring key and cert files"
    for name, who in (("ours", balsad()), ("theirs", real())):
        with start(who, tmp_path / name, "--cert-file=/no/cert", "--key-file=/no/key", "--client-cert-auth") as member:
            assert member.etcdctl("put", "a", "1").strip() == "OK"
            assert warned in member.logs()
            assert "scheme is HTTP while --client-cert-auth is enabled" in member.logs()
