"""Answers go to the socket at once, and in order when it is full."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import cast

import pytest

from balsad.transport.plain_sink import PlainSink, sink_of
from tests.unit.transport.running_server import Running
from tests.unit.transport.test_transport_sockets import echo


class FakeTransport:
    """Keeps what is written, as the event loop's does until its callbacks have run."""

    def __init__(self, extra: dict[str, object]) -> None:
        self.extra = extra
        self.queued = b""

    def get_extra_info(self, name: str) -> object:
        return self.extra.get(name)

    def get_write_buffer_size(self) -> int:
        return len(self.queued)

    def write(self, data: bytes) -> None:
        self.queued += data

    def writelines(self, pieces: list[bytes | memoryview]) -> None:
        self.queued += b"".join(pieces)


def transport(**extra: object) -> FakeTransport:
    return FakeTransport(extra)


def real(fake: FakeTransport) -> asyncio.Transport:
    return cast(asyncio.Transport, fake)


def test_what_the_socket_takes_it_gets_now_and_the_rest_follows_in_order() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        queue = transport()
        sink = PlainSink(real(queue), ours.fileno())
        sink.write(b"first ")
        assert theirs.recv(100) == b"first "
        assert queue.queued == b""

        sent = os.urandom(4 << 20)
        sink.write(sent)
        assert 0 < len(queue.queued) < len(sent)
        sink.write(b"last")  # the socket may have room again, but others come first

        received = b""
        theirs.settimeout(0.2)
        while len(received) + len(queue.queued) < len(sent) + 4:
            received += theirs.recv(1 << 20)
        assert received + queue.queued == sent + b"last"


@pytest.mark.parametrize("sizes", [[7, 4 << 20, 9], [1 << 20] * 5, [3000] * 2000, [1] * 3000, [0, 5, 0]])
def test_pieces_arrive_in_order_wherever_the_socket_is_full(sizes: list[int]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        queue = transport()
        sink = PlainSink(real(queue), ours.fileno())
        pieces = [memoryview(os.urandom(size)) if number % 2 else os.urandom(size) for number, size in enumerate(sizes)]
        sent = b"".join(pieces)
        sink.write_pieces(pieces)
        if len(sent) < 1 << 17 and len(sizes) <= 1024:
            assert queue.queued == b""
        else:
            assert 0 < len(queue.queued) < len(sent)
            sink.write_pieces([b"la", b"st"])  # others come first
            sent += b"last"

        received = b""
        theirs.settimeout(0.2)
        while len(received) + len(queue.queued) < len(sent):
            received += theirs.recv(1 << 20)
        assert received + queue.queued == sent


def test_a_broken_socket_is_the_transports_to_deal_with() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        queue = transport()
        PlainSink(real(queue), ours.fileno()).write(b"answer")
        in_pieces = transport()
        PlainSink(real(in_pieces), ours.fileno()).write_pieces([b"in ", memoryview(b"pieces")])
    assert queue.queued == b"answer"
    assert in_pieces.queued == b"in pieces"


def test_who_encrypts_or_has_no_socket_writes_by_itself() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        plain, secure, simulated = transport(socket=ours), transport(socket=ours, sslcontext=object()), transport()
        assert isinstance(sink_of(real(plain)), PlainSink)
        assert sink_of(real(secure)) is secure
        assert sink_of(real(simulated)) is simulated


@pytest.mark.parametrize("use_uvloop", [True, False])
def test_answers_larger_than_the_sockets_buffer_arrive(use_uvloop: bool) -> None:
    with Running(use_uvloop=use_uvloop) as running:
        for size in (1, 3_000_000, 7):
            assert echo(running.port, b"many%d" % size) == b"m" * size
