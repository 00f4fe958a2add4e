"""TLS between members: who is let in, who is dialled, certificates made and renewed."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import ssl
import stat
import sys
from pathlib import Path

import pytest

from balsad.config import ServerConfig, StartError, TlsConfig, parse_urls
from balsad.env.real import real_env
from balsad.peer import PeerTls
from balsad.peer.tls import CertificateRefusedError, check_address, is_for_host
from balsad.raft import Message, MessageType, Snapshot
from tests.unit.peer.certificates import Authority
from tests.unit.peer.conftest import Run
from tests.unit.peer.peer_kit import Db, End, end, has_streams, join, until


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def tls_of(authority: Authority, name: str, hosts: tuple[str, ...] = ("127.0.0.1",), **fields: object) -> PeerTls:
    cert, key = authority.issue(name, hosts)
    return PeerTls(TlsConfig(cert_file=cert, key_file=key, trusted_ca_file=authority.file, **fields))  # type: ignore[arg-type]


def test_members_speak_over_tls(run: Run, tmp_path: Path, authority: Authority) -> None:
    async def work() -> None:
        async with (
            end(1, tmp_path / "a", tls=tls_of(authority, "one")) as one,
            end(2, tmp_path / "b", tls=tls_of(authority, "two")) as other,
        ):
            await join(one, other)
            beat = Message(MessageType.HEARTBEAT, to=2, from_=1, term=1)
            one.transport.send([beat])
            await until(lambda: len(other.inbox.messages) == 1)
            # Posts and databases as well.
            db = Db(bytes(range(256)) * 10_000)
            one.transport.send_snapshot(Message(MessageType.SNAP, to=2, from_=1, snapshot=Snapshot(3, 1)), db)
            await until(lambda: one.inbox.snapshots == [(2, True)])
            assert (tmp_path / "b" / f"{3:016x}.snap.db").read_bytes() == db.data

    run(work())


async def never_joins(one: End, other: End, caplog: pytest.LogCaptureFixture, *texts: str) -> None:
    """`one` gets no stream of `other`, and says why."""
    one.transport.add_peer(other.id, [other.url])
    other.transport.add_peer(one.id, [one.url])
    await until(lambda: any(text in str(record.__dict__) for record in caplog.records for text in texts), str(texts))
    await asyncio.sleep(0.1)
    assert not has_streams(other, one.id)


def test_a_certificate_of_another_authority_is_refused(
    run: Run, tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = Authority(tmp_path, "stranger")

    async def work() -> None:
        async with (
            end(1, tmp_path / "a", tls=tls_of(stranger, "one")) as one,
            end(2, tmp_path / "b", tls=tls_of(authority, "two")) as other,
        ):
            await never_joins(one, other, caplog, "x509: unable to get local issuer certificate", "self-signed")

    with caplog.at_level(logging.DEBUG, "balsad.peer"):
        run(work())


def test_a_server_of_another_name_is_not_trusted(
    run_once: Run, tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        skip = tls_of(authority, "two", ("10.9.8.7",), skip_client_san_verification=True)
        async with (
            end(1, tmp_path / "a", tls=tls_of(authority, "one")) as one,
            end(2, tmp_path / "b", tls=skip) as other,
        ):
            one.transport.add_peer(2, [other.url])
            await until(lambda: any("IP address mismatch" in str(record.__dict__) for record in caplog.records))

    with caplog.at_level(logging.DEBUG, "balsad.peer"):
        run_once(work())


@pytest.mark.parametrize("field", ["allowed_cns", "allowed_hostnames"])
def test_only_allowed_names_come_in(
    run_once: Run, tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture, field: str
) -> None:
    """Source: etcd baseConfig, which asks it of both ends."""

    async def work() -> None:
        # Theirs says friend and friend.example, ours both that and something else.
        strict = tls_of(authority, "friend", ("127.0.0.1", "friend.example"), **{field: ("friend", "friend.example")})
        good = tls_of(authority, "friend", ("127.0.0.1", "friend.example"))
        bad = tls_of(authority, "foe", ("127.0.0.1", "foe.example"), skip_client_san_verification=True)
        async with (
            end(1, tmp_path / "a", tls=strict) as one,
            end(2, tmp_path / "b", tls=good) as friend,
            end(3, tmp_path / "c", tls=bad) as foe,
        ):
            await join(one, friend)
            await never_joins(one, foe, caplog, "client certificate authentication failed")
            await asyncio.sleep(0.1)
            peer = next(peer for peer in one.transport.peers if peer.id == 3)
            assert not peer.status.is_active

    with caplog.at_level(logging.DEBUG, "balsad.peer"):
        run_once(work())


def test_a_certificate_for_elsewhere_is_not_let_in(
    run_once: Run, tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """A client certificate that names addresses must name the one it comes from; a flag lifts that."""

    async def work() -> None:
        for skip in (False, True):
            cert, key = authority.issue(f"server{skip}", ("127.0.0.1",))
            client_cert, client_key = authority.issue(f"client{skip}", ("10.1.2.3",))
            roaming = PeerTls(
                TlsConfig(
                    cert_file=cert,
                    key_file=key,
                    client_cert_file=client_cert,
                    client_key_file=client_key,
                    trusted_ca_file=authority.file,
                )
            )
            home = tls_of(authority, f"home{skip}", skip_client_san_verification=skip)
            async with (
                end(1, tmp_path / f"a{skip}", tls=roaming) as one,
                end(2, tmp_path / f"b{skip}", tls=home) as other,
            ):
                one.transport.add_peer(2, [other.url])
                other.transport.add_peer(1, [one.url])
                if skip:
                    await until(lambda: has_streams(other, 1), "the streams")
                else:
                    await until(lambda: any("not 127.0.0.1" in str(record.__dict__) for record in caplog.records))
                    assert not has_streams(other, 1)

    with caplog.at_level(logging.DEBUG, "balsad.peer"):
        run_once(work())


def test_addresses_and_names_are_asked_as_etcd_does(run_once: Run) -> None:
    """Source: etcd checkCertSAN."""

    def certificate(*names: tuple[str, str]) -> dict[str, object]:
        return {"subjectAltName": names}

    async def work() -> None:
        await check_address({}, "127.0.0.1")
        await check_address(certificate(("IP Address", "127.0.0.1")), "127.0.0.1")
        await check_address(certificate(("IP Address", "0:0:0:0:0:0:0:1")), "::1")
        await check_address(certificate(("DNS", "localhost")), "127.0.0.1")
        await check_address(certificate(("IP Address", "10.0.0.1"), ("DNS", "localhost")), "127.0.0.1")
        for refused in (
            certificate(("IP Address", "10.0.0.1")),
            certificate(("DNS", "name.invalid")),
            certificate(("DNS", "*.invalid")),
        ):
            with pytest.raises(CertificateRefusedError):
                await check_address(refused, "127.0.0.1")

    run_once(work())


@pytest.mark.parametrize(
    ("names", "host", "fits"),
    [
        (["a.example"], "a.example", True),
        (["A.Example"], "a.example.", True),
        (["*.example"], "a.example", True),
        (["*.example"], "a.b.example", False),
        (["*.example"], "example", False),
        (["*"], "example", False),
        (["a.example"], "b.example", False),
        ([], "a.example", False),
    ],
)
def test_hosts_of_certificates(names: list[str], host: str, fits: bool) -> None:
    """Source: Go's x509 VerifyHostname."""
    assert is_for_host({"subjectAltName": tuple(("DNS", name) for name in names)}, host) is fits


def test_a_renewed_certificate_counts_for_the_next_connection(
    run_once: Run, tmp_path: Path, authority: Authority
) -> None:
    tls = tls_of(authority, "one")
    before = tls.client_context()
    assert tls.client_context() is before
    cert, key = authority.issue("renewed")
    shutil.copy(cert, tls.files.cert_file)
    shutil.copy(key, tls.files.key_file)
    assert tls.client_context() is not before


def test_a_client_without_certificate_is_refused(run: Run, tmp_path: Path, authority: Authority) -> None:
    async def work() -> None:
        async with end(1, tmp_path / "a", tls=tls_of(authority, "one")) as ours:
            context = ssl.create_default_context(cafile=authority.file)
            host, port = ours.listener.addresses[0]
            with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
                reader, writer = await asyncio.open_connection(host, port, ssl=context)
                writer.write(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
                if not await reader.read(100):
                    raise EOFError
            # And plain HTTP is not spoken there.
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
            try:
                assert not (await reader.read(100)).startswith(b"HTTP/1.1 200")
            except ConnectionError:
                pass
            writer.close()

    run(work())


# From the flags.


def config_of(tmp_path: Path, scheme: str = "https", **tls: object) -> ServerConfig:
    return ServerConfig(
        data_dir=str(tmp_path / "data"),
        listen_peer_urls=parse_urls([f"{scheme}://127.0.0.1:2380", f"{scheme}://localhost:2381"]),
        peer_tls=TlsConfig(**tls),  # type: ignore[arg-type]
    )


def test_plain_members_need_no_certificates(tmp_path: Path) -> None:
    assert PeerTls.from_config(config_of(tmp_path, "http"), real_env()) is None


def test_refusals_at_the_start(tmp_path: Path, authority: Authority) -> None:
    """Source: etcd transport.TLSInfo."""
    cert, key = authority.issue("one")
    for tls, text in (
        ({}, "cannot listen on TLS for 127.0.0.1:2380: KeyFile and CertFile are not presented"),
        ({"cert_file": cert}, "KeyFile and CertFile must both be present"),
        ({"cert_file": cert, "key_file": key, "client_cert_file": cert}, "must both be present or both absent"),
        ({"cert_file": cert, "key_file": "/nowhere/key.pem"}, "open /nowhere/key.pem: no such file or directory"),
        (
            {"cert_file": cert, "key_file": key, "allowed_cns": ("a",), "allowed_hostnames": ("b",)},
            'AllowedCN and AllowedHostname are mutually exclusive (cn="a", hostname="b")',
        ),
    ):
        with pytest.raises(StartError) as refused:
            PeerTls.from_config(config_of(tmp_path, **tls), real_env())
        assert text in str(refused.value)


def test_a_certificate_of_ones_own_is_made_once(run_once: Run, tmp_path: Path) -> None:
    env = real_env()
    tls = PeerTls.from_config(config_of(tmp_path, auto_tls=True), env)
    assert tls is not None
    folder = tmp_path / "data" / "fixtures" / "peer"
    assert sorted(path.name for path in folder.iterdir()) == ["cert.pem", "key.pem"]
    assert stat.S_IMODE(os.stat(folder / "key.pem").st_mode) == 0o600
    made = (folder / "cert.pem").read_bytes()
    again = PeerTls.from_config(config_of(tmp_path, auto_tls=True), env)
    assert again is not None
    assert (folder / "cert.pem").read_bytes() == made
    other_tls = PeerTls.from_config(config_of(tmp_path / "other", auto_tls=True), env)

    async def work() -> None:
        async with end(1, tmp_path / "a", tls=tls) as one, end(2, tmp_path / "b", tls=other_tls) as other:
            await join(one, other)

    run_once(work())


def test_without_cryptography_auto_tls_is_refused_in_plain_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(StartError, match="`cryptography`, which is not installed"):
        PeerTls.from_config(config_of(tmp_path, auto_tls=True), real_env())


def test_given_certificates_win_over_auto_tls(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    cert, key = authority.issue("one")
    tls = PeerTls.from_config(config_of(tmp_path, auto_tls=True, cert_file=cert, key_file=key), real_env())
    assert tls is not None
    assert tls.files.cert_file == cert
    assert "ignoring peer auto TLS since certs given" in caplog.messages
