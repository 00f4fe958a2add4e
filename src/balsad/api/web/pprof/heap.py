"""Memory in use: by place where Python was told to keep account of it, else as one sum.

Keeping account slows everything down, so it is whoever starts the server that asks for it (PYTHONTRACEMALLOC=16).
Without it the profile has a single place, with the number of Python's blocks and the process's resident bytes.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from typing import Final

from balsad.api.web.pprof.profile import Place, Stack, ValueType, encode, stack_text
from balsad.observe.process import resident_bytes

TRACE_EVERY: Final = "resident memory (PYTHONTRACEMALLOC=16 shows where it was allocated)"
_TYPES: Final = (
    ValueType("alloc_objects", "count"),
    ValueType("alloc_space", "bytes"),
    ValueType("inuse_objects", "count"),
    ValueType("inuse_space", "bytes"),
)


def heap_in_use() -> dict[Stack, tuple[int, int]]:
    """Objects and bytes by place. Where account is kept this takes seconds with millions of objects."""
    if not tracemalloc.is_tracing():
        return {(Place(TRACE_EVERY, "", 0),): (sys.getallocatedblocks(), resident_bytes())}
    counts: dict[Stack, tuple[int, int]] = {}
    for found in tracemalloc.take_snapshot().statistics("traceback"):
        lines = reversed(found.traceback)  # the innermost first
        stack = tuple([Place(frame.filename.rpartition("/")[2], frame.filename, frame.lineno) for frame in lines])
        counts[stack] = found.count, found.size
    return counts


def heap_profile(default_type: str) -> bytes:
    """Of what was freed nothing is known: what was allocated is what is in use."""
    counts = {stack: (objects, size, objects, size) for stack, (objects, size) in heap_in_use().items()}
    return encode(
        counts, _TYPES, period=(ValueType("space", "bytes"), 1), time_ns=time.time_ns(), default_type=default_type
    )


def heap_text() -> str:
    counts = heap_in_use()
    objects = sum(count for count, _ in counts.values())
    size = sum(size for _, size in counts.values())
    addresses: dict[Place, int] = {}
    blocks = [
        f"{count}: {size} [{count}: {size}] @{stack_text(stack, addresses)}\n"
        for stack, (count, size) in sorted(counts.items(), key=lambda item: -item[1][1])
    ]
    return f"heap profile: {objects}: {size} [{objects}: {size}] @ heap/1\n" + "".join(blocks)
