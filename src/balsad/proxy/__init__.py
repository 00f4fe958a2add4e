"""A gRPC proxy in front of a cluster: many clients, few connections and watches of its own."""

from balsad.proxy.serve import serve
from balsad.proxy.settings import Settings

__all__ = ["Settings", "serve"]
