"""Health, version, metrics and debug pages over plain HTTP."""

from balsad.api.web.access import AccessController, AccessRules
from balsad.api.web.answers import Handler, not_found, refuse
from balsad.api.web.backend import ProgressStatus, RaftStatus, WebBackend
from balsad.api.web.handler import client_handler, monitoring_handler
from balsad.api.web.mux import Mux

__all__ = [
    "AccessController",
    "AccessRules",
    "Handler",
    "Mux",
    "ProgressStatus",
    "RaftStatus",
    "WebBackend",
    "client_handler",
    "monitoring_handler",
    "not_found",
    "refuse",
]
