"""A toy server on a real socket, in a thread with its own loop."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pytest
import uvloop

from balsad.transport import Call, Headers, HttpRequest, HttpResponder, Limits, Listener, RpcServer, ServerTls

T = TypeVar("T")


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    stop = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < stop, "it never happened"
        time.sleep(0.005)


class Running:
    """Methods: `/toy.Toy/Echo` (fast), `/toy.Toy/Hold` (kept in `held`), `/toy.Toy/Who` (the peer's name)."""

    def __init__(self, *, limits: Limits | None = None, tls: ServerTls | None = None, use_uvloop: bool = True) -> None:
        self.server = RpcServer(limits=limits)
        self.held: list[Call] = []
        self.requests: list[HttpRequest] = []
        self.server.unary("/toy.Toy/Echo", self._later, self._echo)
        self.server.unary("/toy.Toy/Hold", lambda call, body: self.held.append(call))
        self.server.unary("/toy.Toy/Who", lambda call, body: call.respond(call.peer_name.encode()))
        self.server.http = self._http
        self.loop = uvloop.new_event_loop() if use_uvloop else asyncio.new_event_loop()
        self.crashes: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda loop, context: self.crashes.append(context))
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        try:
            self.listener: Listener = self.run(self.server.listen("127.0.0.1", 0, tls))
        except BaseException:
            self._end_thread()
            raise
        self.port = self.listener.port

    def _later(self, call: Call, body: bytes) -> None:
        call.respond(body)

    def _echo(self, headers: Headers, body: bytes) -> bytes | None:
        if body.startswith(b"many"):
            return b"m" * int(body[4:])
        return body

    def _http(self, request: HttpRequest, responder: HttpResponder) -> None:
        self.requests.append(request)
        responder.respond(200, {"Content-Type": "text/plain"}, f"{request.peer_name}{request.path}".encode())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def soon(self, work: Callable[[], Any]) -> None:
        self.loop.call_soon_threadsafe(work)

    def connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port))
        sock.settimeout(10)
        return sock

    def stop(self) -> None:
        async def end() -> None:
            self.listener.close()
            await self.server.drain(0)

        if not self.loop.is_closed():
            try:
                self.run(end())
            finally:
                self._end_thread()

    def _end_thread(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def read_all(sock: socket.socket) -> bytes:
    """What comes until the other side closes."""
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except (ConnectionResetError, ssl.SSLError):
        pass
    return data


class Authority:
    """A certificate authority in a folder, by the openssl command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = str(folder / "ca.crt")
        self._key("ca")
        self._openssl("req", "-x509", "-new", "-key", "ca.key", "-days", "30", "-subj", "/CN=toy-ca", "-out", "ca.crt")

    def issue(self, name: str, common_name: str) -> tuple[str, str]:
        """Paths of a new certificate and its key."""
        self._key(name)
        self._openssl("req", "-new", "-key", f"{name}.key", "-subj", f"/CN={common_name}", "-out", f"{name}.csr")
        extensions = "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n"
        (self.folder / "extensions").write_text(extensions)
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", "30", "-extfile", "extensions", "-out", f"{name}.crt"),
        )
        return str(self.folder / f"{name}.crt"), str(self.folder / f"{name}.key")

    def client_context(self, certificate: tuple[str, str] | None = None, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
        # Not create_default_context, which wants more of an authority from Python 3.13 on.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=self.ca)
        if certificate is not None:
            context.load_cert_chain(*certificate)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    def _key(self, name: str) -> None:
        self._openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")

    def _openssl(self, *arguments: str) -> None:
        try:
            subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)
        except FileNotFoundError:
            pytest.skip("the openssl command is not installed")
