"""Peer and client URLs as etcd accepts them, and the `name=url,...` form of the initial cluster.

Source: etcd client/pkg/types NewURLs, NewURLsMap.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//([^/?#]*))?(.*)", re.DOTALL)
_SCHEMES: Final = ("http", "https", "unix", "unixs")
_HOST_PORT: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*):([^:\[\]]*)")


def parse_urls(texts: Iterable[str]) -> tuple[str, ...]:
    """The URLs, trimmed, checked and sorted. Raises ValueError with etcd's words."""
    urls = sorted(_checked(text.strip()) for text in texts)
    if not urls:
        raise ValueError("no valid URLs given")
    return tuple(urls)


def _checked(text: str) -> str:
    for char in text:
        if char < " " or char == "\x7f":
            raise ValueError(f"parse {_go_quote(text)}: net/url: invalid control character in URL")
    match = _URL.fullmatch(text)
    if match is None:
        if text.startswith(":"):
            raise ValueError(f"parse {_go_quote(text)}: missing protocol scheme")
        if ":" in text.split("/", 1)[0]:
            raise ValueError(f"parse {_go_quote(text)}: first path segment in URL cannot contain colon")
        raise ValueError(f"URL scheme must be http, https, unix, or unixs: {text}")
    scheme, _, host, rest = match.groups()
    if scheme.lower() not in _SCHEMES:
        raise ValueError(f"URL scheme must be http, https, unix, or unixs: {text}")
    port = _HOST_PORT.fullmatch(host or "")
    if port is None:
        raise ValueError(f'URL address does not have the form "host:port": {text}')
    if port.group(2) and not port.group(2).isdecimal() and not scheme.lower().startswith("unix"):
        raise ValueError(f"parse {_go_quote(text)}: invalid port {_go_quote(':' + port.group(2))} after host")
    if re.split("[?#]", rest, maxsplit=1)[0]:
        raise ValueError(f"URL must not contain a path: {text}")
    return scheme.lower() + text[len(scheme) :]


def _go_quote(text: str) -> str:
    return (
        '"'
        + "".join(
            f"\\x{ord(char):02x}" if char < " " or char == "\x7f" else "\\" + char if char in '"\\' else char
            for char in text
        )
        + '"'
    )


def parse_initial_cluster(text: str) -> dict[str, tuple[str, ...]]:
    """The peer URLs by member name of `name=url,name=url,...`; a name may come several times.

    Raises: ValueError with etcd's words for a URL that is none.
    """
    found: dict[str, list[str]] = {}
    for pair in text.split(","):
        if pair:
            name, _, url = pair.partition("=")
            found.setdefault(name, []).append(url)
    return {name: parse_urls(urls) for name, urls in found.items()}
