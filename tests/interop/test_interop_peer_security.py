"""Members that speak TLS to each other, of both kinds: certificates made, shown, asked for, refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.clusters import Cluster, Seat
from tests.interop.servers import Program, balsad, real
from tests.unit.peer.certificates import Authority

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

KINDS = {"o": balsad, "r": real}


class SecureSeat(Seat):
    """A place whose peers come over TLS."""

    @property
    def peer_url(self) -> str:
        return f"https://127.0.0.1:{self.peer.number}"


class SecureCluster(Cluster):
    def __init__(self, folder: Path, kinds: str) -> None:
        folder.mkdir(exist_ok=True)
        super().__init__(folder, [SecureSeat(f"m{at + 1}") for at in range(len(kinds))], ())
        self.programs: dict[str, Program] = {f"m{at + 1}": KINDS[kind]() for at, kind in enumerate(kinds)}

    def begin(self, name: str, *flags: str) -> None:
        url = self.seat(name).peer_url
        self.start(
            name, self.programs[name], f"--listen-peer-urls={url}", f"--initial-advertise-peer-urls={url}", *flags
        )

    def __enter__(self) -> SecureCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for seat in self.seats:
            seat.client.release()
            seat.peer.release()

    def serves(self) -> None:
        for at, name in enumerate(self.members):
            self.ctl("put", f"k{at}", "v", at=name)
        self.assert_equal()


@pytest.mark.parametrize("kinds", ["oor", "orr"])
def test_certificates_made_by_themselves(tmp_path: Path, kinds: str) -> None:
    with SecureCluster(tmp_path / "members", kinds) as members:
        for name in members.programs:
            members.begin(name, "--peer-auto-tls")
        members.wait_healthy()
        members.serves()


def shown(authority: Authority, name: str, *hosts: str) -> tuple[str, ...]:
    """The flags of a member with a certificate of this common name."""
    cert, key = authority.issue(name, hosts or ("127.0.0.1",))
    return (
        f"--peer-cert-file={cert}",
        f"--peer-key-file={key}",
        f"--peer-trusted-ca-file={authority.file}",
        "--peer-client-cert-auth",
    )


@pytest.mark.parametrize(("rule", "kinds"), [("cn", "oor"), ("cn", "rro"), ("hostname", "oor"), ("authority", "oor")])
def test_only_who_is_allowed_takes_part(tmp_path: Path, kinds: str, rule: str) -> None:
    """Two members are a quorum; the third has the wrong certificate, and is let in once it has the right one."""
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    allowed: tuple[str, ...] = ()
    right: tuple[str, ...] = ("member",)
    wrong: tuple[str, ...] = ("member-other",)
    if rule == "cn":
        allowed = ("--peer-cert-allowed-cn=member",)
    elif rule == "hostname":
        allowed = ("--peer-cert-allowed-hostname=member.example.com",)
        right = ("member", "127.0.0.1", "member.example.com")
        wrong = ("member-other", "127.0.0.1", "other.example.com")
    with SecureCluster(tmp_path / "members", kinds) as members:
        flags = (*shown(authority, *right), *allowed)
        members.begin("m1", *flags)
        members.begin("m2", *flags)
        members.wait_healthy("m1", "m2")
        # It trusts the others, whoever trusts it or not.
        mistaken = shown(other if rule == "authority" else authority, *wrong)
        members.begin("m3", *mistaken, f"--peer-trusted-ca-file={authority.file}")
        members.ctl("put", "a", "1", at="m1")
        members.until("m3 is refused", lambda: is_refused(members))
        assert not members.members["m3"].is_healthy()
        members.members["m3"].kill()

        members.begin("m3", *flags)

        members.wait_healthy("m3")
        members.serves()


def is_refused(members: Cluster) -> bool:
    said = members.members["m1"].logs(200) + members.members["m2"].logs(200)
    return "rejected connection" in said or "certificate" in said
