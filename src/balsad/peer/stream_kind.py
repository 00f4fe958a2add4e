"""The two streams that a member opens to each other one, and their names in paths and log lines."""

from __future__ import annotations

from typing import Final


class StreamKind:
    __slots__ = ("name", "path", "short_name")

    def __init__(self, name: str, path: str, short_name: str) -> None:
        self.name = name
        self.path = path
        self.short_name = short_name


MSGAPP: Final = StreamKind("stream MsgApp v2", "/raft/stream/msgapp", "streamMsgAppV2")
"""Appends only; see `codec`."""
MESSAGE: Final = StreamKind("stream Message", "/raft/stream/message", "streamMsg")
"""Everything else but snapshots, and appends while there is no other way."""
