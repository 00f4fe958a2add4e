"""All HTTP that is not gRPC: the pages of this room, and what other rooms hang beside them."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from balsad.api.web.access import AccessController, AccessRules
from balsad.api.web.answers import Handler
from balsad.api.web.backend import WebBackend
from balsad.api.web.health import HealthPage
from balsad.api.web.mux import Mux
from balsad.api.web.pages import metrics_page, vars_page, version_page
from balsad.api.web.probes import add_probes
from balsad.observe.metrics import Metrics


def client_handler(
    backend: WebBackend,
    metrics: Metrics,
    rules: AccessRules,
    *,
    mounts: Mapping[str, Handler] | None = None,
    authenticates_by_certificate: bool = False,
) -> Handler:
    """What a client URL answers. `mounts` are further handlers, such as `/v3/` of the JSON gateway and `/v2/`.

    `authenticates_by_certificate`: client-cert-auth and the gateway are both on.
    """
    mux = Mux()
    mux.add("/version", version_page(backend))
    mux.add("/debug/vars", vars_page(backend, sys.argv))
    _add_monitoring(mux, backend, metrics)
    for pattern, handler in (mounts or {}).items():
        mux.add(pattern, handler)
    return AccessController(rules, mux, refuses_names=lambda: authenticates_by_certificate and backend.is_auth_enabled)


def monitoring_handler(backend: WebBackend, metrics: Metrics) -> Handler:
    """What a URL of --listen-metrics-urls answers: metrics and health."""
    mux = Mux()
    _add_monitoring(mux, backend, metrics)
    return mux


def _add_monitoring(mux: Mux, backend: WebBackend, metrics: Metrics) -> None:
    mux.add("/metrics", metrics_page(metrics))
    mux.add("/health", HealthPage(backend, metrics))
    add_probes(mux, backend, metrics)
