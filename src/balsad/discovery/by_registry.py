"""Discovery v3: the members of a cluster to be write themselves into another etcd, until there are enough.

    /_etcd/registry/TOKEN/_config/size       how many there shall be; an operator puts it there
    /_etcd/registry/TOKEN/members/ID         name=url,name=url; who came first is in, by create revision

    ask --> full? --> register --> ask --> watch until there are enough

What goes wrong on the way is tried again, after 2, 4, 8 ... 256 s.

Source: etcd server/etcdserver/api/v3discovery/discovery.go (3.6), client/v3/config.go.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

from balsad.client import Client
from balsad.client.tls import client_context
from balsad.config import StartError, parse_url_map
from balsad.discovery.refusals import BAD_SIZE, FULL, SIZE_NOT_FOUND, DiscoveryError, invalid_url
from balsad.errors import RequestError
from balsad.observe.logs import get_logger

if TYPE_CHECKING:
    from balsad.config import ServerConfig

log = get_logger(__name__)

T = TypeVar("T")

PREFIX: Final = "/_etcd/registry/"
DOUBLINGS_MAX: Final = 8
_INT_MAX: Final = (1 << 63) - 1


class Members:
    """Who has registered: `name=urls` by key, in the order they came."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.revision = 0
        self._by_key: dict[str, tuple[int, str]] = {}

    def add(self, key: str, value: str, create_revision: int) -> None:
        facts = {"memberKey": key, "memberInfo": value}
        if "=" not in value:
            log.warning("invalid peer info returned from discovery service", extra=facts)
        elif key in self._by_key:
            log.warning("found duplicate peer from discovery service", extra=facts)
        else:
            self._by_key[key] = (create_revision, value)
            log.info("found peer from discovery service", extra=facts)

    @property
    def is_complete(self) -> bool:
        return len(self._by_key) >= self.size

    def lets_in(self, key: str) -> bool:
        """Whether the member of `key` is one of the first, or may become one."""
        keys = sorted(self._by_key, key=self._by_key.__getitem__)
        return key in keys[: self.size] or (key not in keys and not self.is_complete)

    def cluster(self) -> str:
        """The initial cluster of those who came first. Raises: DiscoveryError."""
        found = ",".join(value for _, value in sorted(self._by_key.values())[: self.size])
        try:
            parse_url_map(found)
        except ValueError:
            raise DiscoveryError(invalid_url("peer URL")) from None
        return found


class Registry:
    """One token's part of the registry."""

    def __init__(
        self, client: Client, token: str, *, timeout_s: float, pause: Callable[[float], Awaitable[None]]
    ) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._pause = pause
        self._root = PREFIX + token.strip("/")
        self._retries = 0

    def member_key(self, member_id: str) -> str:
        return f"{self._root}/members/{member_id}"

    async def join(self, member_id: str, own: str) -> str:
        """Register, wait for the others; gives the initial cluster. Raises: DiscoveryError."""
        key = self.member_key(member_id)
        await self._ask(key)
        await self._patiently("register member itself", lambda: self._register(key, own))
        members = await self._ask(key)
        while not members.is_complete:
            try:
                await self._watch(members)
            except (RequestError, OSError) as error:
                await self._back_off("waiting for other nodes", error)
                members = await self._ask(key)
        return members.cluster()

    async def _ask(self, key: str) -> Members:
        """How many there shall be and who is there. Raises: DiscoveryError."""
        members = await self._patiently("cluster status check", self._members)
        if not members.lets_in(key):
            raise DiscoveryError(FULL)
        return members

    async def _members(self) -> Members:
        kv = self._client.kv
        found = await kv.get(f"{self._root}/_config/size", timeout=self._timeout_s)
        if not found.kvs:
            raise DiscoveryError(SIZE_NOT_FOUND)
        text = found.kvs[0].value.decode("utf-8", "replace")
        digits = text.removeprefix("+")
        if not (digits.isascii() and digits.isdecimal()) or not 0 < int(digits) <= _INT_MAX:
            raise DiscoveryError(BAD_SIZE)
        members = Members(int(digits))
        listed = await kv.get(f"{self._root}/members", prefix=True, timeout=self._timeout_s)
        members.revision = listed.header.revision
        for one in listed.kvs:
            members.add(_text(one.key), _text(one.value), one.create_revision)
        return members

    async def _register(self, key: str, own: str) -> None:
        await self._client.kv.put(key, own, timeout=self._timeout_s)
        log.info("register member itself successfully", extra={"memberKey": key, "memberInfo": own})

    async def _watch(self, members: Members) -> None:
        """Return when all are there. Raises: RequestError, OSError."""
        facts = {"clusterSize": members.size}
        log.info("waiting for peers from discovery service", extra=facts)
        watcher = self._client.watch.watch(f"{self._root}/members", prefix=True, revision=members.revision + 1)
        try:
            async for response in watcher:
                for event in response.events:
                    members.add(_text(event.kv.key), _text(event.kv.value), event.kv.create_revision)
                if members.is_complete:
                    log.info("found all needed peers from discovery service", extra=facts)
                    return
        finally:
            watcher.cancel()
        raise ConnectionError("the watch ended")

    async def _patiently(self, step: str, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` gives, as soon as the registry can be reached. Raises: DiscoveryError."""
        while True:
            try:
                result = await work()
            except (RequestError, OSError) as error:
                await self._back_off(step, error)
            else:
                self._retries = 0
                return result

    async def _back_off(self, step: str, error: Exception) -> None:
        self._retries += 1
        backoff_s = float(1 << min(self._retries, DOUBLINGS_MAX))
        facts = {"reason": step, "backoff": f"{backoff_s:.0f}s", "error": str(error)}
        log.warning("retry connecting to discovery service", extra=facts)
        await self._pause(backoff_s)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").strip()


async def join(config: ServerConfig, member_id: str, own: str) -> str:
    """The initial cluster that the registry agrees on. Raises: DiscoveryError, StartError."""
    user, password = config.discovery_user, config.discovery_password
    if user and not password:
        user, colon, password = user.partition(":")
        if not colon:
            raise StartError("--discovery-user needs a password: user:password, or --discovery-password")
    client = Client(
        config.discovery_endpoints,
        user=user,
        password=password,
        tls=_tls(config),
        dial_timeout_s=config.discovery_dial_timeout_s,
        keepalive_time_s=config.discovery_keepalive_time_s,
        keepalive_timeout_s=config.discovery_keepalive_timeout_s,
    )
    try:
        try:
            await client.connect()
        except RequestError as error:
            raise DiscoveryError(str(error)) from None
        registry = Registry(
            client, config.discovery_token, timeout_s=config.discovery_request_timeout_s, pause=asyncio.sleep
        )
        return await registry.join(member_id, own)
    finally:
        await client.close()


def _tls(config: ServerConfig) -> ssl.SSLContext | None:
    """Raises: StartError."""
    cert, key, cacert = config.discovery_cert, config.discovery_key, config.discovery_cacert
    skip = config.discovery_insecure_skip_tls_verify
    if not (cert or key or cacert or skip) and config.discovery_insecure_transport:
        return None
    if bool(cert) != bool(key):
        raise StartError(f"KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")
    try:
        return client_context(cacert=cacert, cert=cert, key=key, insecure_skip_verify=skip)
    except OSError as error:  # which an ssl.SSLError is, too
        raise StartError(f"cannot use the discovery certificates: {error}") from None
