"""Proxies in front of a cluster: for gRPC, many clients on few connections and watches; for HTTP, v2 clients."""

from balsad.proxy.serve import serve
from balsad.proxy.settings import Settings
from balsad.proxy.v2_serve import serve_v2

__all__ = ["Settings", "serve", "serve_v2"]
