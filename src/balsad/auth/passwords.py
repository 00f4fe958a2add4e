"""bcrypt, as etcd keeps passwords: `$2a$`, the cost, 22 letters of salt, 31 of hash.

Hashing takes a tenth of a second on purpose: the server calls this in a thread.
A hash travels in the log as base64, so that the password itself never does.

Source: etcd server/auth/store.go, golang.org/x/crypto/bcrypt.
"""

from __future__ import annotations

import base64
import re
from typing import Final

import bcrypt

COST_MIN: Final = 4
COST_MAX: Final = 31
COST_DEFAULT: Final = 10

SALT_BYTES: Final = 16
_PASSWORD_BYTES_MAX: Final = 72
"""bcrypt hears no more of a password; Go's leaves out the rest without a word."""

_BASE64: Final = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
)
_CANONICAL: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def new_salt(random: bytes, cost: int) -> bytes:
    """bcrypt's salt with its cost from 16 random bytes."""
    assert len(random) == SALT_BYTES
    return b"$2a$%02d$" % cost + base64.b64encode(random).rstrip(b"=").translate(_BASE64)


def hash_password(password: bytes, salt: bytes) -> bytes:
    return bcrypt.hashpw(password[:_PASSWORD_BYTES_MAX], salt)


def matches(password: bytes, hashed: bytes) -> bool:
    """Whether `hashed` was made of this password; False when it is no bcrypt hash at all."""
    try:
        return bcrypt.checkpw(password[:_PASSWORD_BYTES_MAX], hashed)
    except ValueError:
        return False


def encode_hash(hashed: bytes) -> str:
    """The hash as `hashedPassword` carries it."""
    return base64.b64encode(hashed).decode()


def decode_hash(text: str) -> bytes | None:
    """What `hashedPassword` carries, None when it is no base64. Go passes over line ends."""
    text = text.replace("\r", "").replace("\n", "")
    if _CANONICAL.fullmatch(text) is None:
        return None
    return base64.b64decode(text)
