"""JSON web tokens: the user and the auth revision of the login, signed; nobody need remember them.

    --auth-token jwt,pub-key=app.rsa.pub,priv-key=app.rsa,sign-method=RS512,ttl=10m

A member with only the public key can tell whose a token is, but gives out none.
HS* sign and verify with the bytes of `priv-key`. A token is as good as its
revision: after any change of users or roles its holder has to log in again.

Needs the packages PyJWT and cryptography (`balsad[jwt]`), imported when asked for.

Source: etcd server/auth/jwt.go, options.go; form3tech-oss/jwt-go (claims, PEM forms).
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from balsad.auth.identity import Identity
from balsad.auth.tokens import INVALID_OPTIONS, TokenOptionsError
from balsad.durations import SECOND, parse_duration
from balsad.errors import UnknownError

if TYPE_CHECKING:
    from jwt.api_jws import PyJWS

TTL_S_DEFAULT: Final = 300.0
METHODS: Final = frozenset(
    [f"{family}{bits}" for family in ("HS", "RS", "PS", "ES") for bits in (256, 384, 512)] + ["EdDSA"]
)
MISSING_KEY: Final = "auth: missing key data"
KEY_MISMATCH: Final = "auth: public and private keys don't match"
VERIFIED_MAX: Final = 1000
VERIFY_ONLY: Final = "auth: token signing attempted with verify-only key"
_REVISION_MAX: Final = (1 << 64) - 1


class JwtTokens:
    """A Tokens."""

    def __init__(
        self, method: str, *, private_key: bytes = b"", public_key: bytes = b"", ttl_s: float = TTL_S_DEFAULT
    ) -> None:
        """The keys are the bytes of their files. Raises: TokenOptionsError."""
        if method not in METHODS:
            raise TokenOptionsError(INVALID_OPTIONS)
        self._method = method
        self._ttl_s = ttl_s
        # Claims of tokens whose signature was found good: checking one takes longer than most requests.
        self._verified: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._jws = _jws(method)
        self._private: Any
        self._public: Any
        if method.startswith("HS"):
            if not private_key:
                raise TokenOptionsError(MISSING_KEY)
            self._private = self._public = private_key
        else:
            self._private, self._public = _load_keys(method, private_key, public_key)
        self._try_keys()

    def _try_keys(self) -> None:
        """Tell now, not at the first login, of a key that does not fit the method. Raises: TokenOptionsError."""
        from jwt.exceptions import PyJWTError

        try:
            self._jws.get_algorithm_by_name(self._method).prepare_key(self._public)
            if self._private is not None:
                self._jws.encode(b"", self._private, self._method)
        except (PyJWTError, TypeError, ValueError) as error:
            raise TokenOptionsError(f"auth: the key does not fit {self._method}: {error}") from error

    @classmethod
    def from_options(cls, options: dict[str, str], read_file: Callable[[str], bytes]) -> JwtTokens:
        """What `--auth-token jwt,...` asks for. Raises: TokenOptionsError."""
        try:
            ttl = options.get("ttl", "")
            ttl_s = parse_duration(ttl) / SECOND if ttl else TTL_S_DEFAULT
            public_key, private_key = (
                read_file(path) if (path := options.get(name, "")) else b"" for name in ("pub-key", "priv-key")
            )
        except (ValueError, OSError) as error:
            raise TokenOptionsError(INVALID_OPTIONS) from error
        return cls(options.get("sign-method", ""), private_key=private_key, public_key=public_key, ttl_s=ttl_s)

    def enable(self) -> None: ...

    def disable(self) -> None: ...

    def invalidate_user(self, username: str) -> None: ...

    def new_prefix(self, randrange: Callable[[int], int]) -> str:
        return ""

    def assign(self, username: str, revision: int, *, prefix: str, index: int, now: float, unix_now: float) -> str:
        if self._private is None:
            raise UnknownError(VERIFY_ONLY)
        claims = {"exp": int(unix_now + self._ttl_s), "revision": revision, "username": username}
        payload = json.dumps(claims, separators=(",", ":")).encode()
        token: str = self._jws.encode(payload, self._private, self._method, sort_headers=True)
        return token

    def index_of(self, token: str) -> int:
        return 0

    def identify(self, token: str, revision: int, *, now: float, unix_now: float) -> Identity | None:
        # The revision that counts is the one in the token: what it allowed then.
        claims = self._verified.get(token)
        if claims is None:
            claims = self._claims(token)
        if claims is None or not _is_current(claims, unix_now):
            self._verified.pop(token, None)
            return None
        username, token_revision = claims.get("username"), claims.get("revision")
        if not isinstance(username, str) or not _is_number(token_revision):
            return None
        if not 0 <= token_revision <= _REVISION_MAX:
            return None
        return Identity(username, int(token_revision))

    def _claims(self, token: str) -> dict[str, Any] | None:
        """What a token says, if its signature is good."""
        from jwt.exceptions import PyJWTError

        try:
            claims = json.loads(self._jws.decode(token, self._public, algorithms=[self._method]))
        except (PyJWTError, ValueError, RecursionError):
            return None
        if not isinstance(claims, dict):
            return None
        self._verified[token] = claims
        if len(self._verified) > VERIFIED_MAX:
            self._verified.popitem(last=False)
        return claims


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_current(claims: dict[str, Any], unix_now: float) -> bool:
    """Whether the times a token says of itself, if any, allow it now. Source: jwt-go MapClaims.Valid."""
    now = int(unix_now)
    for name in ("exp", "iat", "nbf"):
        value = claims.get(name)
        if not _is_number(value):
            continue
        if now > value if name == "exp" else now < value:
            return False
    return True


def _jws(method: str) -> PyJWS:
    """Signs and verifies with `method` alone. Raises: TokenOptionsError when the packages for it are not installed."""
    try:
        from jwt.algorithms import HMACAlgorithm, get_default_algorithms
        from jwt.api_jws import PyJWS
    except ImportError as error:
        raise TokenOptionsError("auth: jwt tokens need the package PyJWT, install balsad[jwt]") from error

    class AnyKeyHMAC(HMACAlgorithm):
        """Takes any bytes for a secret, as etcd does; PyJWT wants none that look like a public key or are short."""

        def prepare_key(self, key: str | bytes) -> bytes:
            return key if isinstance(key, bytes) else key.encode()

        def check_key_length(self, key: object) -> None:
            return None

    jws = PyJWS(algorithms=[])
    if method.startswith("HS"):
        hashes = {"HS256": AnyKeyHMAC.SHA256, "HS384": AnyKeyHMAC.SHA384, "HS512": AnyKeyHMAC.SHA512}
        jws.register_algorithm(method, AnyKeyHMAC(hashes[method]))
        return jws
    algorithm = get_default_algorithms().get(method)
    if algorithm is None:
        raise TokenOptionsError(f"auth: {method} tokens need the package cryptography, install balsad[jwt]")
    jws.register_algorithm(method, algorithm)
    return jws


def _load_keys(method: str, private_pem: bytes, public_pem: bytes) -> tuple[Any, Any]:
    """The private key, None without one, and the public key. Raises: TokenOptionsError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
    from cryptography.x509 import load_pem_x509_certificate

    kinds: dict[str, tuple[Any, Any]] = {
        "RS": (rsa.RSAPrivateKey, rsa.RSAPublicKey),
        "PS": (rsa.RSAPrivateKey, rsa.RSAPublicKey),
        "ES": (ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey),
        "Ed": (ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey),
    }
    private_kind, public_kind = kinds[method[:2]]
    private: Any = None
    public: Any = None
    try:
        if private_pem:
            private = load_pem_private_key(private_pem, None)
        if public_pem:
            if b"BEGIN CERTIFICATE" in public_pem:
                public = load_pem_x509_certificate(public_pem).public_key()
            else:
                public = load_pem_public_key(public_pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TokenOptionsError(f"auth: a key for {method} has to be PEM: PKCS1, PKCS8, PKIX or X.509") from error
    if private is None and public is None:
        raise TokenOptionsError(MISSING_KEY)
    if private_pem and not isinstance(private, private_kind):
        raise TokenOptionsError(f"auth: the private key is of no kind that {method} signs with")
    if public_pem and not isinstance(public, public_kind):
        raise TokenOptionsError(f"auth: the public key is of no kind that {method} verifies with")
    if private is None:
        return None, public
    if public is not None and public != private.public_key():
        raise TokenOptionsError(KEY_MISMATCH)
    return private, private.public_key()
