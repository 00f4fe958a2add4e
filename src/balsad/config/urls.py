"""The URLs that members listen on and advertise: `scheme://host:port`, and maps of them by member name.

Source: etcd client/pkg/types urls.go and urlsmap.go; the words of refusals are Go's net/url and net.SplitHostPort.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from balsad.go_quote import quote_go

SCHEMES: Final = ("http", "https", "unix", "unixs")


@dataclass(frozen=True, slots=True, order=True)
class Url:
    """A URL without a path. `str(url)` is its canonical text, by which URLs sort.

    For `unix://a:1` the socket's file is named `a:1`: `address` is what is listened on in either case.
    """

    text: str
    scheme: str
    host: str  # without the brackets of IPv6
    port: str  # may be empty

    @property
    def address(self) -> str:
        """`host:port`, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def port_number(self) -> int:
        return int(self.port) if self.port else 0

    @property
    def is_secure(self) -> bool:
        return self.scheme in ("https", "unixs")

    @property
    def is_unix(self) -> bool:
        return self.scheme in ("unix", "unixs")

    def __str__(self) -> str:
        return self.text


def parse_url(text: str) -> Url:
    """Raises: ValueError with the sentence that etcd prints."""
    text = text.strip()
    scheme, authority, path, tail = _split(text)
    if scheme not in SCHEMES:
        raise ValueError(f"URL scheme must be http, https, unix, or unixs: {text}")
    try:
        host, port = split_host_port(authority.rpartition("@")[2])
    except ValueError:
        raise ValueError(f'URL address does not have the form "host:port": {text}') from None
    if path:
        raise ValueError(f"URL must not contain a path: {text}")
    return Url(text=f"{scheme}://{authority}{tail}", scheme=scheme, host=host, port=port)


def parse_urls(texts: Iterable[str]) -> tuple[Url, ...]:
    """The URLs, sorted. Raises: ValueError."""
    return tuple(sorted(parse_url(text) for text in texts))


def parse_url_map(text: str) -> dict[str, tuple[Url, ...]]:
    """`a=http://h:1,b=http://h:2,a=http://h:3`: the URLs of each name, sorted by name and URL.

    Raises: ValueError.
    """
    by_name: dict[str, list[str]] = {}
    for pair in text.split(","):
        if pair:
            name, _, url = pair.partition("=")
            by_name.setdefault(name, []).append(url)
    return {name: parse_urls(urls) for name, urls in sorted(by_name.items())}


def format_url_map(urls: dict[str, tuple[Url, ...]]) -> str:
    return ",".join(sorted(f"{name}={url}" for name, group in urls.items() for url in group))


def split_host_port(address: str) -> tuple[str, str]:
    """Host and port of `host:port` or `[host]:port`.

    Raises: ValueError in the words of Go's net.SplitHostPort.
    """
    if ":" not in address:
        raise ValueError(f"address {address}: missing port in address")
    head, _, port = address.rpartition(":")
    if address.startswith("["):
        end = address.find("]")
        if end < 0:
            raise ValueError(f"address {address}: missing ']' in address")
        if end + 1 == len(address):
            raise ValueError(f"address {address}: missing port in address")
        if end + 1 != len(head):
            reason = "too many colons in address" if address[end + 1] == ":" else "missing port in address"
            raise ValueError(f"address {address}: {reason}")
        host = head[1:end]
    else:
        host = head
        if ":" in host:
            raise ValueError(f"address {address}: too many colons in address")
    for bracket in "[]":
        if bracket in host or bracket in port:
            raise ValueError(f"address {address}: unexpected '{bracket}' in address")
    return host, port


def is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host


_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_HOST_REFUSED: Final = re.compile(r"[^a-zA-Z0-9\-_.~$&+,:;=!'()*\[\]<>\"%\x80-\U0010ffff]")
_ESCAPE: Final = re.compile(r"%(?![0-9a-fA-F]{2})")
_PORT: Final = re.compile(r":[0-9]*")


def _split(text: str) -> tuple[str, str, str, str]:
    """Scheme, authority, path (anything that counts as one) and `?query#fragment`.

    Raises: ValueError, as Go's url.Parse.
    """
    refusal = f"parse {quote_go(text)}: "
    if _CONTROL.search(text):
        raise ValueError(refusal + "net/url: invalid control character in URL")
    rest, hash_sign, fragment = text.partition("#")
    if not rest:
        return "", "", "", ""
    if rest.startswith(":"):
        raise ValueError(refusal + "missing protocol scheme")
    found = _SCHEME.match(rest)
    scheme = ""
    if found is not None:
        scheme = rest[: found.end() - 1].lower()
        rest = rest[found.end() :]
    rest, question_mark, query = rest.partition("?")
    tail = question_mark + query + hash_sign + fragment
    if not rest.startswith("/"):
        if scheme:
            return scheme, "", "", tail  # `localhost:2379`: a scheme and something opaque
        if ":" in rest.partition("/")[0]:
            raise ValueError(refusal + "first path segment in URL cannot contain colon")
        return "", "", rest, tail
    if not scheme and not rest.startswith("//"):
        return "", "", rest, tail
    if not rest.startswith("//"):
        return scheme, "", rest, tail
    authority, slash, path = rest[2:].partition("/")
    _check_host(authority.rpartition("@")[2], refusal)
    return scheme, authority, slash + path, tail


def _check_host(host: str, refusal: str) -> None:
    if host.startswith("["):
        end = host.rfind("]")
        if end < 0:
            raise ValueError(refusal + "missing ']' in host")
        colon_port = host[end + 1 :]
        if colon_port and not _PORT.fullmatch(colon_port):
            raise ValueError(refusal + f"invalid port {quote_go(colon_port)} after host")
    elif ":" in host:
        colon_port = host[host.rindex(":") :]
        if not _PORT.fullmatch(colon_port):
            raise ValueError(refusal + f"invalid port {quote_go(colon_port)} after host")
    escape = _ESCAPE.search(host)
    if escape is not None:
        raise ValueError(refusal + f"invalid URL escape {quote_go(host[escape.start() : escape.start() + 3])}")
    refused = _HOST_REFUSED.search(host)
    if refused is not None:
        raise ValueError(refusal + f"invalid character {quote_go(refused.group())} in host name")
