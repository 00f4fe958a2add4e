"""Bytes on the wire: gRPC over HTTP/2 and plain HTTP on one port, with or without TLS."""

from balsad.transport.accepter import Accepter
from balsad.transport.call import Call
from balsad.transport.faces import StreamHandler
from balsad.transport.http import HttpRequest, HttpResponder
from balsad.transport.limits import DESCRIPTORS_RESERVED, Limits, Shares, share_descriptors
from balsad.transport.listener import Listener
from balsad.transport.methods import Headers, Method
from balsad.transport.revocation import RevocationList
from balsad.transport.rpc_server import RpcServer
from balsad.transport.tls import ServerTls, why_unusable

__all__ = [
    "DESCRIPTORS_RESERVED",
    "Accepter",
    "Call",
    "Headers",
    "HttpRequest",
    "HttpResponder",
    "Limits",
    "Listener",
    "Method",
    "RevocationList",
    "RpcServer",
    "ServerTls",
    "Shares",
    "StreamHandler",
    "share_descriptors",
    "why_unusable",
]
