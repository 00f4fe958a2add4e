"""/v2/keys: reading, writing and watching the v2 tree.

    GET ?wait=true   answers its headers at once, then the event, and with stream=true one event a line

Source: etcd server/etcdserver/api/v2http/client.go.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from balsad.api.v2.form import KEYS_PREFIX, parse_key_request
from balsad.api.v2.members import NO_CREDENTIALS
from balsad.api.web import refuse
from balsad.api.web.answers import METHOD_NOT_ALLOWED
from balsad.errors import RequestError
from balsad.membership import format_id
from balsad.observe import get_logger
from balsad.server.v2_requests import V2Requests
from balsad.transport import HttpRequest, HttpResponder
from balsad.v2store import KEYS_NAMESPACE, Event, Request, V2Error, encode_event, errors

if TYPE_CHECKING:
    from balsad.observe.metrics import Metrics
    from balsad.server.v2_auth import V2Auth
    from balsad.server.v2_requests import V2Answer

_log = get_logger(__name__)

_METHODS: Final = ("HEAD", "GET", "PUT", "POST", "DELETE")
_JSON: Final = {"Content-Type": "application/json"}
_WITHOUT_NODES: Final = frozenset(("set", "compareAndSwap", "create", "update"))
_UNSENT_BYTES_MAX: Final = 1 << 20
"""A stream's client that reads slower than this lets its events wait in the watcher, which bounds them."""
_BYTES_PER_TURN: Final = 256 << 10


class KeysPage:
    def __init__(self, requests: V2Requests, auth: V2Auth, cluster_id: int, metrics: Metrics) -> None:
        self._metrics = metrics
        self._requests = requests
        self._auth = auth
        self._lines = _Lines()
        self._headers = {"X-Etcd-Cluster-Id": format_id(cluster_id)}

    def __call__(self, request: HttpRequest, responder: HttpResponder) -> None:
        if request.method not in _METHODS:
            refuse(responder, METHOD_NOT_ALLOWED, "Method Not Allowed", {"Allow": ",".join(_METHODS)})
            return
        try:
            asked, without_nodes = parse_key_request(request, self._requests.now_ns())
        except V2Error as complaint:
            self._complain(responder, complaint)
            return

        def done(may: bool) -> None:
            if responder.closed:
                return
            if may:
                self._go_on(asked, responder, without_nodes)
            else:
                self._complain(responder, V2Error(errors.UNAUTHORIZED, NO_CREDENTIALS))

        key = unquote(request.path, errors="surrogateescape")[len(KEYS_PREFIX) :]
        self._auth.run(
            self._auth.allow_key(request, key, recursive=asked.recursive),
            done,
            lambda failure: self._complain(responder, V2Error(errors.RAFT_INTERNAL, str(failure))),
        )

    def _go_on(self, asked: Request, responder: HttpResponder, without_nodes: bool) -> None:
        began = self._requests.monotonic()
        method = "QGET" if asked.method == "GET" and asked.quorum else asked.method
        if not asked.wait:
            self._metrics.http_received.of(method).inc()

        def finish(answer: V2Answer) -> None:
            if isinstance(answer, Event):
                self._metrics.http_successful_s.of(method).observe(self._requests.monotonic() - began)
            else:
                status = answer.status if isinstance(answer, V2Error) else 500
                self._metrics.http_failed.of(method, str(status)).inc()
            self._finish(responder, answer, without_nodes)

        try:
            if asked.method == "HEAD" or (asked.method == "GET" and not asked.quorum):
                if asked.wait and asked.method == "GET":
                    _Watching(self._requests, asked, responder, self._lines, self._headers)
                else:
                    finish(self._requests.read(asked))
                return
            if asked.method == "GET":
                asked.method = "QGET"
            self._requests.submit(asked, finish)
        except (V2Error, RequestError) as refusal:
            finish(refusal)

    def _finish(self, responder: HttpResponder, answer: Event | V2Error | RequestError, without_nodes: bool) -> None:
        if responder.closed:
            return
        if isinstance(answer, Event):
            self._answer(responder, answer, without_nodes)
        elif isinstance(answer, V2Error):
            self._complain(responder, answer)
        else:
            _log.warning("unexpected v2 response error", extra={"internal-server-error": answer.text})
            self._complain(responder, V2Error(errors.RAFT_INTERNAL, answer.text))

    def _answer(self, responder: HttpResponder, event: Event, without_nodes: bool) -> None:
        with_nodes = not (without_nodes and event.action in _WITHOUT_NODES)
        body = encode_event(event, with_nodes=with_nodes, prefix=KEYS_NAMESPACE) + b"\n"
        responder.respond(
            201 if event.is_created else 200, _positions(self._requests, event.etcd_index) | self._headers, body
        )

    def _complain(self, responder: HttpResponder, error: V2Error) -> None:
        headers = {**_JSON, **self._headers, "X-Etcd-Index": str(error.index)}
        body = error.encode(error.cause.removeprefix(KEYS_NAMESPACE)) + b"\n"
        responder.respond(error.status, headers, body)


def _positions(requests: V2Requests, etcd_index: int) -> dict[str, str]:
    return {
        **_JSON,
        "X-Etcd-Index": str(etcd_index),
        "X-Raft-Index": str(requests.raft_index),
        "X-Raft-Term": str(requests.raft_term),
    }


class _Lines:
    """Events as lines. Many watchers are told the same: the last line is kept for the next."""

    def __init__(self) -> None:
        self._event: Event | None = None
        self._line = b""

    def of(self, event: Event) -> bytes:
        if event is not self._event:
            self._line = encode_event(event, prefix=KEYS_NAMESPACE) + b"\n"
            self._event = event
        return self._line


class _Watching:
    """One client that waits. It is kept alive by the watcher, which wakes it, and by its responder."""

    def __init__(
        self, requests: V2Requests, asked: Request, responder: HttpResponder, lines: _Lines, headers: dict[str, str]
    ) -> None:
        """Raises V2Error before anything is answered."""
        self._lines = lines
        self._responder = responder
        self._is_stream = asked.stream
        self._is_due = False
        self._watcher = requests.watch(asked, self._send)
        responder.start(200, _positions(requests, self._watcher.start_index) | headers)
        responder.on_close = self._watcher.close
        responder.on_writable = self._send
        self._send()

    def _send(self) -> None:
        responder, watcher = self._responder, self._watcher
        if responder.closed:
            watcher.close()
            return
        written = 0
        while watcher.events and responder.has_room(_UNSENT_BYTES_MAX):
            if written >= _BYTES_PER_TURN:
                # Whether the socket takes it is known only after this turn of the loop.
                self._send_soon()
                return
            event = watcher.events.popleft()
            body = self._lines.of(event)
            responder.write(body)
            written += len(body)
            if not self._is_stream:
                watcher.close()
                responder.end()
                return
        if watcher.is_removed and not watcher.events:
            # Events came faster than the client takes them, or the tree was replaced.
            responder.end()

    def _send_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._is_due = False
        self._send()
