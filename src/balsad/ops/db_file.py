"""A bbolt file that nobody serves: opened to be read, never changed."""

from __future__ import annotations

import os
from typing import Final

from balsad.env import Disk
from balsad.ops.errors import OpsError, go_error
from balsad.storage import StorageError
from balsad.storage.bolt import CorruptDatabaseError, Database

_PAGE_BYTES: Final = 4096
# By what is wrong with the first meta page.
_META_WORDS: Final = {"magic": "invalid database", "version": "version mismatch", "checksum": "checksum error"}


def open_db(disk: Disk, path: str) -> Database:
    """The database in a file, read-only and without its lock.

    Raises: OpsError, with the words of `etcdutl snapshot status`.
    """
    try:
        # etcd asks whether the file is there before it opens it, and says so.
        fd = disk.open(path, os.O_RDONLY)
    except OSError as error:
        raise go_error("stat" if isinstance(error, FileNotFoundError) else "open", path, error) from error
    try:
        size = disk.size(fd)
        disk.pread(fd, 1, 0)
    except OSError as error:
        raise go_error("open" if isinstance(error, IsADirectoryError) else "read", path, error) from error
    finally:
        disk.close(fd)
    if size == 0:
        # bbolt would make a database of it, but opened it read-only.
        raise OpsError(f"write {path}: bad file descriptor")
    try:
        return Database.open(disk, path, read_only=True)
    except CorruptDatabaseError as error:
        raise OpsError(_bbolt_words(error, size) or str(error)) from error
    except StorageError as error:
        raise OpsError(str(error)) from error


def _bbolt_words(error: CorruptDatabaseError, size: int) -> str:
    """What bbolt says of a file whose beginning is broken; empty where it would crash."""
    if size < _PAGE_BYTES:
        return "invalid database"
    if size < 2 * _PAGE_BYTES:
        return "file size too small"
    return _META_WORDS.get(error.found.split(" ", 1)[0], "") if error.page == 0 else ""
