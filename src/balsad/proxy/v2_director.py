"""Where a v2 proxy sends requests: the client URLs of the members, as one of them tells now and then.

    available --does not answer--> unavailable --failure wait over--> available

Source: etcd server/proxy/httpproxy/director.go; etcdmain/etcd.go startProxy.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from balsad.config import StartError, Url, parse_url
from balsad.observe.logs import get_logger
from balsad.peer import PeerClient, PeerQuestionError

if TYPE_CHECKING:
    from balsad.config import ServerConfig
    from balsad.env import Disk

REFRESH_S: Final = 30.0
"""With as much or more between refreshes, a proxy that knows nobody asks each second."""
_log = get_logger(__name__)


class Endpoint:
    def __init__(self, url: Url) -> None:
        self.url = url
        self.is_available = True


class ClusterFile:
    """The peer URLs of the members as they were last told, so that a proxy finds a cluster that has moved."""

    def __init__(self, disk: Disk, folder: str) -> None:
        self._disk = disk
        self._folder = folder
        self.path = os.path.join(folder, "cluster")

    def read(self) -> list[str] | None:
        """None while there is none. Raises: StartError."""
        try:
            with open(self.path, "rb") as file:
                told = json.loads(file.read())
            urls = told["PeerURLs"]
            if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
                raise ValueError("PeerURLs is no list of URLs")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StartError(f"open {self.path}: {(error.strerror or str(error)).lower()}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise StartError(
                f"{self.path} is not what a v2 proxy writes ({error}): move it aside, and name the members by "
                "--initial-cluster"
            ) from None
        return urls

    def write(self, urls: Sequence[str]) -> None:
        """Written aside, synced, renamed. Raises: OSError."""
        disk, aside = self._disk, f"{self.path}.bak"
        fd = disk.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            data = json.dumps({"PeerURLs": list(urls)}, separators=(",", ":")).encode()
            while data:
                data = data[disk.write(fd, data) :]
            disk.fsync(fd)
        finally:
            disk.close(fd)
        disk.rename(aside, self.path)
        disk.sync_dir(self._folder)


class Director:
    """Knows the endpoints; `run` keeps them fresh until it is cancelled."""

    def __init__(self, config: ServerConfig, asker: PeerClient, file: ClusterFile, peer_urls: Sequence[str]) -> None:
        self._asker = asker
        self._file = file
        self._peer_urls = list(peer_urls)
        self._failure_wait_s = config.proxy_failure_wait_ms / 1000
        self._refresh_s = config.proxy_refresh_interval_ms / 1000
        self._endpoints: list[Endpoint] = []
        self._has_found = False

    @property
    def endpoints(self) -> list[Endpoint]:
        """Those that may be asked."""
        return [endpoint for endpoint in self._endpoints if endpoint.is_available]

    async def run(self) -> None:
        while True:
            await self._refresh()
            wait_s = self._refresh_s
            if not self.endpoints and wait_s >= REFRESH_S:
                wait_s = 1.0
            await asyncio.sleep(wait_s)

    def failed(self, endpoint: Endpoint) -> None:
        """It did not answer: others are asked for a while."""
        if not endpoint.is_available:
            return
        endpoint.is_available = False
        _log.info("marked endpoint unavailable", extra={"endpoint": str(endpoint.url)})
        asyncio.get_running_loop().call_later(self._failure_wait_s, self._try_again, endpoint)

    @staticmethod
    def _try_again(endpoint: Endpoint) -> None:
        endpoint.is_available = True
        _log.info("marked endpoint available, to retest connectivity", extra={"endpoint": str(endpoint.url)})

    async def _refresh(self) -> None:
        try:
            cluster = await self._asker.get_cluster_from_peers(self._peer_urls)
        except PeerQuestionError as error:
            facts = {"peer-urls": self._peer_urls, "error": error}
            _log.warning("failed to get cluster from remote peers", extra=facts)
            self._endpoints = []
            return
        peer_urls = sorted(url for member in cluster.members for url in member.peer_urls)
        self._keep(peer_urls)
        endpoints = []
        for text in sorted(url for member in cluster.members for url in member.client_urls):
            try:
                endpoints.append(Endpoint(parse_url(text)))
            except ValueError as error:
                _log.info("upstream URL invalid", extra={"error": error})
        random.shuffle(endpoints)
        self._endpoints = endpoints
        if endpoints and not self._has_found:
            self._has_found = True
            _log.info("endpoints found", extra={"endpoints": [str(endpoint.url) for endpoint in endpoints]})

    def _keep(self, peer_urls: list[str]) -> None:
        facts: dict[str, Any] = {"from": self._peer_urls, "to": peer_urls}
        try:
            self._file.write(peer_urls)
        except OSError as error:
            _log.warning("proxy failed to write cluster file", extra={"error": error})
            return
        if peer_urls != self._peer_urls:
            _log.info("proxy updated peer URLs", extra=facts)
        self._peer_urls = peer_urls
