"""What an operator's tool says when it cannot do what it was asked."""

from __future__ import annotations


class OpsError(Exception):
    """A refusal, in etcd's words where etcd has some; `str()` is the whole message."""


def go_error(doing: str, path: str, error: OSError) -> OpsError:
    """A failed system call as Go words it: `open x: no such file or directory`."""
    return OpsError(f"{doing} {path}: {(error.strerror or str(error)).lower()}")
