"""What one client may cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DESCRIPTORS_RESERVED: Final = 150
"""For the log, the database, other members. Source: etcd embed reservedInternalFDNum."""
PEERS_RESERVED: Final = 64


@dataclass(frozen=True, slots=True)
class Shares:
    """How many connections there may be at a time on either port, so that no crowd takes what others need."""

    clients: int
    peers: int


def share_descriptors(limit: int) -> Shares:
    """`limit` is how many descriptors the process may have, more than are reserved."""
    peers = max(PEERS_RESERVED, min(1000, limit // 8))
    return Shares(limit - DESCRIPTORS_RESERVED - (peers - PEERS_RESERVED), peers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of a server's connections. Sizes in bytes, times in seconds."""

    message_bytes_max: int = 1536 * 1024 + 512 * 1024
    """The largest message taken: etcd's max-request-bytes and 512 KiB on top."""
    connections_max: int = 1 << 30
    """Clients at a time, those that shake hands for TLS among them; others wait to be accepted."""
    streams_max: int = 0xFFFFFFFF
    """Concurrent streams of a connection as told to clients; 2**32 - 1 tells nothing."""
    streams_hard_max: int = 50_000
    """Concurrent streams of a connection that are really served."""
    header_list_bytes_max: int = 64 * 1024
    header_block_frames_max: int = 64
    """HEADERS and CONTINUATION frames of one block."""
    queue_bytes_max: int = 256 << 20
    """A connection that leaves more than this unread is closed; a single larger answer is not held against it."""
    partial_bytes_max: int = 256 << 20
    """Bytes of messages of a connection that have begun and not ended."""
    held_bytes_max: int = 1 << 30
    """What all connections together leave unread or unfinished; beyond it those that hold most are closed."""
    crowd_bytes: int = 64 << 20
    """With more than this unread, whoever is told of events may be behind with less: many are, or a few with much."""
    behind_bytes: int = 256 << 20
    """A 256th of what is left of it is how much those who are told of the past get at a time."""
    nuisance_burst: int = 4000
    nuisance_per_s: int = 400
    """How often a connection may do what costs us and brings nobody anything: resets of calls under way, settings,
    priorities, empty or unknown frames."""

    ping_interval_s_min: float = 5.0
    ping_without_calls: bool = False
    """Keepalive enforcement, as grpc-go's EnforcementPolicy."""
    keepalive_time_s: float = 7200.0
    keepalive_timeout_s: float = 20.0

    preface_timeout_s: float = 120.0
    handshake_timeout_s: float = 60.0

    http_header_bytes_max: int = (1 << 20) + 4096
    http_header_timeout_s: float = 60.0
    http_body_bytes_max: int = 16 << 20
