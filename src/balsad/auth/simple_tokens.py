"""Simple tokens: sixteen letters, a dot, and the log index of the login that made it.

    assign -> held --- identify (its time begins anew) ---+
               |  ^                                       |
               |  +---------------------------------------+
               | unused for the TTL, its user changed, or authentication disabled
               v
             gone

Every member applies the login and so remembers the token; a member that has
not come to its index yet can't tell. They live in memory: after a restart
clients log in again.

Source: etcd server/auth/simple_token.go.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from balsad.auth.identity import Identity

TTL_S_DEFAULT: Final = 300.0
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PREFIX_SIZE: Final = 16
_INDEX_DIGITS_MAX: Final = 20
_INDEX_MAX: Final = (1 << 64) - 1


class SimpleTokens:
    """A Tokens."""

    def __init__(self, ttl_s: float = TTL_S_DEFAULT) -> None:
        self._ttl_s = ttl_s if ttl_s > 0 else TTL_S_DEFAULT
        self._is_enabled = False
        # In the order of their ends: all live equally long, and who is used goes to the back.
        self._held: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def enable(self) -> None:
        self._is_enabled = True

    def disable(self) -> None:
        self._is_enabled = False
        self._held.clear()

    def invalidate_user(self, username: str) -> None:
        for token in [token for token, (name, _) in self._held.items() if name == username]:
            del self._held[token]

    def new_prefix(self, randrange: Callable[[int], int]) -> str:
        return "".join([_LETTERS[randrange(len(_LETTERS))] for _ in range(_PREFIX_SIZE)])

    def assign(self, username: str, revision: int, *, prefix: str, index: int, now: float, unix_now: float) -> str:
        token = f"{prefix}.{index}"
        if self._is_enabled:
            self._expire(now)
            self._held[token] = (username, now + self._ttl_s)
            self._held.move_to_end(token)
        return token

    def index_of(self, token: str) -> int:
        index = _index(token)
        return 0 if index is None else index

    def identify(self, token: str, revision: int, *, now: float, unix_now: float) -> Identity | None:
        self._expire(now)
        held = self._held.get(token)
        if held is None or _index(token) is None:
            return None
        self._held[token] = (held[0], now + self._ttl_s)
        self._held.move_to_end(token)
        return Identity(held[0], revision)

    def _expire(self, now: float) -> None:
        held = self._held
        while held:
            token, (_, end) = next(iter(held.items()))
            if end >= now:
                return
            del held[token]


def _index(token: str) -> int | None:
    _, dot, digits = token.partition(".")
    if not dot or not (digits.isascii() and digits.isdigit()):
        return None
    digits = digits.lstrip("0") or "0"
    if len(digits) > _INDEX_DIGITS_MAX:
        return None
    index = int(digits)
    return index if index <= _INDEX_MAX else None
