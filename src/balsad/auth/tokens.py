"""Tokens: what a client shows instead of its password.

`--auth-token TYPE,option=value,...` chooses the kind:

    simple      16 letters and the log index of the login; every member remembers them
    jwt         signed; whoever has the key can tell, nobody remembers anything
    (empty)     none: nobody can log in

Source: etcd server/auth/store.go (NewTokenProvider), nop.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from balsad.auth.identity import Identity
from balsad.errors import AuthFailedError


class TokenOptionsError(ValueError):
    """`--auth-token` says something that cannot be done; the text is etcd's, where it has one."""


INVALID_OPTIONS = "auth: invalid auth options"


class Tokens(Protocol):
    """One kind of tokens. `now` is monotonic, `unix_now` in Unix seconds."""

    def enable(self) -> None:
        """Authentication is on: tokens may be given out."""

    def disable(self) -> None:
        """Authentication is off: forget all tokens."""

    def invalidate_user(self, username: str) -> None: ...

    def new_prefix(self, randrange: Callable[[int], int]) -> str:
        """The part of a token that is drawn before the login goes into the log."""

    def assign(self, username: str, revision: int, *, prefix: str, index: int, now: float, unix_now: float) -> str: ...

    def index_of(self, token: str) -> int:
        """The log index this member must have applied before it can tell about the token; 0 when it always can."""

    def identify(self, token: str, revision: int, *, now: float, unix_now: float) -> Identity | None:
        """Whose token it is; None when it is nobody's."""


class NoTokens:
    """A Tokens that knows none."""

    def enable(self) -> None: ...

    def disable(self) -> None: ...

    def invalidate_user(self, username: str) -> None: ...

    def new_prefix(self, randrange: Callable[[int], int]) -> str:
        return ""

    def assign(self, username: str, revision: int, *, prefix: str, index: int, now: float, unix_now: float) -> str:
        raise AuthFailedError

    def index_of(self, token: str) -> int:
        return 0

    def identify(self, token: str, revision: int, *, now: float, unix_now: float) -> Identity | None:
        return None


def parse_token_options(text: str) -> tuple[str, dict[str, str]]:
    """The type and the options of `--auth-token`. Raises: TokenOptionsError."""
    kind, *pairs = text.split(",")
    options: dict[str, str] = {}
    for pair in pairs:
        parts = pair.split("=")
        if len(parts) != 2 or parts[0] in options:
            raise TokenOptionsError(INVALID_OPTIONS)
        options[parts[0]] = parts[1]
    return kind, options
