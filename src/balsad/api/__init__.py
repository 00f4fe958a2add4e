"""What clients talk to: gRPC services, and the plain HTTP beside them."""

from balsad.api.member_pages import MemberPages
from balsad.api.v3 import GrpcServices, register_services
from balsad.api.web import client_handler, monitoring_handler

__all__ = ["GrpcServices", "MemberPages", "client_handler", "monitoring_handler", "register_services"]
