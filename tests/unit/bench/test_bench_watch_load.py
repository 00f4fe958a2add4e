"""The bench's count of events: every mark once, however frames and reads cut the bytes of a connection."""

from __future__ import annotations

import random

import pytest

from bench.connection import DATA, frame
from bench.watch_load import VALUE, count_marks


def framed(payload: bytes, sizes: list[int]) -> bytes:
    """The payload in DATA frames of these sizes, the last of which takes the rest."""
    found, pos = b"", 0
    for size in sizes:
        found += frame(DATA, 0, 1, payload[pos : pos + size])
        pos += size
    return found + frame(DATA, 0, 1, payload[pos:])


def counted(pieces: list[bytes]) -> int:
    found, tail = 0, b""
    for piece in pieces:
        more, tail = count_marks(tail + piece)
        found += more
    return found


@pytest.mark.parametrize("cut", range(1, len(VALUE)))
def test_a_mark_that_a_frame_or_a_read_cuts_is_counted_once(cut: int) -> None:
    data = framed(VALUE * 3, [len(VALUE) + cut])
    assert counted([data]) == 3
    for at in range(1, len(data)):
        assert counted([data[:at], data[at:]]) == 3


def test_marks_of_many_frames_and_reads() -> None:
    rnd = random.Random(7)
    data = framed(b"".join(b"\x0a\x3b" + VALUE for _ in range(400)), [rnd.randint(20, 400) for _ in range(300)])
    cuts = sorted(rnd.sample(range(len(data)), 700))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert counted(pieces) == counted([data]) == 400
