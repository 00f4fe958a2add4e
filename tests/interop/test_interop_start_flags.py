"""What the flags of a start promise: certificates made when asked for, a founder that is who it says."""

from __future__ import annotations

import ssl
import time
import urllib.request
from pathlib import Path

import pytest

from tests.interop.servers import Member, fetch, program, programs, start
from tests.interop.v3 import connect

START_S = 30.0
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.real
@pytest.mark.parametrize("who", programs())
def test_auto_tls_serves_https_and_nothing_else(who: str, tmp_path: Path) -> None:
    """Source: embed.Config.ClientSelfCert. The certificate proves nothing, so it is not checked here."""
    anybody = ssl.create_default_context()
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    data_dir = tmp_path / "data"

    with start(program(who), data_dir, "--auto-tls", healthy=False) as member:
        # The usual flags say http; the client URLs that win are these.
        url = member.client_url.replace("http://", "https://")
        member.stop()
        flags = (f"--listen-client-urls={url}", f"--advertise-client-urls={url}", "--auto-tls")
        with start(program(who), data_dir, *flags, like=member, healthy=False) as again:
            assert b'"health":"true"' in _eventually(f"{url}/health", anybody)
            with pytest.raises(OSError):
                fetch(f"{again.client_url}/health")

    assert sorted(path.name for path in (data_dir / "fixtures/client").iterdir()) == ["cert.pem", "key.pem"]
    assert (data_dir / "fixtures/client/key.pem").stat().st_mode & 0o777 == 0o600


@pytest.mark.real
@pytest.mark.parametrize("who", programs())
def test_an_address_named_with_and_without_tls_takes_both(who: str, tmp_path: Path) -> None:
    anybody = ssl.create_default_context()
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    with start(program(who), tmp_path / "data", healthy=False) as member:
        plain, secure = member.client_url, member.client_url.replace("http://", "https://")
        member.stop()
        for urls in (f"{plain},{secure}", f"{secure},{plain}"):
            flags = (f"--listen-client-urls={urls}", f"--advertise-client-urls={urls}", "--auto-tls")
            with start(program(who), tmp_path / "data", *flags, like=member, healthy=False):
                assert b'"health":"true"' in _eventually(f"{secure}/health", anybody)
                assert b'"health":"true"' in _eventually(f"{plain}/health", anybody)


@pytest.mark.real
@pytest.mark.parametrize("who", programs())
def test_a_member_that_is_to_be_without_v2_must_not_have_keys_there(who: str, tmp_path: Path) -> None:
    """Only what a .snap file has is looked at."""
    with start(program(who), tmp_path / "data", "--enable-v2", "--snapshot-count=2") as member:
        for number in range(10):
            fetch(f"{member.client_url}/v2/keys/k{number}", "PUT", b"value=x", FORM)
        member.stop()
        with start(program(who), tmp_path / "data", "--v2-deprecation=write-only", like=member, healthy=False) as again:
            assert again.process.wait(START_S) == 1
            said = "detected disallowed custom content in v2store for stage --v2-deprecation=write-only"
            assert said in again.logs()
        with start(program(who), tmp_path / "data", "--v2-deprecation=not-yet", "--enable-v2", like=member) as again:
            assert b'"value":"x"' in fetch(f"{again.client_url}/v2/keys/k0")[1]
    with start(program(who), tmp_path / "other", "--snapshot-count=2", "--v2-deprecation=write-only") as member:
        for _ in range(10):
            member.etcdctl("put", "a", "1")
        member.stop()
        with start(program(who), tmp_path / "other", "--v2-deprecation=write-only", like=member):
            pass


def _eventually(url: str, context: ssl.SSLContext) -> bytes:
    deadline = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5, context=context) as answer:
                return bytes(answer.read())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.mark.real
@pytest.mark.parametrize("who", programs())
def test_a_founder_must_advertise_the_urls_it_is_named_with(who: str, tmp_path: Path) -> None:
    """Source: ServerConfig.advertiseMatchesCluster."""
    flag = "--initial-cluster=default=http://127.0.0.1:1"
    with start(program(who), tmp_path / "data", flag, healthy=False) as member:
        assert member.process.wait(START_S) == 1

    assert "--initial-cluster has default=http://127.0.0.1:1 but missing from " in member.logs()
    assert not (tmp_path / "data/member/wal").exists()


@pytest.mark.real
@pytest.mark.parametrize("who", programs())
def test_a_start_gives_back_what_the_db_does_not_use(tmp_path: Path, who: str) -> None:
    """`--experimental-bootstrap-defrag-threshold-megabytes`: at least so much, or it is left alone."""

    def db_size(member: Member) -> int:
        with connect(member.address) as v3:
            return int(v3.status().dbSize)

    with start(program(who), tmp_path / "data") as member:
        with connect(member.address) as v3:
            for at in range(6):
                v3.put(b"k%d" % at, bytes(1 << 20))
            # Once it is in the db, its pages stay there when it is gone.
            deadline = time.monotonic() + START_S
            while v3.status().dbSize < 6 << 20:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            v3.delete(b"k", range_end=b"l")
            v3.compact(8)
        before = db_size(member)
    flag = "--experimental-bootstrap-defrag-threshold-megabytes"
    with start(program(who), tmp_path / "data", f"{flag}=100", like=member) as member:
        assert db_size(member) == before
        assert "Skipping defragmentation" in member.logs()
    with start(program(who), tmp_path / "data", f"{flag}=2", like=member) as member:
        assert db_size(member) < before // 2
        member.etcdctl("put", "a", "1")
    with start(program(who), tmp_path / "data", like=member) as member:
        assert member.etcdctl("get", "a", "--print-value-only") == "1\n"
