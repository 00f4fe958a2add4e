"""Member to member: etcd's peer protocol, so that members of both kinds make one cluster."""

from balsad.peer.backend import DbSnapshot, HashKv, LeaseTimes, PeerBackend, RaftBackend
from balsad.peer.client_tls import client_tls
from balsad.peer.counts import PeerCounts, connect_metrics, copy_peer_counts
from balsad.peer.http_answer import AnswerReader, BrokenAnswerError
from balsad.peer.http_client import Dialer, DialError, dial_error, go_error, request_head
from balsad.peer.listener import PeerListener
from balsad.peer.questions import PeerClient, PeerQuestionError, RemoteCluster, Versions
from balsad.peer.self_signed import self_signed
from balsad.peer.server import peer_server
from balsad.peer.tls import PeerTls
from balsad.peer.transport import PeerTransport

__all__ = [
    "AnswerReader",
    "BrokenAnswerError",
    "DbSnapshot",
    "DialError",
    "Dialer",
    "HashKv",
    "LeaseTimes",
    "PeerBackend",
    "PeerClient",
    "PeerCounts",
    "PeerListener",
    "PeerQuestionError",
    "PeerTls",
    "PeerTransport",
    "RaftBackend",
    "RemoteCluster",
    "Versions",
    "client_tls",
    "connect_metrics",
    "copy_peer_counts",
    "dial_error",
    "go_error",
    "peer_server",
    "request_head",
    "self_signed",
]
