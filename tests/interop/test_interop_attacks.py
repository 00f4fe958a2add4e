"""A running member under attack by raw bytes: it serves others meanwhile, and its memory stays bounded."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from struct import pack

import grpc
import pytest

from balsad.proto import rpc_pb2 as rpc
from tests.interop.servers import Member, balsad, start
from tests.interop.v3 import connect
from tests.unit.transport.wire_kit import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    RST,
    SETTINGS,
    frame,
    message,
    request_fields,
    settings,
    stateless_block,
    window_update,
)

pytestmark = [pytest.mark.real]

HELLO = PREFACE + settings((1, 0)) + frame(SETTINGS, ACK, 0)
GENEROUS = PREFACE + settings((4, (1 << 31) - 1)) + window_update(0, (1 << 31) - 1 - 65535)
ATTACK_S = 1.5


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    with start(balsad(), tmp_path_factory.mktemp("attacks") / "data") as member, connect(member.address) as client:
        client.put(b"big", bytes(1 << 20))
        for first in range(0, 5000, 100):
            puts = [
                rpc.RequestOp(request_put=rpc.PutRequest(key=b"h%05d" % number, value=b"v" * 50))
                for number in range(first, first + 100)
            ]
            client.txn(rpc.TxnRequest(success=puts))
        yield member


def resident_mb(member: Member) -> int:
    text = Path(f"/proc/{member.process.pid}/status").read_text()
    return next(int(line.split()[1]) >> 10 for line in text.splitlines() if line.startswith("VmRSS"))


class Bystander(threading.Thread):
    """Puts and reads on, one after the other, as others do during an attack."""

    def __init__(self, member: Member) -> None:
        super().__init__(daemon=True)
        self.served = 0
        self.failure: grpc.RpcError | None = None
        self._address = member.address
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        try:
            with connect(self._address) as client:
                while not self._over.is_set():
                    client.put(b"bystander", b"1")
                    assert client.range(b"bystander").count == 1
                    self.served += 1
        except grpc.RpcError as error:
            self.failure = error

    def stop(self) -> None:
        self._over.set()
        self.join(20)
        assert self.failure is None, self.failure
        assert self.served > 0


def dial(member: Member, hello: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", member.client_port.number))
    sock.sendall(hello)
    sock.setblocking(False)
    return sock


def pour(sock: socket.socket, data: bytes, *, reads: bool = True, seconds: float = ATTACK_S) -> bool:
    """Send it over and over; whether the server hung up."""
    until = time.monotonic() + seconds
    pos = 0
    while time.monotonic() < until:
        try:
            if reads and not sock.recv(1 << 20):
                return True
        except BlockingIOError:
            pass
        except OSError:
            return True
        try:
            pos += sock.send(data[pos : pos + 65536])
            if pos >= len(data):
                pos = 0
        except BlockingIOError:
            time.sleep(0.002)
        except OSError:
            return True
    return False


def opened(path: str, stream_id: int = 1) -> bytes:
    return frame(HEADERS, END_HEADERS, stream_id, stateless_block(request_fields(f"/etcdserverpb.{path}")))


def calls(path: str, request: bytes, count: int = 2000) -> bytes:
    return b"".join(
        [
            opened(path, 2 * number + 1) + frame(DATA, END_STREAM, 2 * number + 1, message(request))
            for number in range(count)
        ]
    )


CREATE = message(rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"a")).SerializeToString())
ONE_BIG = rpc.RangeRequest(key=b"big").SerializeToString()
ALL = rpc.RangeRequest(key=b"h", range_end=b"i").SerializeToString()
ALL_SORTED = rpc.RangeRequest(key=b"h", range_end=b"i", limit=1, sort_order=2, sort_target=4).SerializeToString()
RESETS = b"".join(
    [
        opened("Watch/Watch", 2 * number + 1)
        + frame(DATA, 0, 2 * number + 1, CREATE)
        + frame(RST, 0, 2 * number + 1, pack(">I", 8))
        for number in range(20_000)
    ]
)

HUNG_UP_ON = {
    "rapid reset": (HELLO, RESETS),
    "pings": (HELLO, frame(PING, 0, 0, b"12345678") * 1000),
    "settings": (HELLO, settings((4, 100)) * 1000),
    "continuation": (HELLO + frame(HEADERS, 0, 1, b"\x82"), frame(CONTINUATION, 0, 1, b"x" * 16_384) * 10),
    "empty continuation": (HELLO + frame(HEADERS, 0, 1, b"\x82"), frame(CONTINUATION, 0, 1) * 1000),
    "empty data": (HELLO + opened("Watch/Watch"), frame(DATA, 0, 1) * 1000),
    "header list": (HELLO + frame(HEADERS, END_HEADERS, 1, b"\x90" * 10_000), b""),
    "idle streams": (HELLO, b"".join([opened("Watch/Watch", 2 * number + 1) for number in range(60_000)])),
    "a head without end": (b"GET / HTTP/1.1\r\nfoo: ", b"x" * 65_536),
    "a request line without end": (b"", b"x" * 65_536),
}


@pytest.mark.parametrize("name", HUNG_UP_ON)
def test_attackers_are_hung_up_on(member: Member, name: str) -> None:
    hello, data = HUNG_UP_ON[name]
    before = resident_mb(member)
    bystander = Bystander(member)
    with dial(member, hello) as sock:
        assert pour(sock, data or b"\0", seconds=10)
    bystander.stop()
    assert resident_mb(member) - before < 100


GO_ON = {
    "readers of large answers": (GENEROUS, calls("KV/Range", ONE_BIG), False),
    "readers with closed windows": (PREFACE + settings((4, 0)), calls("KV/Range", ALL_SORTED), False),
    "costly ranges": (GENEROUS, calls("KV/Range", ALL), True),
    "costly ranges with small answers": (GENEROUS, calls("KV/Range", ALL_SORTED), True),
    "watchers without end": (GENEROUS + opened("Watch/Watch"), frame(DATA, 0, 1, CREATE * 500), False),
    "messages begun": (
        HELLO,
        b"".join(
            [
                opened("KV/Put", 2 * number + 1)
                + frame(DATA, 0, 2 * number + 1, pack(">BI", 0, 2_000_000) + bytes(16_000))
                for number in range(2000)
            ]
        ),
        True,
    ),
    "requests in a row": (b"", b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n" * 2000, True),
}


@pytest.mark.parametrize("name", GO_ON)
def test_others_are_served_beside_those_who_ask_too_much(member: Member, name: str) -> None:
    """Ten of each at a time."""
    hello, data, reads = GO_ON[name]
    before = resident_mb(member)
    bystander = Bystander(member)
    crowd = [dial(member, hello) for _ in range(10)]
    threads = [threading.Thread(target=pour, args=(sock, data), kwargs={"reads": reads}) for sock in crowd]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    grown = resident_mb(member) - before
    for sock in crowd:
        sock.close()
    bystander.stop()
    assert grown < 450


@pytest.mark.parametrize(
    "hello", [b"", PREFACE[:10], PREFACE, HELLO, b"GET / HTTP/1.1\r\nfoo: " + bytes(1000), b"\x16\x03\x01"]
)
def test_a_thousand_who_say_little(member: Member, hello: bytes) -> None:
    before = resident_mb(member)
    crowd = [dial(member, hello) for _ in range(1000)]
    bystander = Bystander(member)
    time.sleep(0.3)
    bystander.stop()
    assert resident_mb(member) - before < 60
    for sock in crowd:
        sock.close()


def test_watchers_who_never_read(member: Member) -> None:
    create = message(rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"flood")).SerializeToString())
    before = resident_mb(member)
    crowd = [dial(member, HELLO + opened("Watch/Watch") + frame(DATA, 0, 1, create)) for _ in range(10)]
    with connect(member.address) as client:
        for _ in range(300):
            client.put(b"flood", bytes(100_000))
    assert resident_mb(member) - before < 250
    for sock in crowd:
        sock.close()


def test_a_message_too_large_is_told_from_its_first_bytes(member: Member) -> None:
    with dial(member, HELLO + opened("KV/Put") + frame(DATA, 0, 1, pack(">BI", 0, 0xFFFFFFFF))) as sock:
        sock.settimeout(10)
        told = b""
        while b"larger than max" not in told:
            piece = sock.recv(65536)
            assert piece
            told += piece
    assert b"grpc: received message larger than max (4294967295 vs. 2097152)" in told
