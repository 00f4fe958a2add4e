"""A broken or unwritable file: which one, where in it, and what is wrong."""

from __future__ import annotations


class StorageError(Exception):
    """A file is broken, missing or cannot be written; it stops the member.

    `reason` is the bare cause (etcd's words where etcd has some), `str()` says
    also the file and, when known, the offset in it.
    """

    def __init__(self, path: str, reason: str, *, offset: int | None = None) -> None:
        self.path = path
        self.reason = reason
        self.offset = offset
        where = path if offset is None else f"{path} at offset {offset}"
        super().__init__(f"{where}: {reason}")


def os_error(path: str, doing: str, error: OSError, *, offset: int | None = None) -> StorageError:
    """The StorageError of a failed system call: `doing` is its name, like "fdatasync"."""
    return StorageError(path, f"{doing}: {(error.strerror or str(error)).lower()}", offset=offset)
