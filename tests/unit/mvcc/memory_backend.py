"""A backend of dicts, for tests that need none of the file."""

from __future__ import annotations


class MemoryBackend:
    """Has storage.Backend's face as far as the store and the leases use it."""

    path = "memory"

    def __init__(self) -> None:
        self.buckets: dict[bytes, dict[bytes, bytes | None]] = {}

    def create_bucket(self, bucket: bytes) -> None:
        self.buckets.setdefault(bucket, {})

    def pending_of(self, bucket: bytes) -> dict[bytes, bytes | None]:
        return self.buckets[bucket]

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

    def copy(self) -> MemoryBackend:
        """What a crash right now leaves behind."""
        other = MemoryBackend()
        other.buckets = {bucket: dict(content) for bucket, content in self.buckets.items()}
        return other
