"""Who asks, by web token and by certificate: balsad and the real etcd take each other's, and name the same users."""

from __future__ import annotations

import datetime
import ssl
import time
import urllib.error
import urllib.request
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import grpc
import pytest

from balsad.proto import auth_pb2
from balsad.proto import rpc_pb2 as rpc
from tests.interop.auth_calls import ROOT, AuthCalls, connect
from tests.interop.servers import HeldPort, balsad, program, programs, real, start

pytest.importorskip("jwt")
pytest.importorskip("cryptography")

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

READWRITE: Any = 2
DENIED = ("PERMISSION_DENIED", "etcdserver: permission denied")
NOBODY = ("INVALID_ARGUMENT", "etcdserver: user name is empty")
BAD_TOKEN = ("UNAUTHENTICATED", "etcdserver: invalid auth token")
PUT = rpc.PutRequest(key=b"a", value=b"1")
GET = rpc.RangeRequest(key=b"a")
OLD_REVISION = r"auth: revision in header is old|etcdserver: revision of auth store is old"


def furnish(calls: AuthCalls) -> None:
    """A user `u` who may put `a`; authentication is on."""
    calls.add_role("r", auth_pb2.Permission(permType=READWRITE, key=b"a"))
    calls.add_user("u", "pw", "r")
    calls.enable()


# Web tokens.


@cache
def key_pair(kind: str) -> tuple[bytes, bytes]:
    key: Any = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP384R1())
    # PKCS1 and SEC1, the forms of `openssl genrsa` of old and `openssl ecparam -genkey`.
    return (
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    )


def jwt_option(method: str, folder: Path, *, verify_only: bool = False) -> str:
    if method.startswith("HS"):
        (folder / "key").write_bytes(b"a secret of our own")
        return f"--auth-token=jwt,sign-method={method},priv-key={folder}/key"
    private, public = key_pair("ec" if method.startswith("ES") else "rsa")
    (folder / "key").write_bytes(private)
    (folder / "key.pub").write_bytes(public)
    private_option = "" if verify_only else f",priv-key={folder}/key"
    return f"--auth-token=jwt,sign-method={method},pub-key={folder}/key.pub{private_option},ttl=5m"


@pytest.mark.real
@pytest.mark.parametrize("method", ["RS512", "PS256", "ES384", "HS256"])
def test_web_tokens_of_one_are_good_at_the_other(method: str, tmp_path: Path) -> None:
    option = jwt_option(method, tmp_path)
    with (
        start(balsad(), tmp_path / "ours", "--bcrypt-cost=4", option) as ours,
        start(real(), tmp_path / "theirs", "--bcrypt-cost=4", option) as theirs,
        connect(ours.address) as our_calls,
        connect(theirs.address) as their_calls,
    ):
        sides = (our_calls, their_calls)
        for side in sides:
            furnish(side)
        tokens = [side.login("u", "pw") for side in sides]

        for side in sides:
            for token in tokens:
                assert side.outcome("KV/Put", PUT, token).header.revision > 1
                assert side.outcome("KV/Range", GET, authorization=token).count == 1
                assert side.outcome("KV/Put", rpc.PutRequest(key=b"b"), token) == DENIED
            assert side.outcome("KV/Put", PUT, tokens[0][:-4]) == BAD_TOKEN
            assert side.outcome("KV/Put", PUT, "abcdefghijklmnop.1") == BAD_TOKEN
        assert our_calls.outcome("KV/Range", GET, authorization=f"Bearer {tokens[1]}").count == 1

        # What a token allowed is over once users or roles have changed.
        for side, token in zip(sides, tokens, strict=True):
            side.call("Auth/RoleAdd", rpc.AuthRoleAddRequest(name="another"), side.login("root", "rpw"))
            with pytest.raises(grpc.RpcError, match=OLD_REVISION):
                side.call("KV/Put", PUT, token)
            with pytest.raises(grpc.RpcError, match=OLD_REVISION):
                side.call("KV/Range", GET, token)


@pytest.mark.real
@pytest.mark.parametrize("name", programs())
def test_a_member_without_the_private_key_gives_out_no_tokens(name: str, tmp_path: Path) -> None:
    option = jwt_option("RS256", tmp_path, verify_only=True)
    with (
        start(program(name), tmp_path / "data", "--bcrypt-cost=4", option) as member,
        connect(member.address) as calls,
    ):
        furnish(calls)

        assert calls.outcome("Auth/Authenticate", rpc.AuthenticateRequest(name="u", password="pw")) == (
            "UNKNOWN",
            "auth: token signing attempted with verify-only key",
        )


# Simple tokens.


@pytest.mark.real
@pytest.mark.parametrize("name", programs())
def test_a_simple_token_lives_as_long_as_it_is_used(name: str, tmp_path: Path) -> None:
    flags = ("--bcrypt-cost=4", "--auth-token-ttl=2")
    with start(program(name), tmp_path / "data", *flags) as member, connect(member.address) as calls:
        furnish(calls)
        used, unused = calls.login("u", "pw"), calls.login("u", "pw")

        for _ in range(4):
            time.sleep(1.0)
            assert calls.outcome("KV/Put", PUT, used).header.revision > 1

        assert calls.outcome("KV/Put", PUT, unused) == BAD_TOKEN
        calls.call("Auth/UserDelete", rpc.AuthUserDeleteRequest(name="u"), calls.login("root", "rpw"))
        assert calls.outcome("KV/Put", PUT, used) == BAD_TOKEN


# Certificates.


class Authority:
    """Issues certificates for 127.0.0.1 and for users."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._certificate("authority", self.key, self.key, None, is_authority=True)

    def _certificate(
        self, name: str, key: Any, signer: Any, issuer: x509.Name | None, *, is_authority: bool = False
    ) -> x509.Certificate:
        common_name = [x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "tests"), *common_name])
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer or subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
            .sign(signer, hashes.SHA256())
        )

    def issue(self, name: str) -> tuple[bytes, bytes]:
        """Certificate and key, as PEM files."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(name, key, self.key, self.certificate.subject)
        return certificate.public_bytes(Encoding.PEM), key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )

    def credentials(self, name: str) -> grpc.ChannelCredentials:
        certificate, key = self.issue(name)
        return grpc.ssl_channel_credentials(self.certificate.public_bytes(Encoding.PEM), key, certificate)


@pytest.mark.real
@pytest.mark.parametrize("name", programs())
def test_a_certificate_names_who_shows_no_token(name: str, tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue("server")
    (tmp_path / "ca.crt").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    (tmp_path / "server.crt").write_bytes(certificate)
    (tmp_path / "server.key").write_bytes(key)
    with start(program(name), tmp_path / "data", "--bcrypt-cost=4") as member, connect(member.address) as calls:
        furnish(calls)
    secure_port = HeldPort()
    secure = f"127.0.0.1:{secure_port.number}"
    flags = (
        "--client-cert-auth",
        f"--trusted-ca-file={tmp_path}/ca.crt",
        f"--cert-file={tmp_path}/server.crt",
        f"--key-file={tmp_path}/server.key",
        f"--listen-client-urls={member.client_url},https://{secure}",
    )
    with (
        start(program(name), tmp_path / "data", "--bcrypt-cost=4", *flags, like=member) as member,
        connect(member.address) as plain,
        connect(secure, authority.credentials("u")) as user,
        connect(secure, authority.credentials("root")) as root,
        connect(secure, authority.credentials("nosuch")) as stranger,
        connect(secure, authority.credentials("")) as nameless,
    ):
        for calls in (user, root):
            assert calls.outcome("KV/Put", PUT).header.revision > 1
            assert calls.outcome("KV/Range", rpc.RangeRequest(key=b"a")).count == 1
        assert user.outcome("KV/Put", rpc.PutRequest(key=b"b")) == DENIED
        assert user.outcome("Auth/UserList", rpc.AuthUserListRequest()) == DENIED
        assert list(root.outcome("Auth/UserList", rpc.AuthUserListRequest()).users) == ["root", "u"]
        assert stranger.outcome("KV/Put", PUT) == DENIED
        assert stranger.outcome("Maintenance/HashKV", rpc.HashKVRequest()) == ("UNKNOWN", "auth: user not found")
        assert nameless.outcome("KV/Put", PUT) == DENIED
        assert nameless.outcome("Maintenance/HashKV", rpc.HashKVRequest()) == ("UNKNOWN", "auth: user name is empty")
        assert plain.outcome("KV/Put", PUT) == NOBODY

        # A token speaks louder than the certificate, a bad one too; and a gateway's certificate says nothing.
        token = user.login("u", "pw")
        assert root.outcome("KV/Put", rpc.PutRequest(key=b"b"), token) == DENIED
        assert root.outcome("KV/Put", PUT, "abcdefghijklmnop.1") == BAD_TOKEN
        assert root.outcome("KV/Put", PUT, **{"grpcgateway-accept": "*/*"}) == NOBODY

        watched = user.watch(rpc.WatchCreateRequest(key=b"a"))
        assert (watched.created, watched.canceled) == (True, False)
        assert user.watch(rpc.WatchCreateRequest(key=b"b")).canceled

        # The JSON gateway would not see the name, and says so; the other pages ask nobody's.
        ignored = "CommonName of client sending a request against gateway will be ignored and not used as expected\n"
        for path in ("/v3/kv/range", "/v3beta/kv/range", "/v3/nosuch"):
            assert web(authority, tmp_path, "root", f"https://{secure}{path}") == (400, ignored)
        nobody = '{"error":"etcdserver: user name is empty","code":3,"message":"etcdserver: user name is empty"}'
        assert web(authority, tmp_path, "", f"https://{secure}/v3/kv/range") == (400, nobody)
        assert web(authority, tmp_path, "root", f"https://{secure}/version")[0] == 405
        root.outcome("Auth/AuthDisable", rpc.AuthDisableRequest())
        assert web(authority, tmp_path, "root", f"https://{secure}/v3/kv/range")[0] == 200


def web(authority: Authority, folder: Path, name: str, url: str) -> tuple[int, str]:
    """Status and body of a JSON request that shows a certificate of this name."""
    certificate, key = authority.issue(name)
    (folder / "web.crt").write_bytes(certificate)
    (folder / "web.key").write_bytes(key)
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "web.crt", folder / "web.key")
    # Without this header the real one takes its own certificate's name for the user's.
    request = urllib.request.Request(url, b'{"key":"YQ=="}', {"Accept": "*/*"})
    try:
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()


# What may be watched.


@pytest.mark.real
@pytest.mark.parametrize("name", programs())
def test_a_watch_needs_the_right_to_read_when_it_begins(name: str, tmp_path: Path) -> None:
    with start(program(name), tmp_path / "data", "--bcrypt-cost=4") as member, connect(member.address) as calls:
        furnish(calls)
        token = calls.login("u", "pw")

        assert not calls.watch(rpc.WatchCreateRequest(key=b"a"), token).canceled
        assert not calls.watch(rpc.WatchCreateRequest(key=b"a", range_end=b"a\0"), token).canceled
        for key, end, shown in ((b"b", b"", token), (b"a", b"c", token), (b"a", b"", None), (b"a", b"", "x.1")):
            refused = calls.watch(rpc.WatchCreateRequest(key=key, range_end=end), shown)
            assert (refused.created, refused.canceled, refused.cancel_reason) == (
                True,
                True,
                "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
            )


def test_it_is_root_who_moves_the_leader(tmp_path: Path) -> None:
    """Source: authMaintenanceServer of 3.5.28; in 3.5.1 anybody may."""
    with start(balsad(), tmp_path / "data", "--bcrypt-cost=4") as member, connect(member.address) as calls:
        furnish(calls)
        request = rpc.MoveLeaderRequest(targetID=5)
        for token, said in (
            (None, "auth: user name is empty"),
            (calls.login("u", "pw"), "auth: permission denied"),
            (calls.login(*ROOT), "etcdserver: bad leader transferee"),
        ):
            assert said in str(calls.outcome("Maintenance/MoveLeader", request, token))
