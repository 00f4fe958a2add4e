"""The store beside a list of all changes: every range at every revision, through compactions and restarts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balsad.errors import CompactedError, FutureRevError
from balsad.lease import Lessor
from balsad.mvcc import RangeResult, Store, without_value
from balsad.mvcc.revision import KEY_BUCKET
from tests.unit.mvcc.memory_backend import MemoryBackend
from tests.unit.mvcc.mvcc_model import Change, Delete, Model, Op, Put, apply

KEYS = [b"a", b"aa", b"ab", b"b", b"b\0", b"c\xff", b"\xff", b"k" * 130]
LEASES = [7, -9]

keys = st.sampled_from(KEYS)
ends = st.one_of(st.just(b""), st.just(b"\0"), st.sampled_from([*KEYS, b"c", b"z"]))
puts = st.builds(Put, keys, st.sampled_from([b"", b"v", b"x" * 200]), st.sampled_from([0, 0, *LEASES]))
deletes = st.builds(Delete, keys, ends)


def once_each(ops: list[Op]) -> list[Op]:
    """A txn as the API lets it through: no key changes twice."""
    changed: list[Op] = []
    for op in ops:
        if isinstance(op, Delete) and changed:
            continue
        if isinstance(op, Put) and any(isinstance(other, Delete) or other.key == op.key for other in changed):
            continue
        changed.append(op)
    return changed


txns = st.lists(st.one_of(puts, puts, deletes), min_size=1, max_size=4).map(once_each)


def open_store(backend: MemoryBackend, batch: int = 2, cache_bytes_max: int = 900) -> tuple[Store, Lessor]:
    lessor = Lessor(2, backend)
    lessor.recover()
    store = Store(backend, leases=lessor, cache_bytes_max=cache_bytes_max, compaction_batch=batch)
    store.restore()
    return store, lessor


def new_store(batch: int = 2) -> tuple[MemoryBackend, Store, Lessor]:
    backend = MemoryBackend()
    store, lessor = open_store(backend, batch)
    for lease in LEASES:
        lessor.grant(lease, 10, 0.0)
    return backend, store, lessor


def check_reads(
    store: Store, model: Model, key: bytes, end: bytes, limit: int, *, keys_before: int | None = None
) -> None:
    assert store.current_revision == model.revision
    assert store.compact_revision == model.compacted
    for revision in range(max(model.compacted, 1), model.revision + 1):
        seen = model.at(revision)
        expected = [change for change in seen.values() if in_bounds(change.key, key, end)]
        found = store.range(key, end, revision=revision, limit=limit)
        shown = expected[:limit] if limit else expected
        assert found.kvs == [change.stored() for change in shown]
        assert found.metas == [(change.main, change.sub, change.create, change.version) for change in shown]
        assert (found.count, found.revision) == (len(expected), model.revision)
        counted = store.range(key, end, revision=revision, limit=limit, count_only=True)
        assert (counted.kvs, counted.count) == ([], len(expected))
        bare = store.range(key, end, revision=revision, keys_only=True)
        assert bare.kvs == [change._replace(value=b"").stored() for change in expected]
        one = seen.get(key)
        assert store.get_at(key, revision) == (None if one is None else one.stored())
    now = model.at(model.revision)
    one = now.get(key)
    assert store.get(key) == (None if one is None else one.stored())
    assert store.meta(key) == (None if one is None else (one.main, one.sub, one.create, one.version))
    assert store.key_count == (len(now) if keys_before is None else keys_before)


def in_bounds(candidate: bytes, key: bytes, end: bytes) -> bool:
    if end == b"":
        return candidate == key
    return key <= candidate and (end == b"\0" or candidate < end)


@settings(max_examples=150, deadline=None)
@given(history=st.lists(txns, max_size=25), reads=st.lists(st.tuples(keys, ends, st.integers(0, 3)), min_size=1))
def test_every_range_at_every_revision_agrees_with_the_list_of_changes(
    history: list[list[Op]], reads: list[tuple[bytes, bytes, int]]
) -> None:
    _, store, lessor = new_store()
    model = Model()

    for txn in history:
        model.apply(txn)
        assert apply(store, txn) == model.revision

    for key, end, limit in reads:
        check_reads(store, model, key, end, limit)
    hung = {key: change.lease for key, change in model.at(model.revision).items() if change.lease}
    assert lessor.lease_by_key == hung
    for lease in LEASES:
        held = lessor.lookup(lease)
        assert held is not None
        assert held.sorted_keys() == sorted(key for key, of in hung.items() if of == lease)
    with pytest.raises(FutureRevError):
        store.range(b"a", revision=model.revision + 1)


@settings(max_examples=100, deadline=None)
@given(
    history=st.lists(txns, max_size=12), last=txns, key=keys, end=ends, limit=st.integers(0, 3), dropped=st.booleans()
)
def test_while_a_txn_is_open_apart_all_is_as_before(
    history: list[list[Op]], last: list[Op], key: bytes, end: bytes, limit: int, dropped: bool
) -> None:
    """Key by key, readers see the revision before, also of values that are not held; a commit takes none of it."""
    backend, store, lessor = new_store()
    model = Model()
    for ops in history:
        model.apply(ops)
        apply(store, ops)
    rows = rows_of(backend)
    txn = store.write_apart()

    def look() -> None:
        if dropped:
            store.cache.drop_all(KEYS)
        check_reads(store, model, key, end, limit, keys_before=store.key_count)
        assert rows_of(backend) == rows

    for op in last:
        if isinstance(op, Put):
            txn.put(op.key, op.value, op.lease)
            assert txn.get(op.key) is not None
        elif op.end:
            while txn.delete_first(op.key, op.end, 1):
                look()
        else:
            txn.delete_range(op.key)
        look()
    model.apply(last)
    assert txn.end() == model.revision

    assert rows_of(backend) == [(change.row_key(), change.stored()) for change in model.changes]
    check_reads(store, model, key, end, limit)
    assert not store.apart
    hung = {one: change.lease for one, change in model.at(model.revision).items() if change.lease}
    assert lessor.lease_by_key == hung


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            txns,
            txns,
            st.tuples(st.just("compact"), st.integers(-1, 4)),
            st.tuples(st.just("work"), st.integers(1, 4)),
            st.tuples(st.just("crash"), st.just(0)),
        ),
        max_size=30,
    ),
    batch=st.integers(1, 5),
)
def test_compaction_keeps_what_is_still_read_and_no_more(steps: list[list[Op] | tuple[str, int]], batch: int) -> None:
    """etcd keyIndex.compact: newest revision at or below, a tombstone only at the compact revision itself."""
    backend, store, lessor = new_store(batch)
    model = Model()
    for step in steps:
        if isinstance(step, list):
            model.apply(step)
            apply(store, step)
        elif step[0] == "compact":
            revision = model.revision - step[1]
            if revision > model.revision:
                with pytest.raises(FutureRevError):
                    store.compact(revision)
            elif revision > model.compacted:
                store.compact(revision)
                model.compacted = revision
        elif step[0] == "work":
            for _ in range(step[1]):
                if store.compactions:
                    store.compactions[-1].step()
        else:
            backend = backend.copy()
            store, lessor = open_store(backend, batch)
        check_reads(store, model, b"a", b"c", 0)
    with pytest.raises(CompactedError):
        store.compact(model.compacted)
    if model.compacted > 1:
        with pytest.raises(CompactedError):
            store.range(b"a", revision=model.compacted - 1)

    while store.compactions:
        store.compactions[-1].step()

    kept = model.kept_after_compaction(model.compacted)
    assert rows_of(backend) == [(change.row_key(), change.stored()) for change in kept]
    check_index_holds_only(store, kept)
    assert lessor.lease_by_key == {
        key: change.lease for key, change in model.at(model.revision).items() if change.lease
    }
    again, _ = open_store(backend.copy(), batch)
    check_reads(again, model, b"\0", b"\0", 0)
    check_index_holds_only(again, kept)


def rows_of(backend: MemoryBackend) -> list[tuple[bytes, bytes]]:
    return backend.scan(KEY_BUCKET, b"", None)


def check_index_holds_only(store: Store, kept: list[Change]) -> None:
    """What was forgotten on disk is forgotten in memory too."""
    index = store.index
    held = {(meta[0], meta[1]) for meta in index.live.values()}
    for metas in index.history.values():
        held.update((meta[0], meta[1]) for meta in metas)
    assert held == {(change.main, change.sub) for change in kept}
    assert index.dead == {change.key for change in kept if change.is_delete}
    assert index.dead_sorted.between(b"\0", b"\0", 0) == sorted(index.dead)
    assert index.live_sorted.between(b"", b"\0", 0) == sorted(index.live)


@settings(max_examples=150, deadline=None)
@given(
    history=st.lists(txns, min_size=1, max_size=20),
    compact_back=st.integers(0, 8),
    steps=st.integers(0, 30),
    later=st.lists(txns, max_size=5),
)
def test_the_hash_is_the_same_at_every_stage_of_a_compaction(
    history: list[list[Op]], compact_back: int, steps: int, later: list[list[Op]]
) -> None:
    """etcd HashByRev: rows that a compaction will delete do not count, deleted already or not."""
    _, store, _ = new_store(1)
    model = Model()
    for txn in history:
        model.apply(txn)
        apply(store, txn)
    for revision in range(1, model.revision + 1):
        assert store.hash_by_revision(revision).hash == model.hash(revision, -1, model.changes)
    revision = max(1, model.revision - compact_back)
    job = store.compact(revision)
    for _ in range(steps):
        job.step()
    for txn in later:
        model.apply(txn)
        apply(store, txn)

    for asked in range(revision, model.revision + 1):
        result = store.hash_by_revision(asked)

        if not model.at(asked):
            continue  # with nothing to keep etcd counts whatever is still there
        assert result.hash == model.hash(asked, revision, model.changes)
        assert (result.compact_revision, result.current_revision) == (revision, model.revision)
    while not job.step():
        pass
    kept = model.kept_after_compaction(revision)
    for asked in range(revision, model.revision + 1):
        assert store.hash_by_revision(asked).hash == model.hash(asked, revision, kept)
    if revision > 1:
        with pytest.raises(CompactedError):
            store.hash_by_revision(revision - 1)


@settings(max_examples=60, deadline=None)
@given(history=st.lists(txns, max_size=12), compact_at=st.floats(0, 1))
def test_a_restart_loses_nothing(history: list[list[Op]], compact_at: float) -> None:
    backend, store, lessor = new_store()
    for txn in history:
        apply(store, txn)
    store.compact(1 + int(compact_at * (store.current_revision - 1)))

    again, lessor_again = open_store(backend.copy())

    assert again.current_revision == store.current_revision
    assert again.compact_revision == store.compact_revision
    for revision in range(store.compact_revision, store.current_revision + 1):
        before = store.range(b"\0", b"\0", revision=revision)
        after = again.range(b"\0", b"\0", revision=revision)
        assert (after.kvs, after.metas, after.count) == (before.kvs, before.metas, before.count)
        assert again.hash_by_revision(revision).hash == store.hash_by_revision(revision).hash
    assert lessor_again.lease_by_key == lessor.lease_by_key


@given(value=st.binary(max_size=300), lease=st.integers(-(2**63), 2**63 - 1), key=st.binary(min_size=1, max_size=200))
def test_leaving_out_the_value_touches_nothing_else(value: bytes, lease: int, key: bytes) -> None:
    change = Change(300, 0, key, False, 200, 70000, value, lease)

    assert without_value(change.stored()) == change._replace(value=b"").stored()


@settings(deadline=None)
@given(
    before=st.lists(txns, max_size=8),
    after=st.lists(txns, min_size=1, max_size=12),
    read=st.tuples(keys, ends, st.integers(1, 3)),
    back=st.integers(0, 3),
)
def test_pages_at_one_revision_while_others_write(
    before: list[list[Op]], after: list[list[Op]], read: tuple[bytes, bytes, int], back: int
) -> None:
    """What is remembered of the changes since grows with them, in the midst of a txn, too, past a compaction."""
    _, store, _ = new_store()
    model = Model()
    for txn in before:
        model.apply(txn)
        apply(store, txn)
    revision = max(store.current_revision - back, 1)
    key, end, limit = read

    def check(found: RangeResult) -> None:
        expected = [change for change in model.at(revision).values() if in_bounds(change.key, key, end)]
        assert found.kvs == [change.stored() for change in expected[:limit]]
        assert found.metas == [(one.main, one.sub, one.create, one.version) for one in expected[:limit]]
        assert found.count == len(expected)

    for number, txn in enumerate(after):
        write = store.write()
        for op in txn:
            if isinstance(op, Put):
                write.put(op.key, op.value, op.lease)
            else:
                write.delete_range(op.key, op.end)
            check(write.range(key, end, revision=revision, limit=limit))
        write.end()
        model.apply(txn)
        check(store.range(key, end, revision=revision, limit=limit))
        if number == 3 and revision > 1:
            job = store.compact(revision)
            while not job.step():
                pass
