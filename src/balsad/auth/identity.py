"""Who asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Identity:
    """A user's name, and the auth revision at which the member that was asked knew it to be theirs."""

    username: str
    revision: int


ANONYMOUS: Final = Identity("", 0)
"""Nobody in particular: neither a token nor a certificate came with the request."""
