"""Real sockets: ports, unix sockets, both protocols on one port, slow and silent clients, drain."""

from __future__ import annotations

import errno
import http.client
import socket
import threading
import time
from pathlib import Path
from struct import pack

import grpc
import pytest

from balsad.transport import Limits
from tests.unit.transport.running_server import Running, read_all, wait_for
from tests.unit.transport.wire_kit import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    frame,
    message,
    read_frames,
    request_fields,
    settings,
    stateless_block,
    window_update,
)

BLOCK = stateless_block(request_fields("/toy.Toy/Echo"))


def channel(target: str) -> grpc.Channel:
    return grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])


def echo(port: int, body: bytes) -> bytes:
    with channel(f"127.0.0.1:{port}") as one:
        answer: bytes = one.unary_unary("/toy.Toy/Echo")(body, timeout=10)
    return answer


@pytest.fixture(params=["uvloop", "asyncio"])
def use_uvloop(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "uvloop")


def test_both_protocols_on_one_port(use_uvloop: bool) -> None:
    with Running(use_uvloop=use_uvloop) as running:
        assert echo(running.port, b"grpc") == b"grpc"
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
        for path in ("/health", "/version"):
            connection.request("GET", path)
            assert connection.getresponse().read() == path.encode()
        connection.close()
        assert running.requests[0].peer_address.startswith("127.0.0.1:")
        wait_for(lambda: not running.server.connections)
        assert running.crashes == []


def test_first_bytes_in_drips() -> None:
    with Running() as running, running.connect() as sock:
        hello = PREFACE + settings() + frame(HEADERS, END_HEADERS, 1, BLOCK) + frame(DATA, END_STREAM, 1, message(b"x"))
        for index in range(len(hello)):
            sock.sendall(hello[index : index + 1])
        data = b""
        while b"grpc-status" not in data:
            data += sock.recv(65536)


def test_a_port_in_use() -> None:
    with Running() as running, pytest.raises(OSError) as caught:
        running.run(running.server.listen("127.0.0.1", running.port))
    assert caught.value.errno == errno.EADDRINUSE


def test_a_unix_socket(tmp_path: Path, use_uvloop: bool) -> None:
    path = str(tmp_path / "toy.sock")
    with Running(use_uvloop=use_uvloop) as running:
        listener = running.run(running.server.listen_unix(path))
        with channel(f"unix:{path}") as one:
            assert one.unary_unary("/toy.Toy/Echo")(b"x", timeout=10) == b"x"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
            sock.sendall(b"GET /u HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert read_all(sock).endswith(b"/u")
        running.soon(listener.close)


def test_a_socket_that_is_bound_already() -> None:
    with Running() as running:
        bound = socket.socket()
        bound.bind(("127.0.0.1", 0))
        listener = running.run(running.server.listen_bound(bound))
        assert echo(listener.port, b"x") == b"x"
        running.soon(listener.close)


def test_a_client_that_says_nothing_is_dropped_in_time(use_uvloop: bool) -> None:
    with (
        Running(limits=Limits(preface_timeout_s=0.2), use_uvloop=use_uvloop) as running,
        running.connect() as silent,
        running.connect() as half,
        running.connect() as late,
    ):
        half.sendall(PREFACE[:10])
        late.sendall(PREFACE)
        assert echo(running.port, b"x") == b"x"
        assert read_all(silent) == b""
        assert read_all(half) == b""
        assert [got.kind for got in read_frames(read_all(late))] == [4, 8]


def test_a_client_that_never_reads(use_uvloop: bool) -> None:
    """It asks for 640 MiB and takes nothing: the server holds little of it and serves others."""
    with Running(use_uvloop=use_uvloop) as running, running.connect() as sock:
        hello = PREFACE + settings((4, (1 << 31) - 1)) + window_update(0, (1 << 31) - 1 - 65535)
        sock.sendall(hello)
        parts = []
        for index in range(40_000):
            stream_id = 2 * index + 1
            parts.append(frame(HEADERS, END_HEADERS, stream_id, BLOCK if index else stateless_first()))
            parts.append(frame(DATA, END_STREAM, stream_id, message(b"many16000")))
        data = b"".join(parts)

        def pour() -> None:
            try:
                sock.sendall(data)
            except OSError:
                pass

        pouring = threading.Thread(target=pour, daemon=True)
        pouring.start()
        wait_for(lambda: any(getattr(one, "paused", False) for one in list(running.server.connections)))
        time.sleep(0.1)
        assert echo(running.port, b"other") == b"other"
        method = next(method for method in running.server.methods if method.name == "Echo")
        assert method.started < 2000
        # Then it does read, and everything comes.
        seen = 0
        ended = 0
        buffer = b""
        while ended < 3000:
            piece = sock.recv(1 << 20)
            assert piece
            seen += len(piece)
            buffer += piece
            ended += buffer.count(b"\x0bgrpc-status\x010")
            buffer = buffer[-12:]
        sock.shutdown(socket.SHUT_RDWR)
        pouring.join(10)
        assert seen > 3000 * 16000
        assert running.crashes == []


def stateless_first() -> bytes:
    """The first block of a connection: it shrinks the header table."""
    return b"\x20" + BLOCK if BLOCK[:1] != b"\x20" else BLOCK


def test_a_client_that_sends_faster_than_it_reads_large_answers() -> None:
    with Running() as running, channel(f"127.0.0.1:{running.port}") as one:
        ask = one.unary_unary("/toy.Toy/Echo")
        futures = [ask.future(b"many1000000") for _ in range(60)]
        assert all(len(future.result(20)) == 1_000_000 for future in futures)
        assert running.crashes == []


def test_drain_says_goodbye_waits_and_closes(use_uvloop: bool) -> None:
    with Running(use_uvloop=use_uvloop) as running, channel(f"127.0.0.1:{running.port}") as one:
        future = one.unary_unary("/toy.Toy/Hold").future(b"")
        wait_for(lambda: len(running.held) == 1)
        with running.connect() as idle, running.connect() as silent:
            idle.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.recv(65536)
            running.soon(running.listener.close)
            done = threading.Event()

            def drain() -> None:
                running.run(running.server.drain(10))
                done.set()

            thread = threading.Thread(target=drain, daemon=True)
            thread.start()
            assert read_all(idle) == b""
            assert read_all(silent) == b""
            assert not done.wait(0.1)
            running.soon(lambda: running.held[0].respond(b"finished"))
            assert future.result(10) == b"finished"
            assert done.wait(10)
            thread.join()
        assert not running.server.connections
        with pytest.raises(OSError):
            running.connect().close()


def test_drain_does_not_wait_for_ever() -> None:
    with Running() as running, running.connect() as sock:
        sock.sendall(PREFACE + settings() + frame(HEADERS, END_HEADERS, 1, stateless_hold()))
        sock.sendall(frame(DATA, END_STREAM, 1, message(b"")))
        wait_for(lambda: len(running.held) == 1)
        cancelled: list[int] = []
        running.held[0].on_cancel = lambda: cancelled.append(1)
        running.run(running.server.drain(0.1))
        frames = read_frames(read_all(sock))
        assert [got.payload[:4] for got in frames if got.kind == GOAWAY] == [pack(">I", (1 << 31) - 1)]
        assert cancelled == [1]


def stateless_hold() -> bytes:
    return stateless_block(request_fields("/toy.Toy/Hold"))


def test_clients_that_vanish(use_uvloop: bool) -> None:
    with Running(use_uvloop=use_uvloop) as running:
        for index in range(30):
            with running.connect() as sock:
                data = PREFACE + settings() + frame(HEADERS, END_HEADERS, 1, stateless_hold())
                data += frame(DATA, END_STREAM, 1, message(b""))
                sock.sendall(data[: (index * 7) % len(data) + 1])
                if index % 2:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert echo(running.port, b"x") == b"x"
        wait_for(lambda: len(running.server.connections) == 0)
        for call in running.held:
            running.soon(lambda call=call: call.respond(b"nobody"))  # type: ignore[misc]
        assert echo(running.port, b"y") == b"y"
        assert running.crashes == []
