"""Streams whose clients asked for a leader (`hasleader`): they end when this member has had none for long.

Opening one needs a leader at that moment (Door.admit). Later a member that was cut off could serve it for ever
and tell nothing: after three election timeouts without a leader it sends the client to other members.

Source: etcd server/etcdserver/api/v3rpc/interceptor.go (monitorLeader).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from balsad.errors import NoLeaderError

if TYPE_CHECKING:
    from balsad.server.service import Service
    from balsad.transport import Call, StreamHandler

# How often no leader has to be found, an election timeout apart.
LOOKS: Final = 3
# Streams that are over are forgotten at each look, and when this many and twice those that were left have come.
FORGET_AT: Final = 1024


class LedStreams:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._streams: list[tuple[Call, StreamHandler]] = []
        self._forget_at = FORGET_AT
        self._looks_without = 0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._streams)

    def add(self, call: Call, handler: StreamHandler) -> None:
        self._streams.append((call, handler))
        if len(self._streams) >= self._forget_at:
            self._forget_closed()
        if self._timer is None:
            self._arm()

    def _arm(self) -> None:
        timeout_s = self._service.config.election_timeout_s
        self._timer = asyncio.get_running_loop().call_later(timeout_s, self.look)

    def _forget_closed(self) -> None:
        self._streams = [stream for stream in self._streams if not stream[0].closed]
        self._forget_at = max(FORGET_AT, 2 * len(self._streams))

    def look(self) -> None:
        """An election timeout after the last one, while there are any."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._looks_without = self._looks_without + 1 if self._service.leader == 0 else 0
        self._forget_closed()
        if self._looks_without >= LOOKS:
            streams, self._streams = self._streams, []
            refusal = NoLeaderError()
            for call, handler in streams:
                call.fail(refusal.code, refusal.text)
                handler.on_cancel()
        if self._streams:
            self._arm()
        else:
            self._looks_without = 0
