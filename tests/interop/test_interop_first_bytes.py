"""What a client says first: TLS to a plain port, HTTP to a secure one, a preface cut anywhere, half a hello.

Source: etcd embed/serve.go (cmux), Go crypto/tls, grpc-go.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.interop.servers import HeldPort, Member, Program, balsad, real, start
from tests.unit.peer.certificates import Authority
from tests.unit.transport.wire_kit import PREFACE, SETTINGS, frame

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

SILENCE_S = 4.0
CROWD = 1500
GET = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"
EMPTY_SETTINGS = frame(SETTINGS, 0, 0)


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def hello() -> bytes:
    """What a TLS client begins with."""
    outgoing = ssl.MemoryBIO()
    session = client_context().wrap_bio(ssl.MemoryBIO(), outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


def first_words() -> dict[str, bytes]:
    words = {
        "get": GET,
        "half a get": GET[:10],
        "get of 1.0": b"GET /version HTTP/1.0\r\n\r\n",
        "get without a host": b"GET /version HTTP/1.1\r\n\r\n",
        "get with bare newlines": b"GET /version HTTP/1.1\nHost: x\n\n",
        "get of 0.9": b"GET /\r\n",
        "get of 3.0": b"GET / HTTP/3.0\r\n\r\n",
        "half a hello": hello()[:100],
        "a byte of a hello": b"\x16",
        "preface, wrong at the end": PREFACE[:20] + b"XXXX",
        "preface of 1.1": b"PRI * HTTP/1.1\r\n\r\n",
        "preface and junk": PREFACE + b"junkjunkjunkjunkjunk",
        "preface and a ping first": PREFACE + frame(6, 0, 0, bytes(8)),
        "preface and a short ping": PREFACE + EMPTY_SETTINGS + frame(6, 0, 0, bytes(7)),
        "binary": b"\x00\x01\x02\x03" * 10,
        "text": b"hello world\r\n\r\n",
        "ssh": b"SSH-2.0-OpenSSH_8\r\n",
        "nothing": b"",
        "options": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        "bad header": b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
    }
    return words | {f"preface cut at {cut}": PREFACE[:cut] for cut in (1, 3, 4, 14, 16, 18, 20, 23)}


def say(port: int, data: bytes, half_closed: bool) -> tuple[bytes, bool]:
    """What came back, and whether the connection was closed soon."""
    answer = b""
    ended = False
    with (
        contextlib.suppress(TimeoutError),
        socket.create_connection(("127.0.0.1", port), timeout=SILENCE_S) as sock,
    ):
        try:
            sock.sendall(data)
            if half_closed:
                sock.shutdown(socket.SHUT_WR)
            while len(answer) < 5000 and (part := sock.recv(65536)):
                answer += part
            ended = True
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            ended = True
    if answer[3:4] == b"\x04":
        # SETTINGS come first; each has its own, and what was said before an end may be lost with it.
        answer = b"HTTP/2"
    return re.sub(rb"Date: [^\r]*", b"Date: X", answer), ended


@contextlib.contextmanager
def serving(who: Program, folder: Path) -> Iterator[tuple[int, int, Member]]:
    """A plain and a secure port, and the member."""
    folder.mkdir()
    cert, key = Authority(folder).issue("server")
    plain, secure = HeldPort(), HeldPort()
    urls = f"http://127.0.0.1:{plain.number},https://127.0.0.1:{secure.number}"
    flags = (
        f"--listen-client-urls={urls}",
        f"--advertise-client-urls={urls}",
        f"--cert-file={cert}",
        f"--key-file={key}",
    )
    with start(who, folder / "data", *flags, healthy=False) as member:
        deadline = time.monotonic() + 30
        while not (serves(plain.number, secure=False) and serves(secure.number, secure=True)):
            assert time.monotonic() < deadline, member.logs()
            time.sleep(0.1)
        yield plain.number, secure.number, member
    plain.release()
    secure.release()


def serves(port: int, *, secure: bool) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            wrapped = client_context().wrap_socket(sock) if secure else sock
            wrapped.sendall(GET)
            served = b"etcdserver" in wrapped.recv(4096)
            if secure:
                wrapped.close()
            return served
    except OSError:
        return False


def test_what_is_said_first_is_answered_as_by_the_real_one(tmp_path: Path) -> None:
    words = first_words()
    with (
        serving(balsad(), tmp_path / "ours") as (plain, secure, _),
        serving(real(), tmp_path / "theirs") as (their_plain, their_secure, _),
        ThreadPoolExecutor(32) as pool,
    ):
        asked = [(name, tls, half) for name in words for tls in (False, True) for half in (False, True)]
        # A hello to the plain port is served here: see the tests of the TLS relay.
        asked = [each for each in asked if each[1] or "hello" not in each[0]]
        ours = [pool.submit(say, secure if tls else plain, words[name], half) for name, tls, half in asked]
        theirs = [
            pool.submit(say, their_secure if tls else their_plain, words[name], half) for name, tls, half in asked
        ]
        found = {each: (mine.result(), its.result()) for each, mine, its in zip(asked, ours, theirs, strict=True)}

    assert {each: pair for each, pair in found.items() if pair[0] != pair[1]} == {}


def test_bytes_that_nobody_would_say_first_hurt_nobody(tmp_path: Path) -> None:
    chance = random.Random(11)
    seeds = [hello(), PREFACE + EMPTY_SETTINGS, GET]

    def mutated() -> bytes:
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data[: chance.randrange(len(data) + 1)])

    with serving(balsad(), tmp_path / "ours") as (plain, secure, member):
        for number in range(600):
            port = (plain, secure)[number % 2]
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
                sock.sendall(mutated())
                if chance.randrange(3):
                    sock.shutdown(socket.SHUT_WR)
                    sock.recv(100)
            if number % 100 == 0:
                assert serves(plain, secure=False)
                assert serves(secure, secure=True)
        logs = member.log_path.read_text("utf-8", "replace")
    assert '"level":"error"' not in logs
    assert "Traceback" not in logs


def test_a_crowd_that_never_finishes_its_hello_holds_up_nobody(tmp_path: Path) -> None:
    """Others are served beside it, on old connections and new ones; when it goes, everything of it goes."""
    half = hello()[:150]
    with serving(balsad(), tmp_path / "ours") as (plain, secure, member), contextlib.ExitStack() as crowd:
        folder = Path(f"/proc/{member.process.pid}/fd")
        before = len(os.listdir(folder))
        for number in range(CROWD):
            sock = crowd.enter_context(socket.create_connection(("127.0.0.1", secure), timeout=10))
            sock.sendall(half)
            if number % 300 == 0:
                assert serves(plain, secure=False)
                assert serves(secure, secure=True)
        assert serves(secure, secure=True)
        crowd.close()
        deadline = time.monotonic() + 30
        while len(os.listdir(folder)) > before + 20:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert serves(secure, secure=True)
        told = member.log_path.read_text("utf-8", "replace").count("rejected connection")
        # A hundred in each second, and one in a hundred of the others.
        assert 0 < told < CROWD
