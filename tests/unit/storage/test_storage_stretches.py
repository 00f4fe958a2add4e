"""A bucket read as it lies on its pages, many items at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from struct import pack, unpack_from

import pytest

from balsad.env.real import RealDisk
from balsad.storage import Backend
from balsad.storage.bolt import CorruptDatabaseError
from balsad.storage.bolt.page import packed_items
from tests.unit.storage.bolt_history import leaf_ids

KEY = b"key"
PAGE = 4096


def split(stretches: Iterator[tuple[bytes, int, tuple[int, ...], tuple[int, ...]]]) -> list[tuple[bytes, bytes]]:
    items: list[tuple[bytes, bytes]] = []
    for data, at, key_sizes, value_sizes in stretches:
        for key_size, value_size in zip(key_sizes, value_sizes, strict=True):
            value_at = at + key_size
            items.append((data[at:value_at], data[value_at : value_at + value_size]))
            at = value_at + value_size
    return items


def filled(folder: Path) -> tuple[Backend, int]:
    """A backend with a few leaves, and the page of the second."""
    backend = Backend.open(RealDisk(), str(folder / "db"), sync=False)
    backend.create_bucket(KEY)
    for number in range(100):
        backend.put(KEY, b"%04d" % number, bytes([number]) * (number * 7 % 300))
    backend.put(KEY, b"0050", bytes(3 * PAGE))
    backend.commit()
    return backend, leaf_ids(backend.database.view, KEY)[1]


def change(folder: Path, page_id: int, place: int, data: bytes) -> None:
    with open(folder / "db", "r+b") as file:
        file.seek(page_id * PAGE + place)
        file.write(data)


def test_stretches_are_the_whole_bucket_in_order(tmp_path: Path) -> None:
    backend, _ = filled(tmp_path)

    assert split(backend.stretches(KEY)) == backend.scan(KEY, b"", None)

    backend.delete(KEY, b"0003")
    backend.put(KEY, b"0004", b"waits for its commit")
    assert split(backend.stretches(KEY)) == backend.scan(KEY, b"", None)
    backend.close()


def test_small_and_empty_buckets_have_stretches_too(tmp_path: Path) -> None:
    backend = Backend.open(RealDisk(), str(tmp_path / "db"), sync=False)
    backend.create_bucket(KEY)
    assert split(backend.stretches(KEY)) == []
    backend.commit()
    assert split(backend.stretches(KEY)) == []
    backend.put(KEY, b"a", b"inline")
    backend.commit()
    assert split(backend.stretches(KEY)) == [(b"a", b"inline")]
    backend.close()


def test_a_leaf_with_holes_is_read_item_by_item(tmp_path: Path) -> None:
    """bbolt writes none, but reads one: each element says where its item is."""
    backend, page_id = filled(tmp_path)
    page = backend.database.view.page(page_id)
    flags, position, key_size, value_size = unpack_from("<IIII", page, 16)
    assert value_size > 5
    change(tmp_path, page_id, 16, pack("<IIII", flags, position, key_size, value_size - 5))

    assert packed_items(backend.database.view.page(page_id))[0] == 0
    assert split(backend.stretches(KEY)) == backend.scan(KEY, b"", None)
    backend.close()


@pytest.mark.parametrize("place", [8, 12])
def test_an_item_that_ends_outside_its_page_is_a_broken_page(tmp_path: Path, place: int) -> None:
    backend, page_id = filled(tmp_path)
    count = int.from_bytes(backend.database.view.page(page_id)[10:12], "little")
    change(tmp_path, page_id, 16 + 16 * (count - 1) + place, pack("<I", PAGE))

    with pytest.raises(CorruptDatabaseError, match=rf"at offset {page_id * PAGE}: page {page_id} is broken"):
        split(backend.stretches(KEY))
    backend.close()


@pytest.mark.parametrize("page_bytes", [1, 2 * PAGE, 1 << 20])
def test_a_range_is_read_in_pieces_wherever_its_items_are(tmp_path: Path, page_bytes: int) -> None:
    """In the file, in a commit under way, waiting for one; changed, deleted, or as they were."""
    backend, _ = filled(tmp_path)
    for number in range(40, 160, 3):
        backend.put(KEY, b"%04d" % number, b"in flight")
    job = backend.commit_job()
    assert job is not None
    for number in range(45, 1200, 2):
        backend.put(KEY, b"%04d" % number, b"pending")
    backend.delete(KEY, b"0007")

    for start, end in ((b"", b"9"), (b"0007", b"0051"), (b"00070", b"0099"), (b"0500", b"0501"), (b"0090", b"0010")):
        found: list[tuple[bytes, bytes]] = []
        following: bytes | None = start
        while following is not None:
            stretches, following = backend.stretches_between(KEY, following, end, page_bytes)
            found.extend(split(iter(stretches)))
        assert found == backend.scan(KEY, start, end)

    job.complete()
    backend.close()
