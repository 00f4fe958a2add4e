"""The URLs of members, as texts."""

from __future__ import annotations

from collections.abc import Iterable

from balsad import config


def parse_urls(texts: Iterable[str]) -> tuple[str, ...]:
    """The URLs, trimmed, checked and sorted. Raises ValueError with etcd's words, also when there is none."""
    urls = tuple(str(url) for url in config.parse_urls(texts))
    if not urls:
        raise ValueError("no valid URLs given")
    return urls
