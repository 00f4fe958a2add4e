"""A backend and a v2 tree of a few lines."""

from __future__ import annotations

from dataclasses import dataclass, field


class FakeBuckets:
    def __init__(self) -> None:
        self.data: dict[bytes, dict[bytes, bytes]] = {}

    def create_bucket(self, bucket: bytes) -> None:
        self.data.setdefault(bucket, {})

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None:
        self.data[bucket][key] = value

    def delete(self, bucket: bytes, key: bytes) -> None:
        self.data[bucket].pop(key, None)

    def get(self, bucket: bytes, key: bytes) -> bytes | None:
        return self.data[bucket].get(key)

    def scan(self, bucket: bytes, start: bytes, end: bytes | None) -> list[tuple[bytes, bytes]]:
        return sorted(
            (key, value) for key, value in self.data[bucket].items() if start <= key and (end is None or key < end)
        )


@dataclass
class FakeNode:
    key: str
    value: str | None = None
    nodes: list[FakeNode] | None = None


@dataclass
class FakeTree:
    files: dict[str, str] = field(default_factory=dict)

    def read_tree(self, path: str) -> FakeNode | None:
        if path in self.files:
            return FakeNode(path, self.files[path])
        names = sorted({name[len(path) + 1 :].split("/")[0] for name in self.files if name.startswith(path + "/")})
        if not names:
            return None
        children = [self.read_tree(f"{path}/{name}") for name in names]
        return FakeNode(path, nodes=[child for child in children if child is not None])

    def read_file(self, path: str) -> str | None:
        return self.files.get(path)

    def create_file(self, path: str, value: str) -> bool:
        if path in self.files:
            return False
        self.files[path] = value
        return True

    def set_file(self, path: str, value: str) -> None:
        self.files[path] = value

    def update_file(self, path: str, value: str) -> None:
        assert path in self.files
        self.files[path] = value

    def delete_tree(self, path: str) -> bool:
        gone = [name for name in self.files if name == path or name.startswith(path + "/")]
        for name in gone:
            del self.files[name]
        return bool(gone)
