"""Bytes on the wire: gRPC over HTTP/2 and plain HTTP on one port, with or without TLS."""

from balsad.transport.call import Call
from balsad.transport.faces import StreamHandler
from balsad.transport.http import HttpRequest, HttpResponder
from balsad.transport.limits import Limits
from balsad.transport.listener import Listener
from balsad.transport.methods import Headers, Method
from balsad.transport.rpc_server import RpcServer
from balsad.transport.tls import ServerTls

__all__ = [
    "Call",
    "Headers",
    "HttpRequest",
    "HttpResponder",
    "Limits",
    "Listener",
    "Method",
    "RpcServer",
    "ServerTls",
    "StreamHandler",
]
