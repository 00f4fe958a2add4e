"""Which of a member's URLs to use: the one that worked last, else the next.

Source: etcd rafthttp urlpick.go.
"""

from __future__ import annotations

from collections.abc import Iterable

from balsad.config import Url, parse_urls


class UrlPicker:
    __slots__ = ("_picked", "_urls")

    def __init__(self, urls: Iterable[str]) -> None:
        """Raises: ValueError for what is no URL, or when there is none."""
        self._urls: tuple[Url, ...] = ()
        self._picked = 0
        self.update(urls)

    def update(self, urls: Iterable[str]) -> None:
        """Begin anew with other URLs. Raises: ValueError."""
        parsed = parse_urls(urls)
        if not parsed:
            raise ValueError("no valid URLs given")
        self._urls = parsed
        self._picked = 0

    @property
    def urls(self) -> tuple[Url, ...]:
        return self._urls

    def pick(self) -> Url:
        return self._urls[self._picked]

    def unreachable(self, url: Url) -> None:
        """Go on to the next if this is still the one in use."""
        if url == self._urls[self._picked]:
            self._picked = (self._picked + 1) % len(self._urls)
