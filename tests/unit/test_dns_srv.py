"""SRV records, asked of a small DNS server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from balsad.dns_srv import LookupFailedError, Resolver, SrvRecord, look_up_srv
from tests.interop.dns_server import BROKEN, DnsServer, Zone

NAME = "_etcd-server._tcp.example.com"


@contextmanager
def serving(zone: Zone) -> Iterator[DnsServer]:
    server = DnsServer(zone)
    try:
        yield server
    finally:
        server.close()


def ask(server: DnsServer, name: str = NAME, **options: object) -> list[SrvRecord]:
    values = {"servers": ("127.0.0.1",), "timeout_s": 0.2, "attempts": 1, "port": server.port, **options}
    return look_up_srv(name, Resolver(**values), lambda stop: stop - 1)  # type: ignore[arg-type]


def test_records_come_by_priority() -> None:
    records = [(20, 0, 2380, "last.example.com"), (10, 0, 2381, "first.example.com")]
    with serving(Zone(srv={NAME: records})) as server:
        assert ask(server) == [
            SrvRecord(10, 0, 2381, "first.example.com."),
            SrvRecord(20, 0, 2380, "last.example.com."),
        ]


def test_among_equals_chance_decides_by_weight() -> None:
    """RFC 2782: a running sum of weights, and a number drawn from it; weights of 0 come first in it."""
    records = [(1, 3, 1, "heavy"), (1, 0, 2, "never"), (1, 1, 3, "light")]
    with serving(Zone(srv={NAME: records})) as server:
        resolver = Resolver(servers=("127.0.0.1",), port=server.port)

        def drawn(*numbers: int) -> list[str]:
            chances = iter(numbers)
            return [record.target for record in look_up_srv(NAME, resolver, lambda stop: next(chances))]

        assert drawn(0, 0, 0) == ["never.", "light.", "heavy."]
        assert drawn(1, 0, 3) == ["light.", "never.", "heavy."]
        assert drawn(4, 1, 0) == ["heavy.", "light.", "never."]


def test_what_is_cut_off_is_asked_again_over_tcp() -> None:
    records = [(1, 1, 2380 + at, f"m{at}.example.com") for at in range(80)]
    with serving(Zone(srv={NAME: records}, udp_records_max=3)) as server:
        assert len(ask(server)) == 80
        assert server.asked == [("udp", NAME), ("tcp", NAME)]


def test_an_unknown_name_is_asked_for_once_and_with_every_suffix() -> None:
    with serving(Zone(srv={f"{NAME}.more.org": [(1, 1, 7, "a")]})) as server:
        assert ask(server, search=("org.", "more.org")) == [SrvRecord(1, 1, 7, "a.")]
        assert [name for _, name in server.asked] == [NAME, f"{NAME}.org", f"{NAME}.more.org"]
        server.asked.clear()
        assert ask(server, search=("more.org",), ndots=5)
        assert [name for _, name in server.asked] == [f"{NAME}.more.org"]
        with pytest.raises(LookupFailedError, match=f"lookup {NAME} on 127.0.0.1:{server.port}: no such host"):
            ask(server, attempts=3)


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64 + ".com", ".".join(["x" * 60] * 5)])
def test_what_is_no_name_is_not_asked_for(name: str) -> None:
    with serving(Zone()) as server:
        with pytest.raises(LookupFailedError, match="no such host"):
            ask(server, name)
        assert server.asked == []


def test_a_name_without_such_records_is_no_host_either() -> None:
    with serving(Zone(addresses={NAME: "127.0.0.1"})) as server, pytest.raises(LookupFailedError, match="no such host"):
        ask(server)


def test_a_server_that_fails_is_asked_again_and_the_next_one_too() -> None:
    with serving(Zone(srv={NAME: [(1, 1, 7, "a")]}, refusals={NAME: BROKEN})) as server:
        with pytest.raises(LookupFailedError, match="server misbehaving"):
            ask(server, attempts=2)
        assert len(server.asked) == 2
        server.zone.refusals = {}
        # Nobody listens there.
        assert ask(server, servers=("127.0.0.3", "127.0.0.1")) == [SrvRecord(1, 1, 7, "a.")]


def test_nobody_there() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(LookupFailedError, match="connection refused"):
        look_up_srv(NAME, Resolver(servers=("127.0.0.1",), port=port, timeout_s=0.2, attempts=1))


@contextmanager
def liar(*answers: bytes) -> Iterator[int]:
    """A server that answers every question with these, the question's id put before them."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                query, sender = sock.recvfrom(4096)
                for answer in answers:
                    sock.sendto(answer.replace(b"ID", query[:2]).replace(b"QUESTION", query[12:-11]), sender)
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield sock.getsockname()[1]
    finally:
        sock.close()


HEAD = b"\x81\x80\0\1\0\1\0\0\0\0"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "i/o timeout"),
        (b"xx" + HEAD + b"QUESTION", "i/o timeout"),  # another id
        (b"ID\x01\0\0\1\0\1\0\0\0\0QUESTION", "i/o timeout"),  # a question
        (b"ID" + HEAD + b"\5other\3com\0\0\x21\0\1", "i/o timeout"),  # to another question
        (b"ID" + HEAD + b"QUESTION", "cannot unmarshal DNS message"),
        (b"ID" + HEAD + b"QUESTION\xc0\x0c\0\x21\0\1\0\0\0\0\0\x09\0\1\0\1\0\7\xc0", "cannot unmarshal DNS message"),
        (b"ID" + HEAD + b"QUESTION\xc0", "cannot unmarshal DNS message"),
        (b"ID" + HEAD + b"QUESTION\xc0\x0c\0\x21\0\1\0\0\0\0\0\x09\0\1\0\1\0\7\xff\xff", "cannot unmarshal"),
    ],
)
def test_what_is_no_answer_is_none(answer: bytes, words: str) -> None:
    with liar(answer) as port, pytest.raises(LookupFailedError, match=words):
        look_up_srv(NAME, Resolver(servers=("127.0.0.1",), port=port, timeout_s=0.1, attempts=1))


def test_a_name_that_leads_to_itself_has_no_end() -> None:
    loop = b"ID" + HEAD + b"QUESTION\xc0\x0c\0\x21\0\1\0\0\0\0\0\x08\0\1\0\1\0\7\xc0"
    # The pointer points at itself.
    at = 12 + len(NAME) + 2 + 4 + 12 + 6
    with liar(loop + bytes((at,))) as port, pytest.raises(LookupFailedError, match="cannot unmarshal"):
        look_up_srv(NAME, Resolver(servers=("127.0.0.1",), port=port, timeout_s=0.1, attempts=1))


def test_resolv_conf() -> None:
    text = (
        "# a comment\nnameserver 10.0.0.1\nnameserver fe80::1\nsearch a.org b.org\noptions ndots:3 timeout:2 rotate\n"
    )
    assert Resolver.from_text(text) == Resolver(
        servers=("10.0.0.1", "fe80::1"), search=("a.org", "b.org"), ndots=3, timeout_s=2.0
    )
    assert Resolver.from_text("") == Resolver()
    assert Resolver.from_text("options timeout:0 attempts:x ndots:99").timeout_s == 1.0
    assert Resolver.from_file("/nowhere/at/all") == Resolver()
