"""SRV records from DNS, asked as Go's own resolver asks: by resolv.conf, over UDP, over TCP what is too long for it.

    look_up_srv("_etcd-server._tcp.example.com")
        resolv.conf: nameserver, search, options ndots:N timeout:N attempts:N
        every name of the search list --> every server, `attempts` times
            --> records by priority, and among equals by chance of weight

Source: RFC 1035, RFC 2782, RFC 6891; Go's net/dnsclient_unix.go.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

PORT: Final = 53
_SRV: Final = 33
_IN: Final = 1
_OPT: Final = 41
_UDP_BYTES_MAX: Final = 4096  # told to the server in an OPT record
_TRUNCATED: Final = 0x0200
_RESPONSE: Final = 0x8000
_NO_SUCH_NAME: Final = 3
_LABELS_MAX: Final = 128


class LookupFailedError(Exception):
    """No answer, or none that helps; in the words of Go's resolver."""


@dataclass(frozen=True, slots=True)
class SrvRecord:
    """Where a service is: `target` ends with a dot, as in the answer."""

    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolver:
    """What resolv.conf says."""

    servers: tuple[str, ...] = ("127.0.0.1", "::1")
    search: tuple[str, ...] = ()
    ndots: int = 1
    timeout_s: float = 5.0
    attempts: int = 2
    port: int = PORT

    @staticmethod
    def from_file(path: str = "/etc/resolv.conf") -> Resolver:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return Resolver.from_text(file.read())
        except OSError:
            return Resolver()

    @staticmethod
    def from_text(text: str) -> Resolver:
        servers: list[str] = []
        search: tuple[str, ...] = ()
        options = {"ndots": 1, "timeout": 5, "attempts": 2}
        for line in text.splitlines():
            words = line.split()
            if len(words) < 2 or line[0] in "#;":
                continue
            if words[0] == "nameserver" and len(servers) < 3:
                servers.append(words[1])
            elif words[0] == "domain":
                search = (words[1],)
            elif words[0] == "search":
                search = tuple(words[1:])
            elif words[0] == "options":
                for word in words[1:]:
                    name, _, number = word.partition(":")
                    if name in options and number.isdecimal():
                        options[name] = int(number)
        return Resolver(
            servers=tuple(servers) or Resolver().servers,
            search=search,
            ndots=min(options["ndots"], 15),
            timeout_s=float(max(1, options["timeout"])),
            attempts=max(1, options["attempts"]),
        )

    def names(self, name: str) -> list[str]:
        """What to ask for, one after the other, each with a dot at its end."""
        if name.endswith("."):
            return [name]
        others = [f"{name}.{suffix.rstrip('.')}." for suffix in self.search if suffix.strip(".")]
        return [f"{name}.", *others] if name.count(".") >= self.ndots else [*others, f"{name}."]


def _chance(stop: int) -> int:
    return int.from_bytes(os.urandom(8), "big") % stop


def look_up_srv(
    name: str, resolver: Resolver | None = None, randrange: Callable[[int], int] = _chance
) -> list[SrvRecord]:
    """The SRV records of `name`, the first to be tried first. Blocks. Raises: LookupFailedError."""
    resolver = Resolver.from_file() if resolver is None else resolver
    problem = LookupFailedError(f"lookup {name}: no such host")
    for asked in resolver.names(name):
        try:
            records = _ask_all(asked, name, resolver)
        except LookupFailedError as error:
            problem = error
            continue
        return _in_order(records, randrange)
    raise problem


def _ask_all(asked: str, name: str, resolver: Resolver) -> list[SrvRecord]:
    """Raises: LookupFailedError."""
    try:
        query = _query(asked)
    except UnicodeError:
        raise LookupFailedError(f"lookup {name}: no such host") from None
    problem = "no such host"
    where = ""
    for _ in range(resolver.attempts):
        for server in resolver.servers:
            address = f"[{server}]" if ":" in server else server
            where = f" on {address}:{resolver.port}"
            try:
                answer = _exchange(query, server, resolver)
            except TimeoutError:
                problem = f"read udp {address}:{resolver.port}: i/o timeout"
                continue
            except OSError as error:
                problem = f"read udp {address}:{resolver.port}: {(error.strerror or str(error)).lower()}"
                continue
            code = answer[3] & 0x0F
            try:
                records = _records(answer)
            except IndexError:
                problem = "cannot unmarshal DNS message"
                continue
            if code == _NO_SUCH_NAME or (not code and not records):
                # That is an answer: no other server knows better.
                raise LookupFailedError(f"lookup {name}{where}: no such host")
            if code:
                problem = "server misbehaving"
                continue
            return records
    raise LookupFailedError(f"lookup {name}{where}: {problem}")


def _exchange(query: bytes, server: str, resolver: Resolver) -> bytes:
    """Ask one server once. Raises: OSError."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as udp:
        udp.settimeout(resolver.timeout_s)
        # Connected, so that nobody else's datagrams come in.
        udp.connect((server, resolver.port))
        udp.send(query)
        while True:
            answer = udp.recv(0xFFFF)
            if _answers(answer, query):
                break
    if not int.from_bytes(answer[2:4], "big") & _TRUNCATED:
        return answer
    with socket.socket(family, socket.SOCK_STREAM) as tcp:
        tcp.settimeout(resolver.timeout_s)
        tcp.connect((server, resolver.port))
        tcp.sendall(len(query).to_bytes(2, "big") + query)
        whole = _receive(tcp, int.from_bytes(_receive(tcp, 2), "big"))
    if not _answers(whole, query):
        raise ConnectionError("the answer is to another question")
    return whole


def _receive(tcp: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = tcp.recv(count - len(data))
        if not more:
            raise ConnectionError("unexpected eof")
        data += more
    return data


def _answers(answer: bytes, query: bytes) -> bool:
    """Whether it is a response to this question and no other."""
    if len(answer) < 12 or answer[:2] != query[:2] or not int.from_bytes(answer[2:4], "big") & _RESPONSE:
        return False
    with contextlib.suppress(IndexError):
        asked, end = _name(query, 12)
        told, told_end = _name(answer, 12)
        return asked.lower() == told.lower() and query[end : end + 4] == answer[told_end : told_end + 4]
    return False


def _query(name: str) -> bytes:
    """Raises: UnicodeError when the name is none."""
    labels = name.rstrip(".").split(".")
    encoded = [label.encode("ascii") if label.isascii() else label.encode("idna") for label in labels]
    if not all(0 < len(label) < 64 for label in encoded) or sum(len(label) + 1 for label in encoded) > 254:
        raise UnicodeError("labels have 1 to 63 bytes, names up to 255")
    question = b"".join(bytes((len(label),)) + label for label in encoded) + bytes((0, 0, _SRV, 0, _IN))
    extra = bytes((0, 0, _OPT)) + _UDP_BYTES_MAX.to_bytes(2, "big") + bytes(6)
    # Recursion desired; one question, one additional record.
    return os.urandom(2) + bytes((1, 0, 0, 1, 0, 0, 0, 0, 0, 1)) + question + extra


def _records(answer: bytes) -> list[SrvRecord]:
    """Raises: IndexError when the message is broken."""
    questions, answers = int.from_bytes(answer[4:6], "big"), int.from_bytes(answer[6:8], "big")
    pos = 12
    for _ in range(questions):
        pos = _name(answer, pos)[1] + 4
    records = []
    for _ in range(answers):
        pos = _name(answer, pos)[1]
        kind = _number(answer, pos)
        size = _number(answer, pos + 8)
        pos += 10
        if kind == _SRV:
            priority, weight, port = (_number(answer, pos + at) for at in (0, 2, 4))
            records.append(SrvRecord(priority, weight, port, _name(answer, pos + 6)[0] + "."))
        pos += size
    return records


def _number(data: bytes, pos: int) -> int:
    return data[pos] << 8 | data[pos + 1]


def _name(data: bytes, pos: int) -> tuple[str, int]:
    """The name at `pos`, its compression undone, without the last dot; and the place after it. Raises: IndexError."""
    labels: list[str] = []
    end = 0
    for _ in range(_LABELS_MAX):
        size = data[pos]
        if size >= 0xC0:
            end = end or pos + 2
            pos = (size & 0x3F) << 8 | data[pos + 1]
        elif size == 0:
            return ".".join(labels), end or pos + 1
        else:
            label = data[pos + 1 : pos + 1 + size]
            if size > 63 or len(label) != size:
                raise IndexError("a label that is none")
            labels.append(label.decode("ascii", "replace"))
            pos += 1 + size
    raise IndexError("a name without an end")


def _in_order(records: list[SrvRecord], randrange: Callable[[int], int]) -> list[SrvRecord]:
    """By priority; among equals, each with a chance by its weight (RFC 2782)."""
    ordered: list[SrvRecord] = []
    for priority in sorted({record.priority for record in records}):
        left = sorted((record for record in records if record.priority == priority), key=lambda one: one.weight)
        while left:
            drawn = randrange(sum(record.weight for record in left) + 1)
            for at, record in enumerate(left):
                drawn -= record.weight
                if drawn <= 0:
                    ordered.append(left.pop(at))
                    break
    return ordered
