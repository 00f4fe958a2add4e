"""What the store needs of its neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

Stretch = tuple[bytes, int, tuple[int, ...], tuple[int, ...]]
"""Rows in order: bytes, where in them key, value, key, value, ... begin, sizes of the keys, sizes of the values."""


class Run(Protocol):
    """Rows in order. `starts` says where in `data` each row's name begins, if all have the size that was asked for."""

    data: bytes
    starts: list[int]

    def stretches(self) -> Iterator[Stretch]: ...


class StoreBackend(Protocol):
    """The part of `storage.Backend` that the store uses."""

    path: str

    def create_bucket(self, bucket: bytes) -> None: ...

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None: ...

    def delete(self, bucket: bytes, key: bytes) -> None: ...

    def lend_pending(self, bucket: bytes, take: Callable[[dict[bytes, bytes | None]], None]) -> None:
        """Tell `take` the dict of the bucket's uncommitted changes, which the put path writes into without a call.

        Now, and whenever a commit has taken it and there is another one.
        """

    def get(self, bucket: bytes, key: bytes) -> bytes | None: ...

    def scan(self, bucket: bytes, start: bytes, end: bytes | None, limit: int = 0) -> list[tuple[bytes, bytes]]: ...

    def stretches(self, bucket: bytes) -> Iterator[Stretch]:
        """All rows of a bucket. Nobody may write meanwhile."""

    def runs(self, bucket: bytes, key_size: int) -> Iterator[Run] | None:
        """All rows of a bucket, in pieces of many; None if there is no such way to them."""

    def stretches_between(
        self, bucket: bytes, start: bytes, end: bytes, page_bytes: int
    ) -> tuple[list[Stretch], bytes | None]:
        """The next rows from `start` up to but without `end`, as many as so many bytes hold, and where to go on."""


class LeaseAttacher(Protocol):
    """Who knows which key hangs on which lease."""

    lease_by_key: dict[bytes, int]
    """The same dict object until a store takes over other leases: the put path looks into it without a call."""

    def attach(self, lease: int, key: bytes) -> None:
        """Raises LeaseNotFoundError."""

    def detach(self, lease: int, key: bytes) -> None:
        """A lease that is gone is no error."""

    def detach_all(self, keys: list[bytes]) -> None:
        """Take these keys off whatever they hang on, if anything."""

    def exists(self, lease: int) -> bool: ...

    def __len__(self) -> int:
        """How many leases there are."""


class NoLeases:
    """For a store whose keys hang on no lease, such as an operator's tool opens."""

    __slots__ = ("lease_by_key",)

    def __init__(self) -> None:
        self.lease_by_key: dict[bytes, int] = {}

    def attach(self, lease: int, key: bytes) -> None:
        pass

    def detach(self, lease: int, key: bytes) -> None:
        pass

    def detach_all(self, keys: list[bytes]) -> None:
        pass

    def exists(self, lease: int) -> bool:
        return False

    def __len__(self) -> int:
        return 0
