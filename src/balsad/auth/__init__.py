"""Users, roles, permissions, tokens: who asks, and may they."""

from balsad.auth.identity import ANONYMOUS, Identity
from balsad.auth.passwords import (
    COST_DEFAULT,
    COST_MAX,
    COST_MIN,
    SALT_BYTES,
    encode_hash,
    hash_password,
    matches,
    new_salt,
)
from balsad.auth.providers import make_tokens
from balsad.auth.store import ROOT, AuthBackend, AuthStore
from balsad.auth.tokens import TokenOptionsError, Tokens

__all__ = [
    "ANONYMOUS",
    "COST_DEFAULT",
    "COST_MAX",
    "COST_MIN",
    "ROOT",
    "SALT_BYTES",
    "AuthBackend",
    "AuthStore",
    "Identity",
    "TokenOptionsError",
    "Tokens",
    "encode_hash",
    "hash_password",
    "make_tokens",
    "matches",
    "new_salt",
]
