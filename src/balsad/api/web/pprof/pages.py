"""The pages below /debug/pprof/, which --enable-pprof (or a log level of debug) turns on.

    /debug/pprof/                what there is
    /debug/pprof/profile         CPU time for ?seconds= (30)
    /debug/pprof/goroutine       threads and tasks; ?debug=1 as text, ?debug=2 each by itself
    /debug/pprof/heap, allocs    memory
    .../threadcreate, block, mutex, cmdline, symbol, trace

Source: Go net/http/pprof; etcd pkg/debugutil/pprof.go.
"""

from __future__ import annotations

import asyncio
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qs

from balsad.api.web.answers import NOT_FOUND, OK, TEXT, Handler
from balsad.api.web.pprof.cpu import CpuSampler
from balsad.api.web.pprof.heap import heap_profile, heap_text
from balsad.api.web.pprof.profile import Stack, ValueType, count_text, encode
from balsad.api.web.pprof.stacks import strands
from balsad.transport import HttpRequest, HttpResponder

INTERNAL_SERVER_ERROR: Final = 500
SECONDS: Final = 30
SECONDS_MAX: Final = 3600
_NOSNIFF: Final = {"X-Content-Type-Options": "nosniff"}
_INT: Final = re.compile(r"[+-]?[0-9]{1,18}")
_CONTENTIONS: Final = (ValueType("contentions", "count"), ValueType("delay", "nanoseconds"))

_ABOUT: Final = {
    "allocs": "Memory, as in heap: of what was freed no account is kept",
    "block": "Empty: waits for locks are not measured",
    "cmdline": "The arguments the server was started with",
    "goroutine": "The stacks of all threads and asyncio tasks",
    "heap": "Memory in use; by place when the server was started with PYTHONTRACEMALLOC=16",
    "mutex": "Empty: waits for locks are not measured",
    "profile": "CPU time; how long to look is told by seconds (30). Read it with go tool pprof",
    "threadcreate": "The threads there are",
    "trace": "Not available: Go's runtime writes it",
}


def pprof_pages() -> Mapping[str, Handler]:
    """The handlers by path, to hang on a Mux."""
    sampler = CpuSampler()

    def profile(request: HttpRequest, responder: HttpResponder) -> None:
        _profile(sampler, request, responder)

    return {
        "/debug/pprof/": _index,
        "/debug/pprof/profile": profile,
        "/debug/pprof/symbol": _symbol,
        "/debug/pprof/cmdline": _cmdline,
        "/debug/pprof/trace": _trace,
    }


def _index(request: HttpRequest, responder: HttpResponder) -> None:
    name = request.path.removeprefix("/debug/pprof/")
    if name:
        answer = _NAMED.get(name)
        if answer is None:
            _refuse(responder, NOT_FOUND, "Unknown profile")
        else:
            answer(name, _number(request, "debug", 0), responder)
        return
    counts = {"goroutine": len(strands()), "threadcreate": threading.active_count(), "allocs": 1, "heap": 1}
    rows = "".join(
        f"<tr><td>{counts.get(each, 0)}</td><td><a href='{each}?debug=1'>{each}</a></td></tr>\n" for each in _ABOUT
    )
    about = "".join(f"<li><div class=profile-name>{each}:</div> {text}</li>\n" for each, text in _ABOUT.items())
    body = f"""<html>
<head>
<title>/debug/pprof/</title>
<style>
.profile-name{{
	display:inline-block;
	width:6rem;
}}
</style>
</head>
<body>
/debug/pprof/<br>
<br>
<table>
<thead><td>Count</td><td>Profile</td></thead>
{rows}</table>
<a href="goroutine?debug=2">all stacks, each by itself</a>
<br/>
<ul>
{about}</ul>
</body>
</html>
"""
    responder.respond(OK, {**_NOSNIFF, "Content-Type": "text/html; charset=utf-8"}, body.encode())


def _goroutine(name: str, debug: int, responder: HttpResponder) -> None:
    found = strands()
    if debug >= 2:
        blocks = [
            f"goroutine {number} [{strand.state}]:\n"
            + "".join(f"{place.function}(...)\n\t{place.file}:{place.line} +0x0\n" for place in strand.stack)
            for number, strand in enumerate(found, 1)
        ]
        _text(responder, "\n".join(blocks))
        return
    _counted(name, debug, [strand.stack for strand in found], responder)


def _threads(name: str, debug: int, responder: HttpResponder) -> None:
    # Who made them is not known, as in Go for most of them.
    _counted(name, debug, [()] * threading.active_count(), responder)


def _counted(name: str, debug: int, stacks: list[Stack], responder: HttpResponder) -> None:
    if debug:
        _text(responder, count_text(name, stacks))
        return
    counts: dict[Stack, tuple[int]] = {}
    for stack in stacks:
        counts[stack] = (counts.get(stack, (0,))[0] + 1,)
    kind = ValueType(name, "count")
    _file(responder, name, encode(counts, (kind,), period=(kind, 1), time_ns=time.time_ns()))


def _contention(name: str, debug: int, responder: HttpResponder) -> None:
    if debug:
        title = "contention" if name == "block" else "mutex"
        sampling = "" if name == "block" else "sampling period=0\n"
        _text(responder, f"--- {title}:\ncycles/second=1000000000\n{sampling}")
        return
    _file(responder, name, encode({}, _CONTENTIONS, period=(_CONTENTIONS[0], 1), time_ns=time.time_ns()))


def _heap(name: str, debug: int, responder: HttpResponder) -> None:
    # In a thread: where account is kept of every allocation there is a lot to sum up.
    async def answer() -> None:
        if debug:
            text = await asyncio.to_thread(heap_text)
            if not responder.closed:
                _text(responder, text)
            return
        data = await asyncio.to_thread(heap_profile, "alloc_space" if name == "allocs" else "inuse_space")
        if not responder.closed:
            _file(responder, name, data)

    task = asyncio.ensure_future(answer())
    _UNDER_WAY.add(task)
    task.add_done_callback(_UNDER_WAY.discard)


_UNDER_WAY: Final[set[asyncio.Task[None]]] = set()
"""The loop holds tasks weakly."""

_NAMED: Final[Mapping[str, Callable[[str, int, HttpResponder], None]]] = {
    "allocs": _heap,
    "block": _contention,
    "goroutine": _goroutine,
    "heap": _heap,
    "mutex": _contention,
    "threadcreate": _threads,
}


def _profile(sampler: CpuSampler, request: HttpRequest, responder: HttpResponder) -> None:
    seconds = _number(request, "seconds", 0)
    if seconds <= 0:
        seconds = SECONDS
    if sampler.is_running:
        _refuse(responder, INTERNAL_SERVER_ERROR, "Could not enable CPU profiling: cpu profiling already in use")
        return
    try:
        sampler.start()
    except ValueError as error:
        _refuse(responder, INTERNAL_SERVER_ERROR, f"Could not enable CPU profiling: {error}")
        return

    def end() -> None:
        timer.cancel()
        responder.on_close = None
        data = sampler.stop()
        if not responder.closed:
            responder.write(data)
            responder.end()

    timer = asyncio.get_running_loop().call_later(min(seconds, SECONDS_MAX), end)
    responder.on_close = end
    # Begun now, so that a client that hangs up is not taken for one that has said all and waits.
    responder.start(OK, _file_headers("profile"))


def _symbol(_request: HttpRequest, responder: HttpResponder) -> None:
    # Profiles have their names in them; this says that one may ask, and nothing is known about addresses.
    _text(responder, "num_symbols: 1\n")


def _cmdline(_request: HttpRequest, responder: HttpResponder) -> None:
    _text(responder, "\0".join(sys.argv))


def _trace(_request: HttpRequest, responder: HttpResponder) -> None:
    _refuse(responder, INTERNAL_SERVER_ERROR, "Could not enable tracing: it is Go's runtime that writes traces")


def _number(request: HttpRequest, name: str, otherwise: int) -> int:
    given = parse_qs(request.query).get(name, [""])[0]
    return int(given) if _INT.fullmatch(given) else otherwise


def _text(responder: HttpResponder, text: str) -> None:
    responder.respond(OK, {**TEXT, **_NOSNIFF}, text.encode("utf-8", "replace"))


def _file(responder: HttpResponder, name: str, data: bytes) -> None:
    responder.respond(OK, _file_headers(name), data)


def _file_headers(name: str) -> dict[str, str]:
    headers = {"Content-Type": "application/octet-stream", "Content-Disposition": f'attachment; filename="{name}"'}
    return {**_NOSNIFF, **headers}


def _refuse(responder: HttpResponder, status: int, text: str) -> None:
    responder.respond(status, {**TEXT, **_NOSNIFF, "X-Go-Pprof": "1"}, f"{text}\n".encode())
