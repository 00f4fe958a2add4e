"""Write transactions: what the tree looks like after them, and what reading finds."""

from __future__ import annotations

import os
import random
from array import array
from pathlib import Path

import pytest

from balsad.env.real import RealDisk
from balsad.storage import BucketNotFoundError, CorruptDatabaseError, StorageError
from balsad.storage.bolt import FILL_APPEND, FILL_DEFAULT, Database, WriteTx, check
from balsad.storage.bolt.db import empty_database
from balsad.storage.bolt.meta import Meta, encode_meta
from balsad.storage.bolt.page import BUCKET_HEADER, FREELIST, HEADER, encode_leaf, key_at, used_size
from tests.unit.storage.bolt_history import leaf_ids

DISK = RealDisk()


def open_database(path: Path, *, sync: bool = False) -> Database:
    return Database.open(DISK, str(path), sync=sync)


def commit(database: Database, name: bytes, changes: dict[bytes, bytes | None], fill: float = FILL_DEFAULT) -> WriteTx:
    """One transaction of one bucket; the file must be sound after it."""
    freelist = database.freelist
    tx = WriteTx(database.view, freelist)
    for start, length in freelist.begin(tx.txid):
        freelist.add(start, length)
    tx.create_bucket(name)
    keys = sorted(changes)
    if keys:
        tx.update(name, keys, [changes[key] for key in keys], 0, len(keys), fill)
    tx.settle(name)
    tx.seal()
    while not tx.encode(3):
        pass
    database.write(tx)
    database.publish(tx)
    assert check(database.view, freelist, strict=True) == []
    return tx


def content(database: Database, name: bytes) -> dict[bytes, bytes]:
    keys, values = database.view.scan(name, b"", None)
    return dict(zip(keys, values, strict=True))


def depth(database: Database, name: bytes) -> int:
    levels = 0
    page_id = database.view.buckets[name].root
    while page_id and database.view.page(page_id)[8] == 1:
        page_id = database.view.branch(page_id).pages[0]
        levels += 1
    return levels


def test_a_new_file_is_what_bbolt_makes(tmp_path: Path) -> None:
    """Two metas, an empty freelist in page 2, an empty root leaf in page 3."""
    database = open_database(tmp_path / "db", sync=True)
    database.close()

    data = (tmp_path / "db").read_bytes()
    assert data == empty_database()
    assert len(data) == 4 * 4096
    assert (tmp_path / "db").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["db"]


def test_a_small_bucket_stands_in_the_root_leaf(tmp_path: Path) -> None:
    database = open_database(tmp_path / "db")
    at_most = {b"k": bytes(1024 - 16 - 16 - 1)}

    commit(database, b"b", dict(at_most))
    assert database.view.buckets[b"b"].root == 0
    assert content(database, b"b") == at_most
    commit(database, b"b", {b"k": bytes(1024 - 16 - 16)})
    assert database.view.buckets[b"b"].root != 0
    commit(database, b"b", {b"k": None})
    assert database.view.buckets[b"b"].root == 0
    assert content(database, b"b") == {}
    database.close()


@pytest.mark.parametrize("page_size", [1024, 4096, 16384])
def test_files_of_other_page_sizes_are_read_and_written(tmp_path: Path, page_size: int) -> None:
    (tmp_path / "db").write_bytes(empty_database(page_size))
    database = open_database(tmp_path / "db")
    items = {b"%05d" % number: bytes(100) for number in range(3000)}

    commit(database, b"b", dict(items))
    database.close()
    database = open_database(tmp_path / "db")

    assert database.view.page_size == page_size
    assert content(database, b"b") == items
    assert check(database.view, database.freelist, strict=True) == []
    database.close()


@pytest.mark.parametrize("key_size", [8, 40, 400, 1500, 30_000])
def test_random_batches_leave_what_a_dict_holds(tmp_path: Path, key_size: int) -> None:
    """Large keys make branches of few children: all shapes of joining and merging come up."""
    rnd = random.Random(key_size)
    database = open_database(tmp_path / "db")
    model: dict[bytes, bytes] = {}
    for round_number in range(30):
        changes: dict[bytes, bytes | None] = {}
        for _ in range(rnd.choice((1, 10, 60))):
            changes[b"%04d" % rnd.randrange(1000) + bytes(key_size - 4)] = rnd.randbytes(rnd.choice((0, 50, 700)))
        doomed = sorted(model)
        if doomed and round_number % 3 == 2:
            start = rnd.randrange(len(doomed))
            changes.update(dict.fromkeys(doomed[start : rnd.randrange(start, len(doomed) + 1)]))
        commit(database, b"b", changes, rnd.choice((FILL_APPEND, FILL_DEFAULT)))
        for key, value in changes.items():
            if value is None:
                model.pop(key, None)
            else:
                model[key] = value
        assert content(database, b"b") == model
    commit(database, b"b", dict.fromkeys(model))
    assert content(database, b"b") == {}
    database.close()


def test_deleting_the_middle_joins_trees_of_different_height(tmp_path: Path) -> None:
    database = open_database(tmp_path / "db")
    keys = [b"%06d" % number + bytes(200) for number in range(4000)]
    items = {key: bytes(20) for key in keys}
    commit(database, b"b", dict(items))
    assert depth(database, b"b") >= 3

    # One key is left at each end and a few in the middle: lone leaves far below where branches were.
    kept = [keys[0], keys[2000], keys[2001], keys[-1]]
    commit(database, b"b", {key: None for key in keys if key not in kept})

    assert content(database, b"b") == {key: items[key] for key in kept}
    assert depth(database, b"b") == 0
    database.close()


def test_appends_fill_pages_to_nine_tenths(tmp_path: Path) -> None:
    database = open_database(tmp_path / "db")
    for batch in range(20):
        commit(database, b"key", {b"%08d" % (batch * 100 + n): bytes(84) for n in range(100)}, FILL_APPEND)

    view = database.view
    used = [used_size(page) for page in view.leaves(view.buckets[b"key"].root)]
    assert all(size > 0.85 * 4096 for size in used[:-1])
    assert content(database, b"key") == {b"%08d" % number: bytes(84) for number in range(2000)}
    database.close()


def test_an_append_leaves_the_full_leaf_alone(tmp_path: Path) -> None:
    """Values of a megabyte must not be copied once more by every commit after them."""
    database = open_database(tmp_path / "db")
    for number in range(5):
        tx = commit(database, b"key", {b"%08d" % number: bytes(1_000_000)}, FILL_APPEND)

        assert sum(len(page) for page in tx.leaves.values()) < 1_100_000
    database.close()


def test_branches_always_have_two_children(tmp_path: Path) -> None:
    """bbolt stops with an assertion when it has to rebalance below a branch of one."""
    database = open_database(tmp_path / "db")
    for key_size in (10, 700, 1500, 4000):
        for count in range(2, 40):
            for fill in (FILL_APPEND, FILL_DEFAULT):
                tx = WriteTx(database.view, database.freelist)
                tx._fill = fill
                keys = [b"%03d" % number + bytes(key_size) for number in range(count)]

                run = tx._put_branches(keys, list(range(100, 100 + count)), 1)

                children = [tx.branches[page_id].pages for page_id in run.pages]
                assert [page_id for row in children for page_id in row] == list(range(100, 100 + count))
                assert min(map(len, children)) >= 2
    database.close()


def test_a_bucket_is_dropped_with_all_its_pages(tmp_path: Path) -> None:
    database = open_database(tmp_path / "db")
    commit(database, b"b", {b"%05d" % number: bytes(100) for number in range(3000)})
    freelist = database.freelist
    before = database.view.high_water

    tx = WriteTx(database.view, freelist)
    for start, length in freelist.begin(tx.txid):
        freelist.add(start, length)
    tx.delete_bucket(b"b")
    tx.seal()
    assert tx.encode(10)
    database.write(tx)
    database.publish(tx)

    assert check(database.view, freelist, strict=True) == []
    assert database.view.buckets == {}
    assert freelist.free_count + freelist.pending_count() > before - 10
    database.close()


def test_pages_are_used_again(tmp_path: Path) -> None:
    database = open_database(tmp_path / "db")
    items = {b"%05d" % number: bytes(100) for number in range(3000)}
    for _ in range(20):
        commit(database, b"b", dict(items))

    assert database.view.high_water * 4096 < 4 * 3000 * 130
    database.close()


def test_a_stored_freelist_is_read_and_given_up(tmp_path: Path) -> None:
    """etcd before 3.4, and bbolt by default, keep the list in the file."""
    data = bytearray(empty_database())
    data += bytes(4 * 4096)  # pages 4 to 7, free
    meta = Meta(page_size=4096, root=3, sequence=0, freelist=2, high_water=8, txid=2)
    data[0:4096] = encode_meta(0, meta, 2)
    data[2 * 4096 : 3 * 4096] = (HEADER.pack(2, FREELIST, 4, 0) + array("Q", [4, 5, 6, 7]).tobytes()).ljust(4096, b"\0")
    (tmp_path / "db").write_bytes(data)

    database = open_database(tmp_path / "db")
    assert database.freelist.spans() == [(4, 4)]
    assert check(database.view, database.freelist) == []
    commit(database, b"b", {b"k": b"v"})

    assert database.view.high_water == 8
    assert database.view.meta.freelist == 2**64 - 1
    assert (2, 1) in [span for freed in database.freelist.pending for span in freed.spans]
    database.close()


def test_a_nested_bucket_is_found_by_the_check_and_not_written_over(tmp_path: Path) -> None:
    """etcd has none; a file of somebody else's may."""
    data = bytearray(empty_database())
    inner = BUCKET_HEADER.pack(0, 5) + encode_leaf(0, [b"k"], [b"v"], 0, 0)
    data += encode_leaf(4, [b"inner"], [inner], 1, 4096)
    data[3 * 4096 : 4 * 4096] = encode_leaf(3, [b"outer"], [BUCKET_HEADER.pack(4, 7)], 1, 4096)
    meta = Meta(page_size=4096, root=3, sequence=0, freelist=2, high_water=5, txid=2)
    data[0:4096] = encode_meta(0, meta, 2)
    (tmp_path / "db").write_bytes(data)
    database = open_database(tmp_path / "db")

    assert check(database.view, database.freelist, strict=True) == []
    with pytest.raises(CorruptDatabaseError, match="a bucket inside it"):
        commit(database, b"outer", {b"x": b"y"})
    database.close()


def test_a_missing_bucket_is_an_error(tmp_path: Path) -> None:
    database = open_database(tmp_path / "db")

    with pytest.raises(BucketNotFoundError, match="there is no bucket 'nobody'"):
        database.view.get(b"nobody", b"k")
    database.close()


def grown_file(path: Path) -> Database:
    database = open_database(path)
    commit(database, b"b", {b"%05d" % number: bytes(100) for number in range(3000)})
    return database


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (0, 99, "expected branch or leaf page {page}, found leaf page 99"),
        (8, 16, "expected branch or leaf page {page}, found freelist page {page}"),
        (11, 0x7F, "expected elements on 4096 bytes, found a count of"),
        (14, 0x7F, "expected an end before page"),
    ],
)
def test_a_broken_page_is_an_error_that_says_where(tmp_path: Path, at: int, value: int, said: str) -> None:
    database = grown_file(tmp_path / "db")
    page_id = leaf_ids(database.view, b"b")[5]
    database.close()
    with open(tmp_path / "db", "r+b") as file:
        file.seek(page_id * 4096 + at)
        file.write(bytes([value]))

    with pytest.raises(CorruptDatabaseError, match=said.format(page=page_id)) as caught:
        open_database(tmp_path / "db")
    assert (caught.value.page, caught.value.offset) == (page_id, page_id * 4096)
    # Opening for reading does not walk the tree; the check does, and says it too.
    reading = Database.open(DISK, str(tmp_path / "db"), read_only=True)
    assert any(f"page {page_id} is broken" in problem for problem in check(reading.view))
    reading.close()


def test_the_check_finds_what_is_wrong_with_keys_and_pages(tmp_path: Path) -> None:
    database = grown_file(tmp_path / "db")
    view = database.view
    leaves = leaf_ids(view, b"b")
    page = view.page(leaves[1])
    first_key = key_at(page, 0)
    first_key_offset = page.index(first_key)
    database.close()
    with open(tmp_path / "db", "r+b") as file:
        file.seek(leaves[1] * 4096 + first_key_offset)
        file.write(b"99999")  # the first key is now after all others
        file.seek(leaves[2] * 4096 + 16 + 4)
        file.write((60_000).to_bytes(4, "little"))  # the first element points outside its page

    reading = Database.open(DISK, str(tmp_path / "db"), read_only=True)
    problems = check(reading.view, strict=True)
    reading.close()

    assert any(f"page {leaves[1]}: key" in problem and b"99999".hex() in problem for problem in problems)
    assert any(first_key.hex() in problem for problem in problems)
    assert f"page {leaves[2]}: element 0 ends outside the page" in problems


def test_the_check_finds_lost_and_doubly_used_pages(tmp_path: Path) -> None:
    database = grown_file(tmp_path / "db")
    freelist = database.freelist
    leaf = leaf_ids(database.view, b"b")[0]
    lost = freelist.pending.pop()

    problems = check(database.view, freelist)
    assert [f"page {start}: unreachable unfreed" for start, _ in sorted(lost.spans)] == problems
    freelist.pending.append(lost)
    freelist.add(leaf, 1)
    assert check(database.view, freelist) == [f"page {leaf}: reachable freed"]
    database.close()


def test_reading_only_takes_no_lock_and_changes_nothing(tmp_path: Path) -> None:
    database = grown_file(tmp_path / "db")
    before = (tmp_path / "db").read_bytes()

    reading = Database.open(DISK, str(tmp_path / "db"), read_only=True)
    assert len(reading.view.scan(b"b", b"", None)[0]) == 3000
    reading.close()

    database.close()
    assert (tmp_path / "db").read_bytes() == before
    with pytest.raises(StorageError, match="open: no such file or directory"):
        Database.open(DISK, str(tmp_path / "missing"), read_only=True)
