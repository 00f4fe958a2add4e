"""The JSON gateway: gRPC's methods as HTTP POSTs below /v3/."""

from balsad.api.gateway.pages import Gateway

__all__ = ["Gateway"]
