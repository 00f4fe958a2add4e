"""/livez and /readyz: named checks, each also a page of its own (`/readyz/linearizable_read`).

    [+]data_corruption ok
    [-]linearizable_read failed: etcdserver: request timed out

Source: etcd server/etcdserver/api/etcdhttp/health.go, 3.5.11 and later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qs

from balsad.api.web.answers import OK, PLAIN, SERVICE_UNAVAILABLE, allows_get_only, refuse
from balsad.api.web.backend import CORRUPT, WebBackend
from balsad.api.web.mux import Mux
from balsad.go_quote import quote_go
from balsad.observe import get_logger
from balsad.observe.metrics import Metrics
from balsad.transport import HttpRequest, HttpResponder

_log = get_logger(__name__)

Done = Callable[[str], None]
Check = Callable[[Done], None]
"""Calls back with nothing when all is well, else with the reason."""

_LIVEZ: Final = ("serializable_read",)
_READYZ: Final = ("data_corruption", "serializable_read", "linearizable_read", "non_learner")


def add_probes(mux: Mux, backend: WebBackend, metrics: Metrics) -> None:
    checks = {
        "data_corruption": lambda done: done(_corruption(backend)),
        "serializable_read": lambda done: backend.read(serializable=True, done=done),
        "linearizable_read": lambda done: backend.read(serializable=False, done=done),
        "non_learner": lambda done: done("not supported for learner" if backend.is_learner else ""),
    }
    for kind, names in (("livez", _LIVEZ), ("readyz", _READYZ)):
        mux.add(f"/{kind}", ProbePage(kind, names, checks, metrics, may_exclude=True))
        for name in names:
            mux.add(f"/{kind}/{name}", ProbePage(kind, (name,), checks, metrics, may_exclude=False))


def _corruption(backend: WebBackend) -> str:
    return "alarm activated: CORRUPT" if any(kind == CORRUPT for _, kind in backend.alarms()) else ""


class ProbePage:
    def __init__(
        self, kind: str, names: Sequence[str], checks: Mapping[str, Check], metrics: Metrics, *, may_exclude: bool
    ) -> None:
        self._kind = kind
        self._names = names
        self._checks = checks
        self._metrics = metrics
        self._may_exclude = may_exclude

    def __call__(self, request: HttpRequest, responder: HttpResponder) -> None:
        if not allows_get_only(request, responder):
            _log.warning("Health request error", extra={"path": request.path, "status-code": 405})
            return
        query = parse_qs(request.query, keep_blank_values=True)
        excluded = {name for name in query.get("exclude", ()) if name} if self._may_exclude else set()
        unknown = sorted(excluded.difference(self._names))
        if unknown:
            _log.warning(
                "some health checks cannot be excluded",
                extra={"missing-health-checks": ",".join(map(quote_go, unknown))},
            )
        names = [name for name in self._names if name not in excluded]
        self._run(names, [], False, request.path, "verbose" in query, responder)

    def _run(
        self, names: list[str], lines: list[str], failed: bool, path: str, verbose: bool, responder: HttpResponder
    ) -> None:
        """Run the first of `names`, then the rest; answer after the last."""
        if not names:
            self._answer("".join(lines), failed, path, verbose, responder)
            return
        name, *rest = names

        def done(reason: str) -> None:
            self._record(name, ok=not reason)
            line = f"[-]{name} failed: {reason}\n" if reason else f"[+]{name} ok\n"
            self._run(rest, [*lines, line], failed or bool(reason), path, verbose, responder)

        self._checks[name](done)

    def _record(self, name: str, *, ok: bool) -> None:
        self._metrics.healthcheck.of(self._kind, name).set(1 if ok else 0)
        self._metrics.healthchecks.of(self._kind, name, "success" if ok else "error").inc()

    def _answer(self, reason: str, failed: bool, path: str, verbose: bool, responder: HttpResponder) -> None:
        if responder.closed:
            return
        if failed:
            _log.error("Health check error", extra={"path": path, "reason": reason, "status-code": SERVICE_UNAVAILABLE})
            refuse(responder, SERVICE_UNAVAILABLE, reason)
            return
        responder.respond(OK, PLAIN, f"{reason if verbose else ''}ok\n".encode())
