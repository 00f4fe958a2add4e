"""`etcd gateway`'s proxy: bytes from each client to one of the endpoints, and back.

    active --cannot be reached--> inactive --reached when tried again, every --retry-delay--> active

    who is next: of the active ones those of the best priority; among them by chance of weight, or, if none has a
    weight, each in its turn

Source: etcd server/proxy/tcpproxy/userspace.go.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass
from typing import Final

from balsad.observe import get_logger

_log = get_logger(__name__)

CHUNK_BYTES: Final = 1 << 16
_DEFAULT_RETRY_S: Final = 300.0


@dataclass(slots=True, kw_only=True, eq=False)
class Remote:
    """An endpoint; priority and weight are those of its SRV record."""

    host: str
    port: int
    priority: int = 0
    weight: int = 0
    is_active: bool = True

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


class Remotes:
    def __init__(self, remotes: list[Remote], dice: random.Random) -> None:
        self.all: Final = remotes
        self._dice = dice
        self._turn = 0

    def pick(self) -> Remote | None:
        """Who serves the next client; None when nobody is active."""
        active = [remote for remote in self.all if remote.is_active]
        if not active:
            return None
        best = min(remote.priority for remote in active)
        chosen = [remote for remote in active if remote.priority == best]
        weighted = [remote for remote in chosen if remote.weight > 0]
        weightless = [remote for remote in chosen if remote.weight == 0]
        if weighted:
            # Those without a weight have a very small chance beside those with one.
            if weightless and self._dice.randrange(100) == 1:
                return self._in_turn(weightless)
            return self._dice.choices(weighted, [remote.weight for remote in weighted])[0]
        return self._in_turn(weightless)

    def _in_turn(self, remotes: list[Remote]) -> Remote:
        self._turn += 1
        return remotes[(self._turn - 1) % len(remotes)]


class TcpProxy:
    def __init__(self, remotes: Remotes, *, retry_s: float) -> None:
        self._remotes = remotes
        self._retry_s = retry_s or _DEFAULT_RETRY_S
        self._clients: set[asyncio.Task[None]] = set()

    async def serve(self, listener: asyncio.Server) -> None:
        """Until cancelled."""
        _log.info(
            "ready to proxy client requests", extra={"endpoints": [remote.address for remote in self._remotes.all]}
        )
        async with listener:
            await listener.start_serving()
            await self._retry()

    async def on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, to its end."""
        there = await self._connect()
        if there is None:
            writer.close()
            return
        there_reader, there_writer = there
        back = asyncio.create_task(_copy(there_reader, writer), name="gateway, back")
        try:
            await _copy(reader, there_writer)
        finally:
            # As etcd's: when one side is done, so is the other.
            for one in (there_writer, writer):
                one.close()
            back.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await back

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        while (remote := self._remotes.pick()) is not None:
            try:
                return await asyncio.open_connection(remote.host, remote.port, limit=CHUNK_BYTES)
            except OSError as error:
                remote.is_active = False
                _log.warning("deactivated endpoint", extra=self._fields(remote, error))
        return None

    async def _retry(self) -> None:
        while True:
            await asyncio.sleep(self._retry_s)
            for remote in self._remotes.all:
                if not remote.is_active:
                    await self._try_again(remote)

    async def _try_again(self, remote: Remote) -> None:
        try:
            _, writer = await asyncio.open_connection(remote.host, remote.port)
        except OSError as error:
            _log.warning(
                "failed to activate endpoint (stay inactive for another interval)", extra=self._fields(remote, error)
            )
            return
        writer.close()
        remote.is_active = True
        _log.info("activated", extra={"address": remote.address})

    def _fields(self, remote: Remote, error: OSError) -> dict[str, object]:
        reason = (error.strerror or str(error)).lower()
        if isinstance(error, ConnectionRefusedError):
            reason = "connect: connection refused"
        return {
            "address": remote.address,
            "interval": self._retry_s,
            "error": f"dial tcp {remote.address}: {reason}",
        }


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one of them is at its end. What is not yet written bounds what is read: `drain` waits."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()
