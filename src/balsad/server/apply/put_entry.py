"""Puts of a key and a value as they stand in the log, where nobody has them decoded: another member proposed them.

    22 size PutRequest   a2 06 size 08 id
    put = 4              header = 100

That is an InternalRaftRequest in the order in which every etcd writes it. Three puts are applied nine times by three
members, eight times by one that did not propose it, or had to forward it.
"""

from __future__ import annotations

from typing import Final

from balsad.server.propose import plain_put
from balsad.wire import WireError, read_uvarint

_HIGHS_MAX: Final = 64


class PutReader:
    """Reads them one after the other."""

    __slots__ = ("_highs",)

    def __init__(self) -> None:
        # What stands for all but the low 14 bits of an id, and what it means: a member's next ids share it.
        self._highs: dict[bytes, int] = {}

    def read(self, data: bytes) -> tuple[int, bytes, bytes, int] | None:
        """The request's id, the PutRequest, its key and where its value's length stands; None if it is anything else.

        What is read here would decode to this and nothing more.
        """
        if len(data) < 16 or data[0] != 0x22:
            return None
        size = data[1]
        start = 2
        if size > 127:
            middle = data[2]
            size += (middle << 7) - 128
            start = 3
            if middle > 127:
                high = data[3]
                if high > 127:
                    return None
                size += (high << 14) - 16384
                start = 4
        end = start + size
        id_at = end + 4
        if data[end:id_at] != b"\xa2\x06%c\x08" % ((len(data) - end - 3) & 127):
            return None
        # Two bytes that go on, and the last of the rest ends.
        if not 3 <= len(data) - id_at <= 10 or data[id_at] < 128 or data[id_at + 1] < 128:
            return None
        raw = data[start:end]
        plain = plain_put(raw)
        if plain is None:
            return None
        rest = data[id_at + 2 :]
        id_high = self._highs.get(rest, -1)
        if id_high < 0:
            id_high = self._note(rest)
            if id_high < 0:
                return None
        return id_high << 14 | (data[id_at + 1] & 127) << 7 | data[id_at] & 127, raw, plain[0], plain[1]

    def _note(self, rest: bytes) -> int:
        """What these bytes of an id say; -1 if they are no number, or one of more than 64 bits."""
        try:
            number, end = read_uvarint(rest, 0)
        except WireError:
            return -1
        if end != len(rest) or number >> 50:
            return -1
        if len(self._highs) >= _HIGHS_MAX:
            self._highs.clear()
        self._highs[rest] = number
        return number


def plain_size(raw: bytes, value_at: int) -> int:
    """Of key and value together."""
    rest = len(raw) - value_at
    return raw[1] + rest - (1 if rest <= 128 else 2 if rest <= 16385 else 3)
