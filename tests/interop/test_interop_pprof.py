"""--enable-pprof: pages with the real one's status and headers, and profiles that can be read."""

from __future__ import annotations

import gzip
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from balsad.wire import read_uvarint
from tests.interop.servers import balsad, fetch, program, programs, start
from tests.interop.v3 import V3

FILES = ("goroutine", "heap", "allocs", "threadcreate", "block", "mutex", "profile?seconds=1")
TEXTS = ("cmdline", "symbol", "goroutine?debug=1", "goroutine?debug=2", "heap?debug=1", "block?debug=1", "nosuch")


@pytest.mark.real
@pytest.mark.parametrize("who", programs())
def test_pages_have_the_real_ones_heads(who: str, tmp_path: Path) -> None:
    with start(program(who), tmp_path / "data", "--enable-pprof") as member:
        base = f"{member.client_url}/debug/pprof"
        status, body, headers = fetch(f"{base}/")
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert b"<a href='heap?debug=1'>heap</a>" in body
        for path in FILES:
            status, body, headers = fetch(f"{base}/{path}")
            name = path.partition("?")[0]
            assert (status, headers["Content-Type"]) == (200, "application/octet-stream"), path
            assert headers["Content-Disposition"] == f'attachment; filename="{name}"'
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert _strings(body), path
        for path in TEXTS:
            status, body, headers = fetch(f"{base}/{path}")
            assert status == (404 if path == "nosuch" else 200), path
            assert headers["Content-Type"] == "text/plain; charset=utf-8", path
        assert fetch(f"{base}/symbol")[1] == b"num_symbols: 1\n"
        assert fetch(f"{base}/nosuch")[1] == b"Unknown profile\n"
        assert b"goroutine 1 [" in fetch(f"{base}/goroutine?debug=2")[1]
        assert fetch(f"{base}/goroutine?debug=1")[1].startswith(b"goroutine profile: total ")
        assert b"--enable-pprof" in fetch(f"{base}/cmdline")[1].split(b"\0")


@pytest.mark.real
@pytest.mark.parametrize("who", programs())
def test_nothing_is_there_without_the_flag(who: str, tmp_path: Path) -> None:
    with start(program(who), tmp_path / "data") as member:
        for path in ("/debug/pprof/", "/debug/pprof/profile", "/debug/pprof/heap", "/debug/requests"):
            assert fetch(f"{member.client_url}{path}")[0] == 404
        assert fetch(f"{member.client_url}/debug/vars")[0] == 200


def test_a_profile_shows_what_is_busy_and_holds_up_nobody(tmp_path: Path) -> None:
    """The loop answers while it is looked at, one may look at a time, and who goes away ends it."""
    with start(balsad(), tmp_path / "data", "--enable-pprof") as member:
        url = f"{member.client_url}/debug/pprof/profile?seconds="
        done = threading.Event()
        puts = threading.Thread(target=_put_until, args=(member.address, done))
        puts.start()
        found: list[bytes] = []
        looking = threading.Thread(target=lambda: found.append(fetch(f"{url}1")[1]))
        looking.start()
        time.sleep(0.2)
        assert fetch(f"{member.client_url}/version")[0] == 200
        status, body, _ = fetch(f"{url}1")
        assert (status, b"already in use" in body) == (500, True)
        looking.join()
        done.set()
        puts.join()
        assert {"samples", "cpu", "balsad.main.serve"} <= set(_strings(found[0]))

        with socket.create_connection(("127.0.0.1", member.client_port.number)) as client:
            client.sendall(b"GET /debug/pprof/profile?seconds=100 HTTP/1.1\r\nHost: a\r\n\r\n")
            time.sleep(0.3)
        deadline = time.monotonic() + 20
        while fetch(f"{url}1")[0] == 500:
            assert time.monotonic() < deadline
        if shutil.which("go") is not None:
            path = tmp_path / "profile"
            path.write_bytes(found[0])
            seen = subprocess.run(["go", "tool", "pprof", "-top", path], capture_output=True, text=True, check=True)
            assert "Type: cpu" in seen.stdout and "balsad.main.serve" in seen.stdout


def _put_until(address: str, done: threading.Event) -> None:
    v3 = V3(address)
    while not done.is_set():
        v3.put(b"k", b"v")
    v3.close()


def _strings(profile: bytes) -> list[str]:
    """The names in a profile.proto."""
    return [value.decode() for number, value in _fields(gzip.decompress(profile)) if number == 6]


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    pos = 0
    while pos < len(message):
        tag, pos = read_uvarint(message, pos)
        if tag & 7 == 0:
            _, pos = read_uvarint(message, pos)
            continue
        assert tag & 7 == 2
        size, pos = read_uvarint(message, pos)
        assert pos + size <= len(message)
        yield tag >> 3, message[pos : pos + size]
        pos += size


@pytest.mark.real
@pytest.mark.parametrize("who", programs())
def test_the_last_calls_are_shown_at_a_log_level_of_debug(who: str, tmp_path: Path) -> None:
    """Source: golang.org/x/net/trace."""
    with start(program(who), tmp_path / "data", "--log-level=debug", "--metrics=extensive") as member:
        member.etcdctl("put", "a", "1")
        member.etcdctl("get", "a", "--rev=99", check=False)
        url = f"{member.client_url}/debug/requests"
        status, body, headers = fetch(url)
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert b"<title>/debug/requests</title>" in body
        assert b"grpc.Recv.etcdserverpb.KV" in body
        for bucket in (0, 8):
            assert f"?fam=grpc.Recv.etcdserverpb.KV&b={bucket}".encode() in body
            assert fetch(f"{url}?fam=grpc.Recv.etcdserverpb.KV&b={bucket}")[0] == 200
        assert b"/etcdserverpb.KV/Put" in fetch(f"{url}?fam=grpc.Recv.etcdserverpb.KV&b=0&exp=1")[1]
        assert b"/etcdserverpb.KV/Range" in fetch(f"{url}?fam=grpc.Recv.etcdserverpb.KV&b=8&exp=1")[1]
        assert b"Count" in fetch(f"{url}?fam=grpc.Recv.etcdserverpb.KV&b=11")[1]
        for query in ("fam=nosuch&b=0", "fam=grpc.Recv.etcdserverpb.KV&b=x", "b=5"):
            assert fetch(f"{url}?{query}")[0] == 200
        assert b"<h1>/debug/events</h1>" in fetch(f"{member.client_url}/debug/events")[1]
        assert b"grpc_server_handling_seconds_count" in fetch(f"{member.client_url}/metrics")[1]
