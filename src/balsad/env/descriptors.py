"""How many files and sockets this process may have open."""

from __future__ import annotations

import contextlib
import resource


def descriptor_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft


def raise_descriptor_limit() -> None:
    """As far as we may without asking anybody, as Go's runtime does it at the start of every program."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
