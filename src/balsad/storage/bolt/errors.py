"""What can be wrong with a bbolt file: somebody else has it, or its bytes are broken."""

from __future__ import annotations

from balsad.storage.errors import StorageError


class DatabaseLockedError(StorageError):
    """Another process has the file open for writing."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "cannot lock the database file: another process is using it")


class CorruptDatabaseError(StorageError):
    """The file's bytes are not what bbolt's format says they must be."""

    def __init__(self, path: str, *, page: int, offset: int, expected: str, found: str) -> None:
        super().__init__(path, f"page {page} is broken: expected {expected}, found {found}", offset=offset)
        self.page = page
        self.expected = expected
        self.found = found


class BucketNotFoundError(StorageError):
    """A write or read names a bucket that was never created."""

    def __init__(self, path: str, bucket: bytes) -> None:
        super().__init__(path, f"there is no bucket {bucket.decode('utf-8', 'backslashreplace')!r}")
        self.bucket = bucket
