"""/health: alarms, leader, and a read, in this order; the first that fails is the reason.

Source: etcd server/etcdserver/api/etcdhttp/health.go of 3.5.33 (`serializable`), metrics.go of 3.5.1.
"""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import parse_qs

from balsad.api.web.answers import OK, SERVICE_UNAVAILABLE, TEXT, allows_get_only, refuse
from balsad.api.web.backend import CORRUPT, NOSPACE, WebBackend
from balsad.observe import get_logger
from balsad.observe.metrics import Metrics
from balsad.transport import HttpRequest, HttpResponder

_log = get_logger(__name__)
_ALARM_REASONS: Final = {NOSPACE: "ALARM NOSPACE", CORRUPT: "ALARM CORRUPT"}


class HealthPage:
    def __init__(self, backend: WebBackend, metrics: Metrics) -> None:
        self._backend = backend
        self._metrics = metrics

    def __call__(self, request: HttpRequest, responder: HttpResponder) -> None:
        if not allows_get_only(request, responder):
            _log.warning("/health error", extra={"status-code": 405})
            return
        query = parse_qs(request.query, keep_blank_values=True)
        serializable = query.get("serializable", [""])[0] == "true"
        reason = self._alarm(set(query.get("exclude", ())))
        if not reason and not serializable and self._backend.leader == 0:
            _log.warning("serving /health false; no leader")
            reason = "RAFT NO LEADER"
        if reason:
            self._answer(responder, reason)
            return

        def done(error: str) -> None:
            if error:
                _log.warning("serving /health false; Range fails", extra={"error": error})
            self._answer(responder, f"RANGE ERROR:{error}" if error else "")

        self._backend.read(serializable=serializable, done=done)

    def _alarm(self, excluded: set[str]) -> str:
        for member_id, kind in self._backend.alarms():
            if kind not in excluded:
                _log.warning(
                    "serving /health false due to an alarm", extra={"alarm": f"memberID:{member_id} alarm:{kind} "}
                )
                return _ALARM_REASONS.get(kind, "ALARM UNKNOWN")
        return ""

    def _answer(self, responder: HttpResponder, reason: str) -> None:
        if responder.closed:
            return
        # Like Go's json.Marshal, which also hides what HTML would take for a tag.
        body = json.dumps({"health": "false" if reason else "true", "reason": reason}, separators=(",", ":"))
        body = body.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
        if reason:
            self._metrics.health_failures.inc()
            _log.warning("/health error", extra={"output": body, "status-code": SERVICE_UNAVAILABLE})
            refuse(responder, SERVICE_UNAVAILABLE, body)
        else:
            self._metrics.health_success.inc()
            responder.respond(OK, TEXT, body.encode())
