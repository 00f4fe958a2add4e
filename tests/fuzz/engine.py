"""Mutated inputs, thousands of them, thrown at a room's door; each find names the input that made it.

A target takes any bytes. It says in a word or two how they were met ("refused: ...", "3 entries"), raises
AssertionError where the room broke its word, and lets through what the room never should have raised. An input whose
outcome was not seen before joins the corpus, so that later ones start from it.

    seed, corpus --> pick, mutate --> check(data) --> outcome is new? keep it
                                          |
                                          +--> raised, hung or took memory without bound: Find, with the input

The same seed gives the same inputs. Time is counted in seconds of this process's CPU, so a loaded machine changes
nothing but how long it takes.
"""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

# Those of one digit tell apart what is worth it: how many were answered, which code.
_NUMBERS: Final = re.compile(r"\d\d+|0x[0-9a-f]+|b'.*'")
INPUT_BYTES_MAX: Final = 1 << 16
HANG_S: Final = 10.0
"""CPU seconds that no input of that size may take."""
MEMORY_MAX: Final = 256 << 20
"""What a run may leave behind: caches fill up, nothing grows with every input."""
CORPUS_MAX: Final = 3000

INTERESTING: Final = (0, 1, 2, 3, 7, 8, 9, 16, 26, 31, 34, 64, 100, 127, 128, 129, 200, 254, 255)
NUMBERS: Final = (0, 1, 2, 127, 128, 255, 256, 511, 512, 4095, 4096, 16384, 65535, 65536, 1 << 24, (1 << 31) - 1)
NUMBERS_LONG: Final = (1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, 1 << 56, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


class Hang(BaseException):
    """An input took longer than any may."""


class Find(AssertionError):
    """What a room did that it never should; the message has the input."""


@dataclass(frozen=True, slots=True)
class Target:
    """A door, how it is met, and what real inputs look like."""

    name: str
    check: Callable[[bytes], str]
    """How the input was met; raises what must not be raised."""
    corpus: Callable[[], list[bytes]]
    words: tuple[bytes, ...] = ()
    """Pieces of the format, put in here and there."""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


class Mutator:
    def __init__(self, rnd: random.Random, words: tuple[bytes, ...]) -> None:
        self.rnd = rnd
        self.words = words

    def mutate(self, data: bytes, corpus: list[bytes]) -> bytes:
        out = bytearray(data)
        for _ in range(self.rnd.choice((1, 1, 1, 2, 2, 3, 5, 12))):
            self._once(out, corpus)
        return bytes(out[:INPUT_BYTES_MAX])

    def _span(self, out: bytearray) -> tuple[int, int]:
        rnd = self.rnd
        start = rnd.randrange(len(out) + 1)
        size = rnd.choice((1, 1, 2, 4, 8, 9, rnd.randrange(1, 64), rnd.randrange(1, 2000)))
        return start, min(len(out), start + size)

    def _number(self) -> bytes:
        rnd = self.rnd
        value = rnd.choice(NUMBERS + NUMBERS_LONG)
        how = rnd.randrange(6)
        if how == 0:
            return _varint(value)
        if how == 1:
            return _varint(value)[:-1] + b"\x80\x00"  # longer than it need be
        size = rnd.choice((2, 4, 8))
        return (value % (1 << 8 * size)).to_bytes(size, "big" if how < 4 else "little")

    def _once(self, out: bytearray, corpus: list[bytes]) -> None:
        rnd = self.rnd
        how = rnd.randrange(13)
        if how <= 1 and out:
            out[rnd.randrange(len(out))] ^= 1 << rnd.randrange(8)
        elif how == 2 and out:
            out[rnd.randrange(len(out))] = rnd.choice(INTERESTING)
        elif how == 3 and out:
            at = rnd.randrange(len(out))
            out[at] = (out[at] + rnd.choice((-1, 1, -8, 8))) & 255
        elif how == 4:
            start, stop = self._span(out)
            del out[start:stop]
        elif how == 5:
            start, stop = self._span(out)
            out[start:start] = out[start:stop] * rnd.choice((1, 1, 2, 10, 300, 3000))
        elif how == 6:
            start, _ = self._span(out)
            out[start:start] = rnd.randbytes(rnd.choice((1, 2, 3, 8, 40)))
        elif how == 7:
            number = self._number()
            start = rnd.randrange(len(out) + 1)
            out[start : start + (len(number) if rnd.random() < 0.6 else 0)] = number
        elif how == 8:
            del out[rnd.randrange(len(out) + 1) :]
        elif how == 9:
            other = rnd.choice(corpus)
            start, stop = self._span(bytearray(other))
            here, there = self._span(out)
            out[here : there if rnd.random() < 0.5 else here] = other[start:stop]
        elif how == 10:
            other = rnd.choice(corpus)
            out[rnd.randrange(len(out) + 1) :] = other[rnd.randrange(len(other) + 1) :]
        elif how == 11 and self.words:
            start, stop = self._span(out)
            word = rnd.choice(self.words) * rnd.choice((1, 1, 1, 1, 3, 500))
            out[start : start if rnd.random() < 0.7 else stop] = word
        elif out:
            # One length field with what follows it moved by as much.
            at = rnd.randrange(len(out))
            grow = rnd.randrange(1, 6)
            out[at] = (out[at] + grow) & 255
            out[at + 1 : at + 1] = rnd.randbytes(grow)
        del out[INPUT_BYTES_MAX:]


@contextmanager
def _time_limit() -> Iterator[Callable[[], None]]:
    """Gives what starts the clock anew; Hang is raised where too much CPU goes into one input."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGVTALRM, stop)
    try:
        yield lambda: signal.setitimer(signal.ITIMER_VIRTUAL, HANG_S) and None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Report:
    inputs: int
    outcomes: dict[str, int]


def run(target: Target, seed: int, *, cpu_s: float, inputs_max: int = 1 << 60) -> Report:
    """Fuzz for so many CPU seconds or inputs. Raises: Find."""
    rnd = random.Random(f"{target.name} {seed}")
    corpus = target.corpus()
    assert corpus
    mutator = Mutator(rnd, target.words)
    outcomes: dict[str, int] = {}
    count = 0
    with _time_limit() as restart:
        for data in list(corpus):
            outcome = _meet(target, data, restart)
            assert not outcome.startswith("refused"), f"{target.name}: a good input was {outcome}"
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        memory = _resident()
        until = time.process_time() + cpu_s
        while count < inputs_max and time.process_time() < until:
            data = mutator.mutate(rnd.choice(corpus), corpus)
            outcome = _meet(target, data, restart)
            if outcome not in outcomes and len(corpus) < CORPUS_MAX:
                corpus.append(data)
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
            count += 1
            if count % 512 == 0 and _resident() - memory > MEMORY_MAX:
                raise Find(f"{target.name}: {_resident() - memory} bytes are held after {count} inputs of seed {seed}")
    return Report(count, outcomes)


def _meet(target: Target, data: bytes, restart: Callable[[], None]) -> str:
    restart()
    try:
        return _NUMBERS.sub("#", target.check(data))[:60]
    except Hang:
        raise Find(f"{target.name}: no end after {HANG_S} s of CPU\n{replay(target, data)}") from None
    except Exception as error:
        raise Find(f"{target.name}: {type(error).__name__}: {str(error)[:1500]}\n{replay(target, data)}") from error


def replay(target: Target, data: bytes) -> str:
    """The line that meets the input again."""
    return f"python -m tests.fuzz.one {target.name} {data.hex()}"


def shorten(target: Target, data: bytes) -> bytes:
    """A shorter input that fails in the same way."""

    def fails(candidate: bytes) -> str:
        try:
            target.check(candidate)
        except Exception as error:
            return type(error).__name__
        return ""

    kind = fails(data)
    assert kind, "it does not fail"
    size = max(1, len(data) // 2)
    while size:
        at = 0
        while at < len(data):
            candidate = data[:at] + data[at + size :]
            if fails(candidate) == kind:
                data = candidate
            else:
                at += size
        size //= 2
    return data
