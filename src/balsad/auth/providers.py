"""The tokens that `--auth-token` asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable

from balsad.auth.jwt_tokens import JwtTokens
from balsad.auth.simple_tokens import SimpleTokens
from balsad.auth.tokens import INVALID_OPTIONS, NoTokens, TokenOptionsError, Tokens, parse_token_options

log = logging.getLogger(__name__)


def make_tokens(option: str, *, simple_ttl_s: float, read_file: Callable[[str], bytes]) -> Tokens:
    """`read_file` reads the keys of `jwt`, and may raise OSError. Raises: TokenOptionsError."""
    kind, options = parse_token_options(option)
    if kind == "simple":
        log.warning("simple token is not cryptographically signed")
        return SimpleTokens(simple_ttl_s)
    if kind == "jwt":
        try:
            return JwtTokens.from_options(options, read_file)
        except TokenOptionsError as error:
            log.error("problem loading JWT options", extra={"error": str(error.__cause__ or error)})
            raise
    if kind == "":
        return NoTokens()
    log.warning("unknown token type", extra={"type": kind, "error": INVALID_OPTIONS})
    raise TokenOptionsError(INVALID_OPTIONS)
