"""A small DNS server that knows SRV and A records, over UDP and TCP, for tests."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SRV, A = 33, 1
NO_SUCH_NAME, BROKEN = 3, 2


@dataclass
class Zone:
    """Records by name, without the last dot; `refusals` answers names with a code in place of records."""

    srv: Mapping[str, Sequence[tuple[int, int, int, str]]] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    refusals: Mapping[str, int] = field(default_factory=dict)
    udp_records_max: int = 100  # more are cut off, with the flag that says so


class DnsServer:
    """Serves `zone` on `port` of 127.0.0.1 until it is closed; counts what it was asked over each of both ways."""

    def __init__(self, zone: Zone, port: int = 0) -> None:
        self.zone = zone
        self.asked: list[tuple[str, str]] = []
        self._tcp = socket.socket()
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._tcp.bind(("127.0.0.1", port))
        self._tcp.listen(16)
        self.port: int = self._tcp.getsockname()[1]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", self.port))
        threading.Thread(target=self._serve_udp, daemon=True).start()
        threading.Thread(target=self._serve_tcp, daemon=True).start()

    def close(self) -> None:
        for sock in (self._tcp, self._udp):
            sock.close()

    def _serve_udp(self) -> None:
        while True:
            try:
                query, sender = self._udp.recvfrom(4096)
                self._udp.sendto(self._answer(query, "udp"), sender)
            except OSError:
                return

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            with connection:
                data = connection.recv(4096)
                if len(data) > 2:
                    answer = self._answer(data[2:], "tcp")
                    connection.sendall(struct.pack(">H", len(answer)) + answer)

    def _answer(self, query: bytes, way: str) -> bytes:
        labels = []
        pos = 12
        while query[pos]:
            labels.append(query[pos + 1 : pos + 1 + query[pos]].decode())
            pos += 1 + query[pos]
        name = ".".join(labels).lower()
        (kind,) = struct.unpack(">H", query[pos + 1 : pos + 3])
        question = query[12 : pos + 5]
        self.asked.append((way, name))
        records: list[bytes] = []
        if kind == SRV:
            for priority, weight, port, target in self.zone.srv.get(name, ()):
                # The owner's name is a pointer to the question, as servers compress it.
                data = struct.pack(">HHH", priority, weight, port) + _labels(target)
                records.append(b"\xc0\x0c" + struct.pack(">HHIH", SRV, 1, 60, len(data)) + data)
        elif kind == A and name in self.zone.addresses:
            data = socket.inet_aton(self.zone.addresses[name])
            records.append(b"\xc0\x0c" + struct.pack(">HHIH", A, 1, 60, len(data)) + data)
        code = self.zone.refusals.get(name, 0)
        if not code and name not in self.zone.srv and name not in self.zone.addresses:
            code = NO_SUCH_NAME
        flags = 0x8180 | code
        if way == "udp" and len(records) > self.zone.udp_records_max:
            flags |= 0x0200
            records = records[: self.zone.udp_records_max]
        return query[:2] + struct.pack(">HHHHH", flags, 1, len(records), 0, 0) + question + b"".join(records)


def _labels(name: str) -> bytes:
    return b"".join(bytes((len(label),)) + label.encode() for label in name.split(".")) + b"\0"
