"""Whether a member's process has ended, as its peer port has it.

    silent or answering --refused, at every URL, for a while--> gone --anything else--> silent or answering

A port that refuses (there is a machine, and nobody listens) says more than one that does not answer. It does not say
that the process has ended: its listener may be down, or a firewall in between refuses. So who asks must have lost every
connection with it as well, those that it opened included; a process that lives keeps those.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

REFUSALS_MIN: Final = 2
"""At each URL."""
GONE_S: Final = 0.15
"""So long it must have been refused at each URL."""


class Refusals:
    __slots__ = ("_counts", "_since")

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def note(self, url: str, now: float) -> None:
        """A connection to this URL was refused at `now`, in seconds."""
        self._since.setdefault(url, now)
        self._counts[url] = self._counts.get(url, 0) + 1

    def clear(self) -> None:
        """Somebody answered, or nobody did: either is no refusal."""
        self._since.clear()
        self._counts.clear()

    def is_gone(self, urls: Iterable[str], now: float) -> bool:
        """Whether who had these URLs seems to have ended."""
        return all(self._counts.get(url, 0) >= REFUSALS_MIN and now - self._since[url] >= GONE_S for url in urls)
