"""The index of a store that is opened: the same whether rows are taken in one by one or many at a time."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from balsad.env.real import RealDisk
from balsad.mvcc import NoLeases, Store
from balsad.mvcc.first_puts import take_first_puts
from balsad.mvcc.revision import KEY_BUCKET, ROW_KEY_SIZE, revision_key
from balsad.storage import Backend, StorageError
from balsad.wire import key_value
from tests.unit.storage.bolt_history import leaf_ids

PAGE = 4096


def opened(path: Path) -> Store:
    backend = Backend.open(RealDisk(), str(path), sync=False, free_pages_later=True)
    return Store(backend, leases=NoLeases())


def index_of(store: Store) -> tuple[Any, ...]:
    index = store.index
    return (dict(index.live), dict(index.history), set(index.dead), store.current_revision, index.keys(b"\0", b"\0", 0))


def close(store: Store) -> None:
    backend = store.backend
    assert isinstance(backend, Backend)
    backend.abandon()


def both_ways(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a store knows when it takes in many rows at a time, and when one by one; an error in its own words."""
    found: list[Any] = []
    for runs in (Backend.runs, lambda *_: None):
        monkeypatch.setattr(Backend, "runs", runs)
        try:
            store = opened(path)
        except StorageError as error:
            found.append(str(error))
            continue
        try:
            store.restore()
            found.append(index_of(store))
        except StorageError as error:
            found.append(str(error))
        finally:
            close(store)
            monkeypatch.undo()
    return found


def write(path: Path, seed: int, rounds: int, change_rate: float) -> None:
    """Transactions of new keys of several sizes, among them some that change or delete old ones, and compactions."""
    rnd = random.Random(seed)
    store = opened(path)
    store.restore()
    sizes = rnd.choice([(12,), (1, 9, 40), (127, 128, 200)])
    values = rnd.choice([(256,), (0, 20, 600), (3, 9000)])
    known: list[bytes] = []
    number = 0
    for _ in range(rounds):
        txn = store.write()
        for _ in range(rnd.choice([1, 1, 40, 128])):
            if known and rnd.random() < change_rate:
                key = rnd.choice(known)
                if rnd.random() < 0.3:
                    txn.delete_range(key, b"")
                    continue
            else:
                key = b"%0*d" % (rnd.choice(sizes), number)
                number += 1
                known.append(key)
            txn.put(key, bytes(rnd.choice(values)), 0)
        txn.end()
        if change_rate and rnd.random() < 0.02:
            job = store.compact(store.current_revision)
            while not job.step():
                pass
    assert isinstance(store.backend, Backend)
    store.backend.commit()
    close(store)


@pytest.mark.parametrize("change_rate", [0.0, 0.002, 0.3])
@pytest.mark.parametrize("seed", range(5))
def test_many_rows_at_a_time_make_the_same_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, change_rate: float
) -> None:
    write(tmp_path / "db", seed, 200, change_rate)

    many, single = both_ways(tmp_path / "db", monkeypatch)

    assert many == single
    assert len(many[0]) > 50


def test_rows_of_new_keys_are_taken_many_at_a_time(tmp_path: Path) -> None:
    write(tmp_path / "db", 0, 200, 0.0)
    store = opened(tmp_path / "db")
    runs = store.backend.runs(KEY_BUCKET, ROW_KEY_SIZE)
    assert runs is not None

    live: dict[bytes, Any] = {}
    taken = [take_first_puts(live, run.data, run.starts) for run in runs]

    # But for those in which the revisions' varints grow.
    assert sum(map(bool, taken)) > len(taken) / 2
    store.restore()
    assert live.items() <= store.index.live.items()
    close(store)


@pytest.mark.parametrize("seed", range(4))
def test_a_changed_table_is_read_alike_or_refused_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The headers and tables of leaves: what is in the rows is looked at on another day."""
    rnd = random.Random(seed)
    write(tmp_path / "db", 0, 60, 0.0)
    store = opened(tmp_path / "db")
    assert isinstance(store.backend, Backend)
    leaves = leaf_ids(store.backend.database.view, KEY_BUCKET)
    close(store)
    whole = (tmp_path / "db").read_bytes()

    for _ in range(40):
        at = rnd.choice(leaves) * PAGE
        count = int.from_bytes(whole[at + 10 : at + 12], "little")
        at += rnd.randrange(16 + 16 * count)
        broken = bytes([whole[at] ^ 1 << rnd.randrange(8)])
        (tmp_path / "db").write_bytes(whole[:at] + broken + whole[at + 1 :])
        many, single = both_ways(tmp_path / "db", monkeypatch)
        assert many == single, (at, broken)


def test_a_key_that_is_put_for_the_first_time_twice_is_taken_as_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No etcd writes this; one row after the other has always been the way to read it."""
    backend = Backend.open(RealDisk(), str(tmp_path / "db"), sync=False)
    backend.create_bucket(KEY_BUCKET)
    for main in range(200, 500):
        key = b"key%04d" % (main % 290)
        kv = key_value(key, create_revision=main, mod_revision=main, version=1, value=b"v" * 100, lease=0)
        backend.put(KEY_BUCKET, revision_key(main, 0), kv)
    backend.commit()
    backend.close()

    many, single = both_ways(tmp_path / "db", monkeypatch)

    assert many == single
    assert len(many[1]) == 10
