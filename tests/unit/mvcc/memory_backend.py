"""A backend of dicts, for tests that need none of the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from balsad.mvcc.faces import Run, Stretch


class MemoryBackend:
    """Has storage.Backend's face as far as the store and the leases use it."""

    path = "memory"

    def __init__(self) -> None:
        self.buckets: dict[bytes, dict[bytes, bytes | None]] = {}

    def create_bucket(self, bucket: bytes) -> None:
        self.buckets.setdefault(bucket, {})

    def lend_pending(self, bucket: bytes, take: Callable[[dict[bytes, bytes | None]], None]) -> None:
        take(self.buckets[bucket])

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None:
        self.buckets[bucket][key] = value

    def delete(self, bucket: bytes, key: bytes) -> None:
        self.buckets[bucket].pop(key, None)

    def get(self, bucket: bytes, key: bytes) -> bytes | None:
        return self.buckets[bucket].get(key)

    def scan(self, bucket: bytes, start: bytes, end: bytes | None, limit: int = 0) -> list[tuple[bytes, bytes]]:
        content = self.buckets[bucket]
        found: list[tuple[bytes, bytes]] = []
        for key in sorted(content):
            value = content[key]
            if value is not None and key >= start and (end is None or key < end):
                found.append((key, value))
                if len(found) == limit:
                    break
        return found

    def stretches(self, bucket: bytes) -> Iterator[Stretch]:
        for key, value in self.scan(bucket, b"", None):
            yield key + value, 0, (len(key),), (len(value),)

    def runs(self, bucket: bytes, key_size: int) -> Iterator[Run] | None:
        return None

    def stretches_between(
        self, bucket: bytes, start: bytes, end: bytes, page_bytes: int
    ) -> tuple[list[Stretch], bytes | None]:
        limit = 3  # rows stand for pages
        rows = self.scan(bucket, start, end, limit)
        found: list[Stretch] = [(key + value, 0, (len(key),), (len(value),)) for key, value in rows]
        return found, rows[-1][0] + b"\0" if len(rows) == limit else None

    def copy(self) -> MemoryBackend:
        """What a crash right now leaves behind."""
        other = MemoryBackend()
        other.buckets = {bucket: dict(content) for bucket, content in self.buckets.items()}
        return other
