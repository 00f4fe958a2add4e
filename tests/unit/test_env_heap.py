"""The server's heap keeps what large messages free, and no more than it says."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = """
import resource, sys
from balsad.env.heap import KEPT_BYTES, keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit(77)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
for _ in range(2):
    [bytes(1 << 20) for _ in range(8)]
    before = faults()
    for _ in range(50):
        [bytes([1]) * (1 << 20) for _ in range(8)]
small = resident()
[bytes([1]) * (1 << 20) for _ in range(128)]
print(faults() - before, resident() - small - KEPT_BYTES)
"""


def measure(how: str) -> tuple[int, int]:
    """Page faults of four hundred blocks of 1 MiB, and bytes kept of 128 MiB beyond the bound."""
    done = subprocess.run([sys.executable, "-c", COUNT, how], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("the C library has no mallopt")
    assert done.returncode == 0, done.stderr
    faults, beyond = map(int, done.stdout.split())
    return faults, beyond


def test_blocks_of_a_large_message_are_not_faulted_in_each_time() -> None:
    kept, beyond = measure("kept")
    plain, _ = measure("plain")
    assert kept < plain / 2
    assert beyond <= 1 << 20
