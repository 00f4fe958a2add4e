"""Users, roles, permissions, tokens: who asks, and may they."""

from balsad.auth.identity import ANONYMOUS, Identity
from balsad.auth.jwt_tokens import JwtTokens
from balsad.auth.passwords import COST_DEFAULT, COST_MAX, COST_MIN, encode_hash, hash_password, matches, new_salt
from balsad.auth.simple_tokens import SimpleTokens
from balsad.auth.store import ROOT, AuthBackend, AuthStore
from balsad.auth.tokens import NoTokens, TokenOptionsError, Tokens, parse_token_options

__all__ = [
    "ANONYMOUS",
    "COST_DEFAULT",
    "COST_MAX",
    "COST_MIN",
    "ROOT",
    "AuthBackend",
    "AuthStore",
    "Identity",
    "JwtTokens",
    "NoTokens",
    "SimpleTokens",
    "TokenOptionsError",
    "Tokens",
    "encode_hash",
    "hash_password",
    "matches",
    "new_salt",
    "parse_token_options",
]
