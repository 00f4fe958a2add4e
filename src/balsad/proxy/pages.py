"""The proxy's pages: a member's metrics, its own, and whether either of them answers.

    /metrics         what a member says (the same one as long as the proxy runs)
    /proxy/metrics   the proxy's own
    /health          a key can be read through the proxy's client
    /proxy/health    a key can be read and watched through the proxy, as its clients do

Source: etcd server/proxy/grpcproxy health.go, metrics.go.
"""

from __future__ import annotations

import asyncio
import json
import random
import urllib.request
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from balsad.api import Handler, Mux, metrics_page, refuse
from balsad.client import Client
from balsad.client.errors import CallTimeoutError
from balsad.client.messages import WatchCreateRequest, WatchRequest
from balsad.errors import PermissionDeniedError, RequestError
from balsad.observe.logs import get_logger
from balsad.transport import HttpRequest, HttpResponder

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from balsad.observe.metrics import Metrics
    from balsad.proxy.settings import Settings

GET_S: Final = 1.0
WATCH_S: Final = 3.0
SCRAPE_S: Final = 10.0
_WATCH: Final = "/etcdserverpb.Watch/Watch"
_log = get_logger(__name__)
_OK: Final = 200
_INTERNAL_SERVER_ERROR: Final = 500
_SERVICE_UNAVAILABLE: Final = 503

Check = Callable[[], Awaitable[str]]
"""Empty when all is well, else why not."""


class Pages:
    """The handlers; `close` ends what is still being answered."""

    def __init__(self, settings: Settings, metrics: Metrics, client: Client, proxy_client: Client | None) -> None:
        self._settings = settings
        self._metrics = metrics
        self._client = client
        self._proxy_client = proxy_client
        self._tasks: set[asyncio.Task[None]] = set()
        self._member = random.choice(settings.endpoints)

    def mux(self) -> Mux:
        mux = Mux()
        mux.add("/metrics", self._later(self._member_metrics))
        mux.add("/proxy/metrics", metrics_page(self._metrics))
        mux.add("/health", self._later(self._health(self._check)))
        mux.add("/proxy/health", self._later(self._health(self._check_proxy)))
        return mux

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _later(self, answer: Callable[[HttpRequest, HttpResponder], Coroutine[None, None, None]]) -> Handler:
        def handler(request: HttpRequest, responder: HttpResponder) -> None:
            task = asyncio.get_running_loop().create_task(answer(request, responder))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return handler

    async def _member_metrics(self, request: HttpRequest, responder: HttpResponder) -> None:
        url = self._member
        if not url.startswith("http"):
            url = f"{'https' if request.secure else 'http'}://{url}"
        try:
            text = await asyncio.to_thread(self._scrape, f"{url}/metrics")
        except OSError as error:
            _log.warning("failed to ask a member for its metrics", extra={"url": url, "error": error})
            if not responder.closed:
                refuse(responder, _INTERNAL_SERVER_ERROR, "Internal server error")
            return
        if not responder.closed:
            responder.respond(_OK, {"Content-Type": "text/plain; version=0.0.4"}, text)

    def _scrape(self, url: str) -> bytes:
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if self._settings.scrape_tls is not None:
            handlers.append(urllib.request.HTTPSHandler(context=self._settings.scrape_tls))
        with urllib.request.build_opener(*handlers).open(url, timeout=SCRAPE_S) as answer:
            return bytes(answer.read())

    def _health(self, check: Check) -> Callable[[HttpRequest, HttpResponder], Coroutine[None, None, None]]:
        async def answer(request: HttpRequest, responder: HttpResponder) -> None:
            if request.method != "GET":
                refuse(responder, 405, "Method Not Allowed", {"Allow": "GET"})
                _log.warning("/health error", extra={"status-code": 405})
                return
            reason = await check()
            body = json.dumps({"health": "false" if reason else "true", "reason": reason}, separators=(",", ":"))
            body = body.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
            if responder.closed:
                return
            if reason:
                _log.warning("/health error", extra={"output": body, "status-code": _SERVICE_UNAVAILABLE})
                refuse(responder, _SERVICE_UNAVAILABLE, body)
            else:
                responder.respond(_OK, {}, body.encode())

        return answer

    async def _check(self) -> str:
        return await _get(self._client)

    async def _check_proxy(self) -> str:
        client = self._proxy_client
        if client is None:
            return "no connection to proxy"
        reason = await _get(client)
        if reason:
            return reason
        try:
            call = await client.channel.stream(_WATCH, deadline=client.loop.time() + WATCH_S)
            call.send(WatchRequest(create_request=WatchCreateRequest(key=b"a")))
            await call.read()
            call.cancel()
        except CallTimeoutError:
            return "WATCH TIMEOUT"
        except RequestError:
            # Told no, and so told something.
            return ""
        return ""


async def _get(client: Client) -> str:
    try:
        await client.kv.get("a", timeout=GET_S)
    except PermissionDeniedError:
        return ""
    except RequestError as error:
        return f"GET ERROR:{error}"
    return ""
