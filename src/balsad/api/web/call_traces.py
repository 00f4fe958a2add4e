"""/debug/requests and /debug/events, at a log level of debug: the last calls of each service, by how long they took.

    family  grpc.Recv.etcdserverpb.KV        ?fam=..&b=N shows what is in a bucket, b=-1 what runs (by number alone)
    bucket  0 .. 7: at least so many seconds; 8: errors; each keeps the last ten
            9, 10, 11: how long calls took in the last minute, the last hour, and in all

A call is written down when it ends; what was said in it is not.
Source: golang.org/x/net/trace, whose pages these are in form; etcd embed/serve.go.
"""

from __future__ import annotations

import html
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

from balsad.api.web.answers import OK, Handler

if TYPE_CHECKING:
    from balsad.transport import HttpRequest, HttpResponder, Method

BOUNDS_S: Final = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 10.0, 100.0)
ERRORS: Final = len(BOUNDS_S)
PERIODS: Final = (("minute", 60.0), ("hour", 3600.0), ("total", float("inf")))
KEPT: Final = 10
"""Calls of each bucket."""
LATENCIES_MAX: Final = 10_000
"""Calls of a family of which it is known how long they took."""

_HEADERS: Final = {"Content-Type": "text/html; charset=utf-8"}

Call = tuple[float, float, str, bool]
"""When it ended, in seconds since 1970; how many seconds it took; the method's path; whether it failed."""


class Family:
    """The calls of one service."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.methods: list[Method] = []
        self.buckets: list[deque[Call]] = [deque(maxlen=KEPT) for _ in range(ERRORS + 1)]
        self.latencies: deque[tuple[float, float]] = deque(maxlen=LATENCIES_MAX)

    @property
    def active(self) -> int:
        return sum([method.started - sum(method.handled.values()) for method in self.methods])

    def add(self, path: str, seconds: float, failed: bool) -> None:
        now = time.time()
        call = (now, seconds, path, failed)
        self.latencies.append((now, seconds))
        for at, bound in enumerate(BOUNDS_S):
            if seconds >= bound:
                self.buckets[at].append(call)
        if failed:
            self.buckets[ERRORS].append(call)


class CallTraces:
    """Writes down the calls of a server's methods, and shows them."""

    def __init__(self, methods: Iterable[Method], now: Callable[[], float]) -> None:
        self._families: dict[str, Family] = {}
        for method in methods:
            name = f"grpc.Recv.{method.service}"
            family = self._families.setdefault(name, Family(name))
            family.methods.append(method)
            method.time_calls(_both(method.observe, family, method.path), now)

    def pages(self) -> Mapping[str, Handler]:
        """The handlers by path, to hang on a Mux."""
        return {"/debug/requests": self._requests, "/debug/events": self._events}

    def _requests(self, request: HttpRequest, responder: HttpResponder) -> None:
        query = parse_qs(request.query)
        shown = query.get("fam", [""])[0]
        expanded = "&exp=1" if query.get("exp", [""])[0] in ("1", "t", "true") else ""
        rows = [_row(family, expanded) for family in self._families.values() if family.latencies or family.active]
        parts = [_TOP.format(title="/debug/requests", table="tr-status"), *rows, "</table>\n"]
        family = self._families.get(shown)
        bucket = _number(query.get("b", [""])[0])
        if family is not None and bucket is not None and bucket <= ERRORS + len(PERIODS):
            parts += _calls(family, bucket) if bucket <= ERRORS else _latencies(family, bucket - ERRORS - 1)
        responder.respond(OK, _HEADERS, ("".join(parts) + _END).encode())

    def _events(self, _request: HttpRequest, responder: HttpResponder) -> None:
        """There are none: the server begins once, and tells of it in the log."""
        page = _TOP.format(title="/debug/events", table="req-status") + "</table>\n" + _END
        responder.respond(OK, _HEADERS, page.encode())


def _both(before: Callable[[float, bool], None] | None, family: Family, path: str) -> Callable[[float, bool], None]:
    def observe(seconds: float, failed: bool) -> None:
        if before is not None:
            before(seconds, failed)
        family.add(path, seconds, failed)

    return observe


def _number(text: str) -> int | None:
    try:
        return int(text[:8])
    except ValueError:
        return None


def _row(family: Family, expanded: str) -> str:
    name = html.escape(family.name)
    cells = [f'<td class="family">{name}</td>']
    cells.append(_cell(f"{family.active} active", f"?fam={name}&b=-1{expanded}", family.active))
    for at, bucket in enumerate(family.buckets):
        text = "errors" if at == ERRORS else f"≥{BOUNDS_S[at]:g}s"
        cells.append(_cell(text, f"?fam={name}&b={at}{expanded}", len(bucket)))
    for at, (text, _) in enumerate(PERIODS):
        cells.append(f'<td><a href="?fam={name}&b={ERRORS + 1 + at}">[{text}]</a></td>')
    return "\t<tr>" + "".join(cells) + "</tr>\n"


def _cell(text: str, link: str, count: int) -> str:
    return f'<td><a href="{link}">[{text}]</a></td>' if count else f'<td class="empty">[{text}]</td>'


def _calls(family: Family, bucket: int) -> list[str]:
    parts = [f'<hr />\n<h3>Family: {html.escape(family.name)}</h3>\n<table id="reqs">\n']
    parts.append("<tr><th>When</th><th>Elapsed&nbsp;(s)</th></tr>\n")
    for ended, seconds, path, failed in reversed(family.buckets[bucket]) if bucket >= 0 else ():
        began = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(ended - seconds))
        what = html.escape(path) + (" (failed)" if failed else "")
        parts.append(f'<tr class="first"><td class="when">{began}</td><td class="elapsed">{seconds:.6f}</td>')
        parts.append(f"<td>{what}</td></tr>\n")
    return [*parts, "</table>\n"]


def _latencies(family: Family, period: int) -> list[str]:
    text, seconds = PERIODS[period]
    since = time.time() - seconds
    taken = sorted([took for ended, took in family.latencies if ended >= since])
    facts: list[tuple[str, Any]] = [("Count", len(taken))]
    if taken:
        facts += [("Mean", f"{sum(taken) / len(taken):.6f}s"), ("Median", f"{taken[len(taken) // 2]:.6f}s")]
        facts += [("Longest", f"{taken[-1]:.6f}s")]
    rows = "".join([f"<tr><td>{name}: {fact}</td></tr>" for name, fact in facts])
    return [f"<h4>Latency of {html.escape(family.name)} over {text}</h4>\n<table>{rows}</table>\n"]


_TOP: Final = """<html>
\t<head>
\t<title>{title}</title>
\t<style type="text/css">
\t\tbody {{ font-family: sans-serif; }}
\t\ttd.empty {{ color: #aaa; }}
\t\ttable#reqs td {{ font-family: monospace; padding: 0 0.5em; }}
\t</style>
\t</head>
\t<body>

<h1>{title}</h1>

<table id="{table}">
"""
_END: Final = "\n\t</body>\n</html>\n"
