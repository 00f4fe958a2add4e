"""A bucket read many leaves at a time, and what is known of its pages then."""

from __future__ import annotations

import random
from pathlib import Path
from struct import pack

import pytest

from balsad.env.real import RealDisk
from balsad.storage import Backend
from balsad.storage.bolt import CorruptDatabaseError
from balsad.storage.bolt.runs import LeafRun
from tests.unit.storage.bolt_history import History, leaf_ids
from tests.unit.storage.test_storage_stretches import KEY, PAGE, change, filled, split


def runs_of(backend: Backend, key_size: int = 4) -> list[LeafRun]:
    runs = backend.runs(KEY, key_size)
    assert runs is not None
    return list(runs)


def items_of(runs: list[LeafRun]) -> list[tuple[bytes, bytes]]:
    return [item for run in runs for item in split(run.stretches())]


def test_runs_are_the_whole_bucket_in_order(tmp_path: Path) -> None:
    backend, _ = filled(tmp_path)

    runs = runs_of(backend)

    assert items_of(runs) == backend.scan(KEY, b"", None)
    # One leaf has overflow: it stands alone, between what is before it and behind it.
    assert [bool(run.starts) for run in runs].count(False) == 1
    assert any(len(run.data) > PAGE for run in runs if run.starts)
    for run in runs:
        if run.starts:
            assert [run.data[start : start + 4] for start in run.starts] == [key for key, _ in split(run.stretches())]
    assert not any(run.starts for run in runs_of(backend, key_size=5))
    backend.put(KEY, b"0004", b"waits for its commit")
    assert backend.runs(KEY, 4) is None
    backend.close()


def test_small_and_empty_buckets_have_runs_too(tmp_path: Path) -> None:
    backend = Backend.open(RealDisk(), str(tmp_path / "db"), sync=False)
    backend.create_bucket(KEY)
    assert backend.runs(KEY, 4) is None
    backend.commit()
    assert items_of(runs_of(backend)) == []
    backend.put(KEY, b"a", b"inline")
    backend.commit()
    assert items_of(runs_of(backend)) == [(b"a", b"inline")]
    backend.close()


@pytest.mark.parametrize("reads_first", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_free_pages_are_the_same_whenever_they_are_found(tmp_path: Path, seed: int, reads_first: bool) -> None:
    path = str(tmp_path / "db")
    history = History(RealDisk(), path, seed)
    for _ in range(30):
        history.write()
        history.backend.commit()
    history.backend.close()
    at_once = Backend.open(RealDisk(), path, sync=False)
    spans, in_use = at_once.database.freelist.spans(), at_once.size_in_use
    at_once.close()

    later = Backend.open(RealDisk(), path, sync=False, free_pages_later=True)
    assert not later.database.knows_free_pages
    if reads_first:
        assert items_of(runs_of(later, random.Random(seed).choice([4, 17]))) == later.scan(KEY, b"", None)
    later.find_free_pages()

    assert (later.database.freelist.spans(), later.size_in_use) == (spans, in_use)
    later.close()


def test_a_commit_finds_the_free_pages_that_were_left_for_later(tmp_path: Path) -> None:
    backend, _ = filled(tmp_path)
    backend.close()

    backend = Backend.open(RealDisk(), str(tmp_path / "db"), sync=False, free_pages_later=True)
    backend.put(KEY, b"0003", b"new")
    backend.commit()

    assert backend.database.knows_free_pages
    assert backend.get(KEY, b"0003") == b"new"
    # The leaf that was changed left its page.
    assert backend.database.freelist.pending_count() > 0
    backend.close()


@pytest.mark.parametrize("place", [0, 8, 12])
def test_a_broken_header_within_a_run_is_named_by_its_page(tmp_path: Path, place: int) -> None:
    backend, page_id = filled(tmp_path)
    change(tmp_path, page_id, place, pack("<I", 9999))

    with pytest.raises(CorruptDatabaseError, match=rf"at offset {page_id * PAGE}: page {page_id} is broken"):
        items_of(runs_of(backend))
    backend.close()


def test_a_branch_that_leads_to_a_leaf_twice_is_found_after_the_leaf_was_read(tmp_path: Path) -> None:
    backend, page_id = filled(tmp_path)
    root = backend.database.view.buckets[KEY].root
    third = leaf_ids(backend.database.view, KEY)[2]
    backend.close()
    change(tmp_path, root, 16 + 16 * 2 + 8, pack("<Q", page_id))

    backend = Backend.open(RealDisk(), str(tmp_path / "db"), sync=False, free_pages_later=True)
    runs_of(backend)
    with pytest.raises(CorruptDatabaseError, match=f"page {page_id} is broken: .* a second reference"):
        backend.find_free_pages()
    assert third != page_id
    backend.close()
