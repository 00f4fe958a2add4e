"""Why a client could not shake hands stands in the log, in the real one's words: that is what operators look for."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.servers import HeldPort, Member, program, programs, start
from tests.unit.peer.certificates import Authority

pytestmark = pytest.mark.real


def plain(port: int, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(data)
        if data:
            with contextlib.suppress(OSError):
                sock.recv(100)


def secure(port: int, *, trusts: str = "", shows: tuple[str, str] | None = None, version: str = "") -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if trusts:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(trusts)
    if shows is not None:
        context.load_cert_chain(*shows)
    if version:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=10) as sock,
        context.wrap_socket(sock) as wrapped,
    ):
        wrapped.sendall(b"GET /version HTTP/1.0\r\n\r\n")
        wrapped.recv(100)


def rejections(member: Member) -> list[str]:
    """The reasons, without what only the real one can tell of them."""
    told = member.log_path.read_text("utf-8", "replace")
    lines = [json.loads(line) for line in told.splitlines() if '"rejected connection"' in line]
    assert all(line["level"] == "warn" and line["remote-addr"].startswith("127.0.0.1:") for line in lines)
    return [str(line["error"]).split(": current time")[0].split(": [3")[0] for line in lines]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1")
@pytest.mark.parametrize("who", programs())
def test_what_clients_did_instead_of_shaking_hands_is_told(who: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    authority, stranger = Authority(tmp_path), Authority(tmp_path / "other", "stranger")
    cert, key = authority.issue("server")
    mine, theirs = authority.issue("mine"), stranger.issue("theirs")
    port = HeldPort()
    url = f"https://127.0.0.1:{port.number}"
    flags = (
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--cert-file={cert}",
        f"--key-file={key}",
        f"--trusted-ca-file={authority.file}",
        "--enable-grpc-gateway=false",
    )
    acts: list[tuple[Callable[[], None], str]] = [
        (lambda: plain(port.number, b"GET /health HTTP/1.1\r\n\r\n"), "tls: first record does not look like a TLS"),
        (lambda: plain(port.number, b""), "EOF"),
        (lambda: secure(port.number), "tls: client didn't provide a certificate"),
        (
            lambda: secure(port.number, shows=theirs),
            "tls: failed to verify client certificate: x509: certificate signed by unknown authority",
        ),
        (
            lambda: secure(port.number, trusts=stranger.file, shows=mine),
            "remote error: tls: unknown certificate authority",
        ),
        (lambda: secure(port.number, shows=mine, version="TLSv1_1"), "tls: client offered only unsupported versions"),
    ]
    with start(program(who), tmp_path / "data", *flags, healthy=False) as member:
        deadline = time.monotonic() + 30
        while "serving client" not in member.logs():
            assert time.monotonic() < deadline, member.logs()
            time.sleep(0.1)
        time.sleep(0.2)
        for act, reason in acts:
            before = len(rejections(member))
            act()
            while not any(said.startswith(reason) for said in rejections(member)[before:]):
                assert time.monotonic() < deadline, (reason, rejections(member)[before:])
                time.sleep(0.05)
        # Who is in order is not told of.
        before = len(rejections(member))
        secure(port.number, trusts=authority.file, shows=mine)
        assert rejections(member)[before:] == []
    port.release()
