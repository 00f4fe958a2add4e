"""What clients talk to: gRPC services, and the plain HTTP beside them."""

from balsad.api.concurrency import register_concurrency
from balsad.api.gateway import Gateway
from balsad.api.member_pages import MemberPages
from balsad.api.v2 import v2_mounts
from balsad.api.v3 import GrpcServices, register_services
from balsad.api.web import AccessController, Handler, Mux, client_handler, monitoring_handler, refuse
from balsad.api.web.call_traces import CallTraces
from balsad.api.web.pages import metrics_page
from balsad.api.web.pprof import pprof_pages

__all__ = [
    "AccessController",
    "CallTraces",
    "Gateway",
    "GrpcServices",
    "Handler",
    "MemberPages",
    "Mux",
    "client_handler",
    "metrics_page",
    "monitoring_handler",
    "pprof_pages",
    "refuse",
    "register_concurrency",
    "register_services",
    "v2_mounts",
]
