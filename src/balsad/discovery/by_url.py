"""Discovery by URL: the registry in the keys of another etcd's API v2, as before 3.6.

    URL/_config/size     how many there shall be
    URL/ID               name=url,name=url; who came first is in, by created index

    ask --> full? --> register (once only) --> ask again every second, until there are enough

Source: etcd server/etcdserver/api/v2discovery/discovery.go. It waits by long polls; what comes of it is the same.
"""

from __future__ import annotations

import asyncio
import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from balsad import go_json
from balsad.config import StartError, parse_url_map
from balsad.discovery.refusals import (
    BAD_ENDPOINT,
    BAD_SIZE,
    DUPLICATE_ID,
    DUPLICATE_NAME,
    FULL,
    DiscoveryError,
    invalid_url,
)
from balsad.go_quote import quote_go
from balsad.observe.logs import get_logger

if TYPE_CHECKING:
    from balsad.config import ServerConfig

log = get_logger(__name__)

REQUEST_S_MAX: Final = 5.0
LOOK_S: Final = 1.0
DOUBLINGS_MAX: Final = 8
ANSWER_BYTES_MAX: Final = 16 << 20
_KEY_EXISTS: Final = 105

Ask = Callable[[str, str, str], tuple[int, bytes]]
"""Status and body of one HTTP request: method, URL, form. Raises: OSError."""


class Registry:
    def __init__(self, url: str, ask: Ask, *, pause: Callable[[float], Awaitable[None]]) -> None:
        self._url = url.rstrip("/")
        self._ask_http = ask
        self._pause = pause
        self._retries = 0

    async def join(self, member_id: str, own: str) -> str:
        """Register, wait for the others; gives the initial cluster. Raises: DiscoveryError."""
        await self._members(member_id)
        await self._register(member_id, own)
        return await self._wait(member_id)

    async def members(self) -> str:
        """The cluster, once all are there, as who has no place in it sees it. Raises: DiscoveryError."""
        return await self._wait("")

    async def _wait(self, member_id: str) -> str:
        while True:
            members, size = await self._members(member_id)
            facts = {"discovery-url": self._url, "found-peers": len(members)}
            if len(members) >= size:
                log.info("found all needed peers from discovery server", extra=facts)
                return _cluster(members[:size], size)
            log.info(
                "found peers from discovery server; waiting for more",
                extra={**facts, "needed-peers": size - len(members)},
            )
            await self._pause(LOOK_S)

    async def _register(self, member_id: str, own: str) -> None:
        form = urllib.parse.urlencode({"value": own})
        try:
            answer = await self._once("PUT", f"{self._url}/{member_id}?prevExist=false", form)
        except OSError as error:
            # It may have been heard: a second time it would be a duplicate.
            raise DiscoveryError(str(error)) from None
        if answer.get("errorCode") == _KEY_EXISTS:
            raise DiscoveryError(DUPLICATE_ID)
        _check(answer)

    async def _members(self, member_id: str) -> tuple[list[str], int]:
        """What the members wrote, who came first is first, and how many there shall be.

        Raises: DiscoveryError, also when there is no place for `member_id`; who has none asks for none.
        """
        answer = await self._patiently(f"{self._url}/_config/size")
        text = str(_node(answer).get("value", ""))
        if not (text.isascii() and text.isdecimal()):
            raise DiscoveryError(BAD_SIZE)
        size = int(text)
        nodes = _node(await self._patiently(self._url)).get("nodes") or []
        listed = [
            (int(node["createdIndex"]), str(node["key"]).rpartition("/")[2], str(node.get("value", "")))
            for node in nodes
            if isinstance(node, dict) and not str(node.get("key")).endswith("/_config")
        ]
        listed.sort()
        if member_id and member_id not in [key for _, key, _ in listed[:size]] and len(listed) >= size:
            raise DiscoveryError(FULL)
        return [value for _, _, value in listed], size

    async def _patiently(self, url: str) -> dict[str, Any]:
        """Raises: DiscoveryError."""
        while True:
            try:
                answer = await self._once("GET", url, "")
            except OSError as error:
                self._retries += 1
                backoff_s = float(1 << min(self._retries, DOUBLINGS_MAX))
                facts = {"url": self._url, "backoff": f"{backoff_s:.0f}s", "error": str(error)}
                log.warning("retry connecting to discovery service", extra=facts)
                await self._pause(backoff_s)
            else:
                self._retries = 0
                return answer

    async def _once(self, method: str, url: str, form: str) -> dict[str, Any]:
        """Raises: OSError, DiscoveryError."""
        status, body = await asyncio.to_thread(self._ask_http, method, url, form)
        if status >= 500:
            raise ConnectionError(f"unexpected status {status} from {url}")
        try:
            answer = go_json.loads(body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise DiscoveryError(BAD_ENDPOINT)
        return answer


def _check(answer: dict[str, Any]) -> None:
    """Raises: DiscoveryError when it is a refusal."""
    if "errorCode" in answer:
        words = f"{answer['errorCode']}: {answer.get('message', '')} ({answer.get('cause', '')})"
        raise DiscoveryError(f"{words} [{answer.get('index', 0)}]")


def _node(answer: dict[str, Any]) -> dict[str, Any]:
    """Raises: DiscoveryError."""
    _check(answer)
    node = answer.get("node")
    if not isinstance(node, dict):
        raise DiscoveryError(BAD_ENDPOINT)
    return node


def _cluster(members: list[str], size: int) -> str:
    """Raises: DiscoveryError."""
    found = ",".join(members)
    try:
        names = parse_url_map(found)
    except ValueError:
        raise DiscoveryError(invalid_url("URL")) from None
    if len(names) != size:
        raise DiscoveryError(DUPLICATE_NAME)
    return found


def _asker(proxy: str) -> Ask:
    """A way to ask, through `proxy` unless that is empty."""
    through = {"http": proxy, "https": proxy} if proxy else {}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(through))

    def ask(method: str, url: str, form: str) -> tuple[int, bytes]:
        request = urllib.request.Request(url, data=form.encode() if form else None, method=method)
        try:
            with opener.open(request, timeout=REQUEST_S_MAX) as answer:
                return answer.status, answer.read(ANSWER_BYTES_MAX)
        except urllib.error.HTTPError as error:
            return error.code, error.read(ANSWER_BYTES_MAX)
        except http.client.HTTPException as error:
            raise ConnectionError(f"{type(error).__name__}: {error}") from error

    return ask


async def join(config: ServerConfig, member_id: str, own: str) -> str:
    """The initial cluster that the registry at `--discovery` agrees on. Raises: DiscoveryError, StartError."""
    return await _registry(config).join(member_id, own)


async def members(config: ServerConfig) -> str:
    """The same for somebody who does not take part. Raises: DiscoveryError, StartError."""
    return await _registry(config).members()


def _registry(config: ServerConfig) -> Registry:
    url = urllib.parse.urlsplit(config.discovery)
    if url.scheme not in ("http", "https") or not url.netloc:
        raise StartError(f"invalid discovery URL {quote_go(config.discovery)}: expected http://HOST/PATH")
    proxy = config.discovery_proxy
    if proxy:
        proxy = proxy if proxy.startswith("http") else f"http://{proxy}"
        log.info("running proxy with discovery", extra={"proxy-url": proxy})
    return Registry(config.discovery, _asker(proxy), pause=asyncio.sleep)
