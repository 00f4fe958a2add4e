"""JSON web tokens: signed, read back, refused; which keys fit which method."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from balsad.auth import Identity, TokenOptionsError, make_tokens
from balsad.auth.jwt_tokens import VERIFIED_MAX, JwtTokens
from balsad.errors import UnknownError

pytest.importorskip("jwt")
pytest.importorskip("cryptography")

NOW = 1_700_000_000.0


@cache
def key_pair(kind: str) -> tuple[bytes, bytes]:
    """A private key and its public one, as PEM files."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    makers: dict[str, Callable[[], Any]] = {
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "other rsa": lambda: rsa.generate_private_key(65537, 2048),
        "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
    }
    key = makers[kind]()
    return (
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    )


def login(tokens: JwtTokens, user: str = "u", revision: int = 7) -> str:
    return tokens.assign(user, revision, prefix="", index=3, now=0.0, unix_now=NOW)


def identify(tokens: JwtTokens, token: str, unix_now: float = NOW) -> Identity | None:
    return tokens.identify(token, 99, now=0.0, unix_now=unix_now)


@pytest.mark.parametrize(
    ("method", "kind"),
    [("RS256", "rsa"), ("RS512", "rsa"), ("PS384", "rsa"), ("ES256", "p256"), ("ES384", "p384"), ("EdDSA", "ed25519")],
)
def test_who_has_the_public_key_knows_whose_a_token_is(method: str, kind: str) -> None:
    private, public = key_pair(kind)
    signer, verifier = JwtTokens(method, private_key=private), JwtTokens(method, public_key=public)

    token = login(signer)

    assert identify(verifier, token) == identify(signer, token) == Identity("u", 7)
    with pytest.raises(UnknownError, match="auth: token signing attempted with verify-only key"):
        login(verifier)


@pytest.mark.parametrize("secret", [b"k", b"-----BEGIN PUBLIC KEY-----", b"ssh-rsa AAAA", b'{"kty":"oct"}'])
def test_any_bytes_are_a_secret(secret: bytes) -> None:
    tokens = JwtTokens("HS256", private_key=secret)

    assert identify(tokens, login(tokens)) == Identity("u", 7)


def test_a_token_says_what_etcd_says() -> None:
    """jwt.go assign: header and claims, checked here by hand."""
    token = login(JwtTokens("HS256", private_key=b"secret", ttl_s=60))
    head, claims, signature = token.split(".")

    def decoded(part: str) -> bytes:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))

    assert json.loads(decoded(head)) == {"alg": "HS256", "typ": "JWT"}
    assert json.loads(decoded(claims)) == {"exp": 1_700_000_060, "revision": 7, "username": "u"}
    assert decoded(signature) == hmac.digest(b"secret", f"{head}.{claims}".encode(), hashlib.sha256)


def test_a_token_ends_after_its_time() -> None:
    tokens = JwtTokens("HS256", private_key=b"secret", ttl_s=60)
    token = login(tokens)

    assert identify(tokens, token, NOW + 60) is not None
    assert identify(tokens, token, NOW + 61) is None
    assert identify(tokens, token, NOW + 61) is None


def signed(claims: object, method: str = "HS256", secret: bytes = b"secret") -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    text = f"{part({'alg': method, 'typ': 'JWT'})}.{part(claims)}"
    digest = hmac.digest(secret, text.encode(), {"HS256": "sha256", "HS512": "sha512"}.get(method, "sha256"))
    return f"{text}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


@pytest.mark.parametrize(
    "claims",
    [
        {"username": "u"},
        {"revision": 7},
        {"username": 3, "revision": 7},
        {"username": "u", "revision": "7"},
        {"username": "u", "revision": -1},
        {"username": "u", "revision": 1 << 64},
        {"username": "u", "revision": True},
        {"username": "u", "revision": float("nan")},
        {"username": "u", "revision": 7, "exp": NOW - 1},
        {"username": "u", "revision": 7, "iat": NOW + 1},
        {"username": "u", "revision": 7, "nbf": NOW + 1},
        ["username", "u"],
        "u",
    ],
)
def test_claims_that_name_nobody(claims: object) -> None:
    assert identify(JwtTokens("HS256", private_key=b"secret"), signed(claims)) is None


def test_a_token_of_somebody_elses_making_is_taken() -> None:
    token = signed({"username": "u", "revision": 7.0})

    assert identify(JwtTokens("HS256", private_key=b"secret"), token) == Identity("u", 7)


def test_tokens_of_another_method_key_or_no_form_are_refused() -> None:
    tokens = JwtTokens("HS256", private_key=b"secret")
    good = login(tokens)
    claims = {"username": "u", "revision": 7}
    unsigned = signed(claims, "none").rpartition(".")[0] + "."

    assert identify(tokens, signed(claims, "HS512")) is None
    assert identify(tokens, signed(claims, secret=b"other")) is None
    assert identify(tokens, unsigned) is None
    assert identify(tokens, good[:-3]) is None
    for junk in ("", ".", "..", "a.b.c", "x.17", "\ud7ff.é.", good + ".x"):
        assert identify(tokens, junk) is None


def test_the_public_key_is_no_secret_to_sign_with() -> None:
    """The well-known confusion: HS256 over the bytes of the verifier's public key."""
    _, public = key_pair("rsa")
    verifier = JwtTokens("RS256", public_key=public)

    assert identify(verifier, signed({"username": "root", "revision": 7}, secret=public)) is None


def test_a_bounded_number_of_verified_tokens_is_remembered() -> None:
    tokens = JwtTokens("HS256", private_key=b"secret")
    for number in range(VERIFIED_MAX + 10):
        assert identify(tokens, login(tokens, user=f"u{number}")) is not None

    assert len(tokens._verified) == VERIFIED_MAX


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("jwt", "auth: invalid auth options"),
        ("jwt,sign-method=none", "auth: invalid auth options"),
        ("jwt,sign-method=HS256,ttl=soon", "auth: invalid auth options"),
        ("jwt,sign-method=HS256,priv-key=nosuch", "auth: invalid auth options"),
        ("jwt,sign-method=HS256", "auth: missing key data"),
        ("jwt,sign-method=RS256", "auth: missing key data"),
        ("jwt,sign-method=RS256,priv-key=p256", "no kind that RS256 signs with"),
        ("jwt,sign-method=RS256,pub-key=p256.pub", "no kind that RS256 verifies with"),
        ("jwt,sign-method=ES256,priv-key=p384", "does not fit ES256"),
        ("jwt,sign-method=RS256,priv-key=rsa,pub-key=other rsa.pub", "auth: public and private keys don't match"),
        ("jwt,sign-method=RS256,priv-key=junk", "has to be PEM"),
        ("jwt,sign-method", "auth: invalid auth options"),
        ("jwt,ttl=1s,ttl=2s", "auth: invalid auth options"),
        ("nosuch", "auth: invalid auth options"),
    ],
)
def test_options_that_cannot_be_met_are_refused_at_the_start(option: str, words: str) -> None:
    def read_file(name: str) -> bytes:
        if name == "junk":
            return b"no key at all"
        if name == "nosuch":
            raise FileNotFoundError(name)
        private, public = key_pair(name.removesuffix(".pub"))
        return public if name.endswith(".pub") else private

    with pytest.raises(TokenOptionsError, match=words):
        make_tokens(option, simple_ttl_s=300, read_file=read_file)


def test_options_and_keys_come_from_files(tmp_path: Path) -> None:
    private, public = key_pair("rsa")
    (tmp_path / "key").write_bytes(private)
    (tmp_path / "key.pub").write_bytes(public)
    option = f"jwt,pub-key={tmp_path}/key.pub,priv-key={tmp_path}/key,sign-method=RS512,ttl=1m30s,unknown=1"

    tokens = make_tokens(option, simple_ttl_s=300, read_file=lambda path: Path(path).read_bytes())

    assert isinstance(tokens, JwtTokens)
    token = login(tokens)
    assert identify(tokens, token, NOW + 90) is not None
    assert identify(tokens, token, NOW + 91) is None


def test_a_certificate_is_a_public_key_too() -> None:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
    from cryptography.x509.oid import NameOID

    private_pem, _ = key_pair("rsa")
    private = load_pem_private_key(private_pem, None)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tokens")])
    begin = datetime.datetime(2024, 1, 1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())  # type: ignore[arg-type]
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=1))
        .sign(private, SHA256())  # type: ignore[arg-type]
        .public_bytes(Encoding.PEM)
    )

    token = login(JwtTokens("RS256", private_key=private_pem))

    assert identify(JwtTokens("RS256", public_key=certificate), token) == Identity("u", 7)
