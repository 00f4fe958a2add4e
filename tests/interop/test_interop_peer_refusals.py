"""The peer port beside etcd's: the same requests, also senseless ones, get the same answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from balsad.errors import FutureRevError, LeaseNotFoundError, MemberNotFoundError
from balsad.membership import decode_members
from balsad.peer.codec import frame_message
from balsad.proto import lease_pb2, rpc_pb2
from balsad.raft import Message, MessageType, Snapshot
from balsad.raft.codec import encode_message
from tests.interop.servers import Member, fetch, real, start
from tests.unit.peer.peer_kit import End, end

pytestmark = pytest.mark.real

ANSWER_S = 3.0


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    with start(real(), tmp_path_factory.mktemp("refusals") / "data") as member:
        yield member


class Facts:
    """What requests are made of."""

    def __init__(self, etcd: Member) -> None:
        _, body, headers = fetch(etcd.peer_url + "/members")
        (member,) = decode_members(body)
        self.members_body = body
        self.member = member
        self.cluster_id = int(headers["X-Etcd-Cluster-Id"], 16)
        self.greeting = {
            "X-Etcd-Cluster-Id": f"{self.cluster_id:x}",
            "X-Min-Cluster-Version": "3.0.0",
            "X-Server-From": "77",
            "X-Server-Version": "3.5.1",
        }


def raw(method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


def requests(facts: Facts) -> dict[str, bytes]:
    greeting = facts.greeting
    me = f"{facts.member.id:x}"
    message = encode_message(Message(MessageType.HEARTBEAT, to=facts.member.id, from_=0x77, term=1))
    snapshot = frame_message(Message(MessageType.SNAP, to=1, from_=0x77, snapshot=Snapshot(5, 1)))
    keep_alive = rpc_pb2.LeaseKeepAliveRequest(ID=12345).SerializeToString()
    times = lease_pb2.LeaseInternalRequest(
        LeaseTimeToLiveRequest=rpc_pb2.LeaseTimeToLiveRequest(ID=12345)
    ).SerializeToString()
    other = {**greeting, "X-Etcd-Cluster-Id": "1"}
    return {
        "unknown path": raw("GET", "/nothing"),
        "folder of members": raw("GET", "/members/"),
        "members": raw("GET", "/members"),
        "members with a query": raw("GET", "/members?a=b"),
        "members by POST": raw("POST", "/members", body=b""),
        "members by HEAD": raw("HEAD", "/members"),
        "version": raw("GET", "/version"),
        "version by PUT": raw("PUT", "/version", body=b"x"),
        "downgrade": raw("GET", "/downgrade/enabled"),
        "downgrade by POST": raw("POST", "/downgrade/enabled", body=b""),
        "promote by GET": raw("GET", "/members/promote/1"),
        "promote nobody": raw("POST", "/members/promote/x1", body=b""),
        "promote too large": raw("POST", "/members/promote/99999999999999999999999", body=b""),
        "promote unknown": raw("POST", "/members/promote/12", body=b""),
        "hashkv by POST": raw("POST", "/members/hashkv", body=b"{}"),
        "hashkv without body": raw("GET", "/members/hashkv"),
        "hashkv nonsense": raw("GET", "/members/hashkv", body=b"[1]"),
        "hashkv text": raw("GET", "/members/hashkv", body=b'{"revision":"1"}'),
        "hashkv future": raw("GET", "/members/hashkv", body=b'{"Revision":99}'),
        "lease by GET": raw("GET", "/leases"),
        "lease nonsense": raw("POST", "/leases", body=b"\x07"),
        "lease unknown": raw("POST", "/leases", body=keep_alive),
        "lease times by PUT": raw("PUT", "/leases/internal", body=b""),
        "lease times nonsense": raw("POST", "/leases/internal", body=b"\x0a\x05"),
        "lease times unknown": raw("POST", "/leases/internal", body=times),
        "raft by GET": raw("GET", "/raft", greeting),
        "raft without greeting": raw("POST", "/raft", body=message),
        "raft of another cluster": raw("POST", "/raft", other, message),
        "raft of an old member": raw("POST", "/raft", {**greeting, "X-Server-Version": "2.3.8"}, message),
        "raft of a far newer member": raw("POST", "/raft", {**greeting, "X-Min-Cluster-Version": "3.6.0"}, message),
        "raft of a strange member": raw("POST", "/raft", {**greeting, "X-Server-Version": "new"}, message),
        "raft nonsense": raw("POST", "/raft", greeting, b"\x07garbage"),
        "raft message": raw("POST", "/raft", greeting, message),
        "raft below": raw("GET", "/raft/other", greeting),
        "stream by POST": raw("POST", "/raft/stream/message/77", greeting, b""),
        "stream without greeting": raw("GET", "/raft/stream/message/77"),
        "stream of another cluster": raw("GET", "/raft/stream/msgapp/77", other),
        "stream of another kind": raw("GET", "/raft/stream/other/77", greeting),
        "stream of no member": raw("GET", "/raft/stream/message/zz", greeting),
        "stream of nobody": raw("GET", "/raft/stream/message/", greeting),
        "stream of a stranger": raw("GET", "/raft/stream/message/77", {**greeting, "X-Raft-To": me}),
        "stream far below": raw("GET", "/raft/stream/message/77/78", greeting),
        "snapshot by GET": raw("GET", "/raft/snapshot", greeting),
        "snapshot without greeting": raw("POST", "/raft/snapshot", body=snapshot),
        "snapshot of another cluster": raw("POST", "/raft/snapshot", other, snapshot),
        "snapshot empty": raw("POST", "/raft/snapshot", greeting, b""),
        "snapshot short": raw("POST", "/raft/snapshot", greeting, b"\0\0\0"),
        "snapshot cut": raw("POST", "/raft/snapshot", greeting, b"\0\0\0\0\0\0\0\x09\x08\x07"),
        "snapshot of a heartbeat": raw("POST", "/raft/snapshot", greeting, len(message).to_bytes(8, "big") + message),
        "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50) + b"\n",
        "no HTTP version": b"GET /members\r\n\r\n",
        "no host": b"GET /members HTTP/1.1\r\n\r\n",
        "header without colon": b"GET /members HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n",
        "bad length": b"POST /raft HTTP/1.1\r\nHost: x\r\nContent-Length: -4\r\n\r\n",
        "close": raw("GET", "/version", {"Connection": "close"}),
        "old protocol": b"GET /version HTTP/1.0\r\n\r\n",
    }


async def ask(host: str, port: int, request: bytes) -> bytes:
    """All that comes back until the server closes or falls silent."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    received = b""
    try:
        while True:
            async with asyncio.timeout(ANSWER_S if not received else 0.8):
                data = await reader.read(1 << 16)
            if not data:
                received += b"<EOF>"
                break
            received += data
    except TimeoutError:
        pass
    except ConnectionError:
        received += b"<EOF>"
    writer.close()
    return received


def comparable(answer: bytes) -> list[str]:
    """The lines of an answer without its date. When the connection ends counts only if nothing came before."""
    if answer != b"<EOF>":
        answer = answer.removesuffix(b"<EOF>")
    return [line for line in answer.decode("latin-1").split("\r\n") if not line.startswith("Date: ")]


async def both(etcd: Member, ours: End, request: bytes) -> tuple[list[str], list[str]]:
    host, port = ours.listener.addresses[0]
    theirs, mine = await asyncio.gather(
        ask("127.0.0.1", etcd.peer_port.number, request), ask(str(host), int(port), request)
    )
    return comparable(theirs), comparable(mine)


def failure_of(name: str) -> Exception | None:
    """What the member behind our port says to this request."""
    if "future" in name:
        return FutureRevError()
    if "lease" in name:
        return LeaseNotFoundError()
    return MemberNotFoundError() if "promote" in name else None


def test_the_same_requests_get_the_same_answers(etcd: Member, tmp_path: Path) -> None:
    facts = Facts(etcd)

    async def work() -> dict[str, tuple[list[str], list[str]]]:
        different: dict[str, tuple[list[str], list[str]]] = {}
        async with end(facts.member.id, tmp_path / "ours", cluster_id=facts.cluster_id) as ours:
            ours.pages.known = [facts.member]
            ours.pages.cluster_version = "3.5.0"
            every = requests(facts)
            kinds = {name: failure_of(name) for name in every}
            for kind in {type(failure) for failure in kinds.values()}:
                names = [name for name in every if type(kinds[name]) is kind]
                ours.pages.failure = kinds[names[0]]
                answers = await asyncio.gather(*(both(etcd, ours, every[name]) for name in names))
                for name, (theirs, mine) in zip(names, answers, strict=True):
                    if theirs != mine:
                        different[name] = (theirs, mine)
            assert [message.type for message in ours.inbox.messages] == [MessageType.HEARTBEAT]
            assert list((tmp_path / "ours").iterdir()) == []
        return different

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        different = runner.run(work())
    assert not different, "\n".join(
        f"{name}:\n  etcd {theirs}\n  ours {mine}" for name, (theirs, mine) in different.items()
    )
