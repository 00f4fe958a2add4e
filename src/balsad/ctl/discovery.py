"""Endpoints from DNS: the SRV records of `_etcd-client-ssl._tcp.DOMAIN` and `_etcd-client._tcp.DOMAIN`.

Source: etcd client/pkg/srv/srv.go; RFC 1035, RFC 2782.
"""

from __future__ import annotations

import os
import socket
from typing import Final

from balsad.ctl.console import EXIT_ERROR, Console, Failure
from balsad.go_quote import quote_go

_SRV: Final = 33
_TIMEOUT_S: Final = 5.0


class LookupFailedError(Exception):
    """No answer, or none that helps."""


def find_endpoints(console: Console, domain: str, service_name: str, *, allow_insecure: bool) -> list[str]:
    """The endpoints that a domain names, with schemes."""
    suffix = f"-{service_name}" if service_name else ""
    found: list[str] = []
    errors: list[str] = []
    for service, scheme in ((f"etcd-client-ssl{suffix}", "https"), (f"etcd-client{suffix}", "http")):
        try:
            found += [f"{scheme}://{host}:{port}" for host, port in look_up(f"_{service}._tcp.{domain}")]
        except LookupFailedError as error:
            errors.append(str(error))
    if len(errors) == 2:
        raise Failure(EXIT_ERROR, f"dns lookup errors: {errors[0]} and {errors[1]}")
    if allow_insecure:
        return found
    for endpoint in found:
        if endpoint.startswith("http://"):
            console.error(f"ignoring discovered insecure endpoint {quote_go(endpoint)}")
    return [endpoint for endpoint in found if not endpoint.startswith("http://")]


def look_up(name: str) -> list[tuple[str, int]]:
    """Hosts and ports of a name's SRV records, the most wanted first. Raises LookupFailedError."""
    server = _name_server()
    query = _query(name)
    try:
        with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(_TIMEOUT_S)
            sock.connect((server, 53))
            sock.send(query)
            answer = sock.recv(65535)
    except OSError as error:
        raise LookupFailedError(f"lookup {name} on {server}:53: {error}") from error
    records = _srv_records(answer) if answer[:2] == query[:2] else []
    if not records:
        raise LookupFailedError(f"lookup {name} on {server}:53: no such host")
    return [(host.rstrip("."), port) for _priority, _weight, host, port in sorted(records)]


def _name_server() -> str:
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
            for line in file:
                words = line.split()
                if len(words) > 1 and words[0] == "nameserver":
                    return words[1]
    except OSError:
        pass
    return "127.0.0.1"


def _query(name: str) -> bytes:
    labels = b"".join(bytes((len(label),)) + label.encode("idna" if label else "ascii") for label in name.split("."))
    return os.urandom(2) + b"\1\0\0\1\0\0\0\0\0\0" + labels + b"\0" + bytes((0, _SRV, 0, 1))


def _srv_records(answer: bytes) -> list[tuple[int, int, str, int]]:
    """Priority, weight, host and port of each record."""
    try:
        questions, answers = int.from_bytes(answer[4:6], "big"), int.from_bytes(answer[6:8], "big")
        pos = 12
        for _ in range(questions):
            pos = _name(answer, pos)[1] + 4
        records = []
        for _ in range(answers):
            pos = _name(answer, pos)[1]
            kind, size = int.from_bytes(answer[pos : pos + 2], "big"), int.from_bytes(answer[pos + 8 : pos + 10], "big")
            pos += 10
            if kind == _SRV:
                priority, weight, port = (int.from_bytes(answer[pos + at : pos + at + 2], "big") for at in (0, 2, 4))
                records.append((priority, weight, _name(answer, pos + 6)[0], port))
            pos += size
    except IndexError:
        return []
    return records


def _name(answer: bytes, pos: int) -> tuple[str, int]:
    """The name at `pos`, its compression undone, and the place after it."""
    labels: list[str] = []
    end = 0
    for _ in range(128):
        size = answer[pos]
        if size >= 0xC0:
            end = end or pos + 2
            pos = (size & 0x3F) << 8 | answer[pos + 1]
        elif size == 0:
            return ".".join(labels), end or pos + 1
        else:
            labels.append(answer[pos + 1 : pos + 1 + size].decode("ascii", "replace"))
            pos += 1 + size
    raise IndexError("a name without an end")
