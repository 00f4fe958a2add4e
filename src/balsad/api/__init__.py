"""What clients talk to: gRPC services, and the plain HTTP beside them."""

from balsad.api.v3 import register_services

__all__ = ["register_services"]
