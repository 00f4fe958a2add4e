"""Watchers who do not read, while large values are put: the member's memory stays bounded, others are told at once, and
who reads after all is told everything, in order.

The real etcd runs through the same, but for the bound: it holds less of HTTP/2 and more of JSON.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from balsad.proto import rpc_pb2 as rpc
from tests.interop.servers import Member, program, start
from tests.interop.test_interop_attacks import HELLO, dial, opened, resident_mb
from tests.interop.v3 import V3, connect
from tests.unit.transport.wire_kit import DATA, frame, message

pytestmark = [pytest.mark.real]

VALUE_SIZE = 100_000
# More than what the kernel keeps for a client that does not read, a few MB; v2 keeps a hundred events for a watcher.
PUTS = 90
CREATE = rpc.WatchCreateRequest(key=b"flood")
GRACE_MB = 250


def value(number: int) -> bytes:
    return b"%08d" % number * (VALUE_SIZE // 8)


class Lines:
    """An HTTP answer that has begun, of which nothing is read before `events`."""

    def __init__(self, member: Member, method: str, path: str, body: bytes | None = None) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", member.client_port.number, timeout=60)
        self.connection.connect()
        self.connection.request(method, path, body)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200

    def __iter__(self) -> Iterator[Any]:
        while line := self.answer.readline():
            yield json.loads(line)

    def close(self) -> None:
        self.answer.close()
        self.connection.close()


def gateway(member: Member) -> Lines:
    lines = Lines(member, "POST", "/v3/watch", b'{"create_request": {"key": "Zmxvb2Q="}}')
    assert next(iter(lines))["result"]["created"]
    return lines


def gateway_numbers(lines: Lines) -> Iterator[int]:
    for line in lines:
        for event in line["result"].get("events", ()):
            yield int(b64decode(event["kv"]["value"])[:8])


def v2(member: Member) -> Lines:
    return Lines(member, "GET", "/v2/keys/flood?wait=true&stream=true")


def v2_numbers(lines: Lines) -> Iterator[int]:
    for line in lines:
        yield int(line["node"]["value"][:8])


def put_v3(member: Member, client: V3, number: int) -> None:
    client.put(b"flood", value(number))


def put_v2(member: Member, client: V3, number: int) -> None:
    body = urlencode({"value": value(number)}).encode()
    assert member.http("PUT", "/v2/keys/flood", body, {"Content-Type": "application/x-www-form-urlencoded"})[0] < 300


def flood(member: Member, client: V3, put: Callable[[Member, V3, int], None]) -> int:
    """MB by which the member's memory grew at most."""
    before = resident_mb(member)
    most = 0
    for number in range(PUTS):
        put(member, client, number)
        most = max(most, resident_mb(member) - before)
    return most


@pytest.mark.parametrize("name", ["balsad", "real"])
@pytest.mark.parametrize("shape", ["connections", "streams", "watches"])
def test_grpc(tmp_path: Path, name: str, shape: str) -> None:
    """A hundred connections, a hundred streams of one connection, a hundred watches of one stream."""
    create = frame(DATA, 0, 1, message(rpc.WatchRequest(create_request=CREATE).SerializeToString()))
    with start(program(name), tmp_path / "data") as member, ExitStack() as held:
        client = held.enter_context(connect(member.address))
        crowd: list[socket.socket] = []
        if shape == "connections":
            crowd += [dial(member, HELLO + opened("Watch/Watch") + create) for _ in range(100)]
        elif shape == "streams":
            watches = [
                opened("Watch/Watch", number) + create.replace(b"\0\0\0\x01", number.to_bytes(4, "big"), 1)
                for number in range(1, 200, 2)
            ]
            crowd.append(dial(member, HELLO + b"".join(watches)))
        else:
            crowd.append(dial(member, HELLO + opened("Watch/Watch") + create * 100))
        late = [held.enter_context(connect(member.address)).watch(CREATE) for _ in range(3)]
        quick = held.enter_context(connect(member.address)).watch(CREATE)
        for watch in (*late, quick):
            assert watch.next().created

        def put(member: Member, client: V3, number: int) -> None:
            client.put(b"flood", value(number))
            (event,) = quick.next().events
            assert event.kv.value == value(number)

        grown = flood(member, client, put)
        for watch in late:
            told: list[bytes] = []
            while len(told) < PUTS:
                told += [event.kv.value for event in watch.next().events]
            assert told == [value(number) for number in range(PUTS)]
        assert name == "real" or grown < GRACE_MB
        for sock in crowd:
            sock.close()


@pytest.mark.parametrize("name", ["balsad", "real"])
@pytest.mark.parametrize(
    ("watch", "numbers", "put", "flags"),
    [(gateway, gateway_numbers, put_v3, ()), (v2, v2_numbers, put_v2, ("--enable-v2",))],
    ids=["gateway", "v2"],
)
def test_http(
    tmp_path: Path,
    name: str,
    watch: Callable[[Member], Lines],
    numbers: Callable[[Lines], Iterator[int]],
    put: Callable[[Member, V3, int], None],
    flags: tuple[str, ...],
) -> None:
    """Forty clients of the JSON gateway's watch, or of v2's."""
    with start(program(name), tmp_path / "data", *flags) as member, connect(member.address) as client:
        crowd = [watch(member) for _ in range(40)]
        quick = numbers(watch(member))

        def put_and_hear(member: Member, client: V3, number: int) -> None:
            put(member, client, number)
            assert next(quick) == number

        grown = flood(member, client, put_and_hear)
        for lines in crowd[:3]:
            told = numbers(lines)
            assert [next(told) for _ in range(PUTS)] == list(range(PUTS))
        assert name == "real" or grown < GRACE_MB
        for lines in crowd:
            lines.close()


PAST = 150
PAST_VALUE_SIZE = 10_000
# A megabyte each would be 700 MB.
PAST_CROWD = {("balsad", "grpc"): 700, ("balsad", "gateway"): 200, ("real", "grpc"): 50, ("real", "gateway"): 50}
PAST_GRACE_MB = 450


@pytest.mark.parametrize("kind", ["grpc", "gateway"])
@pytest.mark.parametrize("name", ["balsad", "real"])
def test_the_past(tmp_path: Path, name: str, kind: str) -> None:
    """Many who ask for all that ever happened and read none of it: it is not copied for each; nobody is turned away."""
    create = rpc.WatchCreateRequest(key=b"flood", start_revision=1)
    if kind == "grpc":
        asked = rpc.WatchRequest(create_request=create).SerializeToString()
        hello = HELLO + opened("Watch/Watch") + frame(DATA, 0, 1, message(asked))
    else:
        body = b'{"create_request": {"key": "Zmxvb2Q=", "start_revision": "1"}}'
        hello = b"POST /v3/watch HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with start(program(name), tmp_path / "data") as member, ExitStack() as held:
        client = held.enter_context(connect(member.address))
        values = [b"%08d" % number + bytes(PAST_VALUE_SIZE) for number in range(PAST)]
        for one in values:
            client.put(b"flood", one)
        before = resident_mb(member)
        crowd = [dial(member, hello) for _ in range(PAST_CROWD[name, kind])]
        late = held.enter_context(connect(member.address)).watch(create)
        told: list[bytes] = []
        most = 0
        while len(told) < PAST:
            told += [event.kv.value for event in late.next().events]
            most = max(most, resident_mb(member) - before)
        assert told == values
        for number in range(40):
            client.put(b"flood", b"%d" % number)
            while told[-1] != b"%d" % number:
                told += [event.kv.value for event in late.next().events]
            most = max(most, resident_mb(member) - before)
            time.sleep(0.05)
        assert len(told) == PAST + 40
        assert name == "real" or most < PAST_GRACE_MB
        for sock in crowd:
            sock.settimeout(30)
            assert sock.recv(1 << 16)
            sock.close()
