"""bcrypt as Go's: form, truncation, what is no hash; base64 as Go reads it."""

from __future__ import annotations

import base64

import pytest

from balsad.auth.passwords import COST_MIN, decode_hash, encode_hash, hash_password, matches, new_salt

SALT = new_salt(bytes(range(16)), COST_MIN)

# What `etcdctl user add root:rpw` left in the db of an etcd 3.5.1.
ETCD_HASH = b"$2a$10$VlX4Ey93zGEtT6zDOwN.Be96MwKTceSao7vUxbjPWBe5HAfcjly8q"


def test_a_hash_has_the_form_of_gos() -> None:
    hashed = hash_password(b"pw", SALT)

    assert hashed.startswith(b"$2a$04$") and len(hashed) == 60
    assert matches(b"pw", hashed)
    assert not matches(b"pW", hashed)


def test_a_hash_that_etcd_made_is_read() -> None:
    assert matches(b"rpw", ETCD_HASH)
    assert not matches(b"rpW", ETCD_HASH)


def test_the_salt_is_the_sixteen_random_bytes() -> None:
    """x/crypto/bcrypt base64.go: its own alphabet, no padding."""
    alphabet = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    standard = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    letters = SALT.removeprefix(b"$2a$04$").translate(bytes.maketrans(alphabet, standard))

    assert base64.b64decode(letters + b"==") == bytes(range(16))


def test_different_randomness_gives_different_hashes() -> None:
    other = new_salt(bytes(16), COST_MIN)

    assert hash_password(b"pw", other) != hash_password(b"pw", SALT)


@pytest.mark.parametrize("password", [b"", b"a\0b", "pässwörd".encode(), b"x" * 72])
def test_any_bytes_are_a_password(password: bytes) -> None:
    hashed = hash_password(password, SALT)

    assert matches(password, hashed)
    assert not matches(password[:-1] + b"!" if password else b"!", hashed)


def test_only_the_first_72_bytes_count() -> None:
    """x/crypto/bcrypt of 2020, which etcd 3.5.1 links, hears no more of it and does not say so."""
    hashed = hash_password(b"x" * 72 + b"one end", SALT)

    assert matches(b"x" * 72 + b"another", hashed)


@pytest.mark.parametrize("hashed", [b"", b"pw", b"$2a$10$short", b"$2z$04$" + b"." * 53])
def test_what_is_no_hash_matches_nothing(hashed: bytes) -> None:
    assert not matches(b"pw", hashed)
    assert not matches(b"", hashed)


def test_a_hash_travels_as_base64() -> None:
    hashed = hash_password(b"pw", SALT)

    assert decode_hash(encode_hash(hashed)) == hashed


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("", b""),
        ("root", b"\xae\x8a-"),
        ("YQ==", b"a"),
        ("Y\r\nQ=\n=", b"a"),
        ("YR==", b"a"),  # bits that stand for nothing may be set
        ("YQ", None),
        ("YQ=", None),
        ("YQ==YQ==", None),
        ("u1", None),
        ("a b", None),
        ("_-8=", None),
    ],
)
def test_base64_is_read_as_go_reads_it(text: str, decoded: bytes | None) -> None:
    """encoding/base64 StdEncoding.DecodeString."""
    assert decode_hash(text) == decoded
