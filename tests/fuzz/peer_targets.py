"""The peer port: what comes in as a member, in any bytes and cut anywhere; and answers of DNS."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final, cast

from balsad.dns_srv import SrvRecord, _answers, _in_order, _query, _records
from balsad.env import Env
from balsad.peer import PeerTransport, peer_server
from balsad.peer.http_server import PeerConnection
from balsad.raft.codec import encode_message
from balsad.raft.messages import ConfState, Entry, Message, Snapshot
from balsad.storage import Snapshotter
from tests.fuzz.codec_targets import message_values
from tests.fuzz.engine import Target
from tests.fuzz.wire_targets import pieces
from tests.unit.peer.peer_kit import Inbox, Pages
from tests.unit.server.server_kit import Clock, NoChance
from tests.unit.storage.bolt_disks import MappingDisk

_SNAP: Final = "/snap"
_STATUS: Final = re.compile(rb"^HTTP/1\.[01] (\d\d\d) ", re.MULTILINE)


class Socket:
    """asyncio's transport, of one who reads whatever comes."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else None

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


async def _visit(parts: list[bytes]) -> tuple[list[bytes], list[Any], list[str]]:
    """What is answered, what raft hears and what files are left, when this is sent to a member."""
    complaints: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(repr(context.get("exception", context["message"]))))
    disk, inbox = MappingDisk(), Inbox()
    disk.makedirs(_SNAP)
    env = Env(clock=Clock(), random=NoChance(), disk=disk)
    transport = PeerTransport(member_id=1, cluster_id=0xC1, urls=["http://127.0.0.1:1"], backend=inbox, env=env)
    # Nobody is called back, whatever is said of where he is.
    transport.add_remote = lambda member_id, urls: None  # type: ignore[method-assign]
    listener = peer_server(transport, Pages(), disk=disk, snapshotter=Snapshotter(disk, _SNAP))
    connection, socket = PeerConnection(listener), Socket()
    connection.connection_made(cast(asyncio.Transport, socket))
    for part in parts:
        if socket.is_closed:
            break
        connection.data_received(part)
    for _ in range(200):
        # A database that came whole is synced in a thread.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if not others:
            break
        await asyncio.wait(others, timeout=0.05)
    connection.connection_lost(None)
    transport.stop()
    listener.close()
    await transport.wait_closed()
    await listener.wait_closed(grace_s=0.0)
    assert not complaints, complaints
    assert not disk.open_files, "a file is left open"
    heard = [message_values(message) for message in inbox.messages]
    return _STATUS.findall(bytes(socket.written)), heard, disk.listdir(_SNAP)


def _check_port(data: bytes) -> str:
    whole, parts = pieces(data)
    statuses, heard, files = asyncio.run(_visit(parts))
    assert not [name for name in files if name.startswith("tmp-")], files
    together, heard_together, files_together = asyncio.run(_visit([whole] if whole else []))
    assert heard == heard_together
    assert files == files_together
    assert statuses == together, (statuses, together)
    good = any(status[:1] == b"2" for status in statuses)
    told = b" ".join(statuses[:6]).translate(bytes.maketrans(b"0123456789", b"abcdefghij")).decode()
    return f"{'' if good else 'refused: '}{told} {len(heard) > 0} {len(files) > 0}"


_GREETING: Final = (
    b"X-Etcd-Cluster-Id: c1\r\nX-Min-Cluster-Version: 3.0.0\r\nX-Server-From: 2\r\nX-Server-Version: 3.5.1\r\n"
)


def _post(path: bytes, body: bytes, more: bytes = b"") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: x\r\n%b%bContent-Length: %d\r\n\r\n%b" % (path, _GREETING, more, len(body), body)


def _get(path: bytes, more: bytes = b"") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: x\r\n%b%b\r\n" % (path, _GREETING, more)


def _visits() -> list[bytes]:
    append = encode_message(Message(3, to=1, from_=2, term=5, log_term=4, index=10, entries=[Entry(0, 5, 11, b"x")]))
    snapshot = Message(7, to=1, from_=2, term=5, snapshot=Snapshot(9, 5, ConfState((1, 2)), b"tree"))
    database = len(encode_message(snapshot)).to_bytes(8, "big") + encode_message(snapshot) + bytes(700)
    chunked = b"POST /raft HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + _GREETING + b"\r\n"
    chunked += b"%x\r\n%b\r\n0\r\n\r\n" % (len(append), append)
    ask = b"X-PeerURLs: http://127.0.0.1:1\r\n"
    sessions = [
        _post(b"/raft", append) + _get(b"/raft/probing"),
        _post(b"/raft", append, ask) * 2,
        chunked + _get(b"/version"),
        _post(b"/raft/snapshot", database) + _get(b"/members"),
        _get(b"/raft/probing") + _get(b"/raft/stream/msgapp/2", b"X-Raft-To: 1\r\n"),
        _get(b"/members") + _get(b"/raft/stream/message/2", b"X-Raft-To: 1\r\n" + ask),
        _get(b"/downgrade/enabled") + _post(b"/members/promote/2", b""),
        _post(b"/leases", b"\x08\x07") + _post(b"/leases/internal", b"\x0a\x04\x08\x07\x10\x01"),
        _get(b"/members/hashkv") + _get(b"/version") + b"GET /x HTTP/1.0\r\n\r\n",
    ]
    return [bytes((step,)) + session for session in sessions for step in (255, 40)]


_PORT_WORDS: Final = (
    *(b"\r\n", b"\r\n\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n"),
    *(b"X-Server-From: 1\r\n", b"X-Etcd-Cluster-Id: 2\r\n", b"X-Raft-To: 1\r\n", b"X-Server-Version: 9.9.9\r\n"),
    *(b"Connection: close\r\n", b"HTTP/1.0", b"ffffffffffffffff\r\n", bytes(8), b"\xff" * 8, b"PRI * HTTP/2.0\r\n\r\n"),
    *(_get(b"/raft/probing"), b"/raft", b"/raft/snapshot", b"?", b"%", b"POST ", b"GET "),
)

# DNS.

_NAME: Final = "_etcd-server._tcp.example.com."


def _dns_question() -> bytes:
    return b"\0\7" + _query(_NAME)[2:]


def _dns_answers() -> list[bytes]:
    question = _dns_question()[12:-11]

    def record(target: bytes, owner: bytes = b"\xc0\x0c") -> bytes:
        data = bytes((0, 10, 0, 5, 9, 76)) + target
        return owner + bytes((0, 33, 0, 1, 0, 0, 0, 60)) + len(data).to_bytes(2, "big") + data

    head = b"\0\7\x81\x80\0\1\0\2\0\0\0\0"
    targets = b"\1a\7example\3com\0", b"\1b\xc0\x1e"
    return [head + question + b"".join(record(target) for target in targets)]


def _check_dns(data: bytes) -> str:
    if not _answers(data, _dns_question()):
        return "refused: another question"
    try:
        records = _records(data)
    except IndexError as error:
        return f"refused: {error}"
    # However the dice fall, all of them come, by priority.
    for chance in (0, 1):
        ordered = _in_order(records, lambda stop, chance=chance: chance * (stop - 1))
        assert sorted(ordered, key=_order) == sorted(records, key=_order)
        assert [one.priority for one in ordered] == sorted(one.priority for one in records)
    assert all(len(one.target) < 9000 for one in records)
    return f"{min(len(records), 9)} {sum(len(one.target) for one in records).bit_length()} records"


def _order(record: SrvRecord) -> tuple[int, int, int, str]:
    return record.priority, record.weight, record.port, record.target


PEER: Final = (
    Target("peer_port", _check_port, _visits, _PORT_WORDS),
    Target("dns_answer", _check_dns, _dns_answers, (b"\xc0\x0c", b"\xc0\xff", b"\0", b"\xff", b"\0\x21\0\1", b"\1a")),
)
