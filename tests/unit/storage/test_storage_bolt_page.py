"""bbolt's pages, byte for byte. Source: bbolt internal/common page.go, meta.go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from balsad.env.real import RealDisk
from balsad.storage import CorruptDatabaseError
from balsad.storage.bolt.db import empty_database
from balsad.storage.bolt.meta import Meta, decode_meta, encode_meta, fnv1a, read_metas
from balsad.storage.bolt.page import (
    Branch,
    branch_size,
    decode_branch,
    decode_leaf,
    encode_branch,
    encode_leaf,
    key_at,
    leaf_flags,
    leaf_size,
    used_size,
)

META = Meta(page_size=4096, root=3, sequence=0, freelist=2, high_water=4, txid=0)


def test_a_leaf_in_bytes() -> None:
    page = encode_leaf(7, [b"a", b"bc"], [b"1", b""], 0, 4096)

    assert len(page) == 4096
    assert page[:16] == bytes.fromhex("0700000000000000 0200 0200 00000000")
    assert page[16:32] == bytes.fromhex("00000000 20000000 01000000 01000000")  # pos 32: past both elements
    assert page[32:48] == bytes.fromhex("00000000 12000000 02000000 00000000")  # pos 18: from the second element
    assert page[48:52] == b"a1bc"
    assert not any(page[52:])


def test_a_branch_in_bytes() -> None:
    page = encode_branch(9, [b"a", b"m"], [300, 5], 4096)

    assert page[:16] == bytes.fromhex("0900000000000000 0100 0200 00000000")
    assert page[16:32] == bytes.fromhex("20000000 01000000 2c01000000000000")
    assert page[32:48] == bytes.fromhex("11000000 01000000 0500000000000000")
    assert page[48:50] == b"am"
    decoded: Branch = decode_branch(page)
    assert (decoded.keys, decoded.pages) == ([b"a", b"m"], [300, 5])
    assert used_size(page) == branch_size([b"a", b"m"]) == 50


def test_a_large_value_overflows_into_whole_pages() -> None:
    keys, values = [b"k"], [bytes(10_000)]
    page = encode_leaf(7, keys, values, 0, 4096)

    assert len(page) == 3 * 4096
    assert int.from_bytes(page[12:16], "little") == 2
    assert decode_leaf(page) == (keys, values)
    assert used_size(page) == leaf_size(keys, values) == 16 + 16 + 1 + 10_000


def test_an_inline_bucket_is_a_leaf_without_padding() -> None:
    page = encode_leaf(0, [b"k"], [b"v"], 1, 0)

    assert len(page) == 34
    assert leaf_flags(page) == (1,)
    assert key_at(page, 0) == b"k"
    assert used_size(encode_leaf(0, [], [], 0, 0)) == 16


def test_fnv_is_the_published_one() -> None:
    """The reference vectors of FNV-1a, 64 bits."""
    assert fnv1a(b"") == 0xCBF29CE484222325
    assert fnv1a(b"foobar") == 0x85944171F73967E8


def test_a_meta_page_goes_round() -> None:
    page = encode_meta(1, META, 41)

    decoded = decode_meta(page)
    assert len(page) == 4096
    assert isinstance(decoded, Meta)
    assert (decoded.root, decoded.freelist, decoded.high_water, decoded.txid) == (3, 2, 4, 41)


@pytest.mark.parametrize(
    ("offset", "said"), [(16, "magic"), (20, "version"), (30, "checksum"), (50, "checksum"), (75, "checksum")]
)
def test_a_broken_meta_says_how(offset: int, said: str) -> None:
    page = bytearray(encode_meta(0, META, 0))
    page[offset] ^= 1

    assert said in str(decode_meta(bytes(page)))


def opened_metas(path: Path) -> Meta:
    fd = os.open(path, os.O_RDONLY)
    try:
        return read_metas(RealDisk(), fd, str(path))
    finally:
        os.close(fd)


@pytest.mark.parametrize("page_size", [1024, 4096, 16384, 65536])
def test_one_broken_meta_is_no_matter(tmp_path: Path, page_size: int) -> None:
    """Also when it was the first: then nobody knows yet where the second one is."""
    for broken in (0, 1):
        data = bytearray(empty_database(page_size))
        data[broken * page_size + 40] ^= 0xFF
        path = tmp_path / f"{broken}.db"
        path.write_bytes(data)

        assert opened_metas(path).txid == 1 - broken
        assert opened_metas(path).page_size == page_size


def test_two_broken_metas_are_an_error_that_says_where(tmp_path: Path) -> None:
    data = bytearray(empty_database())
    data[16] ^= 1
    data[4096 + 40] ^= 1
    path = tmp_path / "db"
    path.write_bytes(data)

    with pytest.raises(CorruptDatabaseError) as caught:
        opened_metas(path)
    assert str(path) in str(caught.value)
    assert "magic" in str(caught.value)
    assert (caught.value.page, caught.value.offset) == (0, 0)


def test_a_file_shorter_than_its_meta_says_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_bytes(empty_database()[:-1])

    with pytest.raises(CorruptDatabaseError, match="at least 4 pages of 4096 bytes, found 16383 bytes"):
        opened_metas(path)
