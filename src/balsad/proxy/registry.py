"""Proxies of one prefix know each other by keys there, under leases that they keep alive.

    <prefix>/10.0.0.1:23790 -> {"Op":0,"Addr":"10.0.0.1:23790","Metadata":"{\\"name\\":\\"host\\"}"}

Source: etcd server/proxy/grpcproxy register.go, cluster.go; client/v3/naming/endpoints.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Coroutine, Mapping
from typing import Final

from balsad.client import Client
from balsad.client.messages import Event
from balsad.errors import RequestError
from balsad.observe.logs import get_logger
from balsad.proxy.namespace import Namespace

RETRY_S: Final = 1.0
_log = get_logger(__name__)


class Registry:
    """Keeps this proxy's key, and knows those of the others."""

    def __init__(self, client: Client, namespace: Namespace, prefix: str, address: str, ttl_s: int) -> None:
        self._client = client
        self._prefix = namespace.prefix + prefix.encode("utf-8", "surrogateescape")
        self._address = address
        self._ttl_s = ttl_s
        self._found: dict[bytes, tuple[str, str]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def members(self) -> Mapping[str, str]:
        """Names of the proxies by their addresses."""
        return dict(self._found.values())

    def start(self) -> None:
        for work in (self._stay_registered, self._watch):
            self._tasks.append(asyncio.get_running_loop().create_task(self._for_ever(work), name="registry"))

    def close(self) -> None:
        """The key stays until its lease ends: who restarts is not missed meanwhile."""
        for task in self._tasks:
            task.cancel()

    async def _for_ever(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        while True:
            try:
                await work()
            except RequestError as error:
                _log.warning(
                    "failed to keep up with other proxies", extra={"prefix": self._prefix.decode(), "error": error}
                )
            await asyncio.sleep(RETRY_S)

    async def _stay_registered(self) -> None:
        session = await self._client.session(ttl_s=self._ttl_s).open()
        about = json.dumps({"name": socket.gethostname()}, separators=(",", ":"))
        value = json.dumps({"Op": 0, "Addr": self._address, "Metadata": about}, separators=(",", ":"))
        key = self._prefix + b"/" + self._address.encode("utf-8", "surrogateescape")
        await self._client.kv.put(key, value, lease=session.lease_id)
        _log.info("registered session with lease", extra={"addr": self._address, "lease-ttl": self._ttl_s})
        await session.wait_expired()
        _log.warning("session expired; possible network partition or server restart")
        _log.warning("creating a new session to rejoin")

    async def _watch(self) -> None:
        answer = await self._client.kv.get(self._prefix, prefix=True, serializable=True)
        self._found.clear()
        for pair in answer.kvs:
            self._learn(pair.key, pair.value)
        watcher = self._client.watch.watch(
            self._prefix, prefix=True, revision=answer.header.revision + 1, require_leader=False
        )
        try:
            async for response in watcher:
                for event in response.events:
                    if event.type == Event.DELETE:
                        self._found.pop(event.kv.key, None)
                    else:
                        self._learn(event.kv.key, event.kv.value)
        finally:
            watcher.cancel()

    def _learn(self, key: bytes, value: bytes) -> None:
        try:
            told = json.loads(value)
            address, name = told["Addr"], json.loads(told["Metadata"])["name"]
        except (ValueError, KeyError, TypeError):
            _log.warning("unmarshal endpoint update failed", extra={"key": key.decode("utf-8", "backslashreplace")})
            return
        if isinstance(address, str) and isinstance(name, str):
            self._found[key] = address, name
