"""Saving and recovering the v2 tree, and the times and depths in it."""

from __future__ import annotations

import contextlib
import json
import random

import pytest

from balsad.v2store import (
    RecoveryJob,
    SavedStoreError,
    SaveJob,
    Store,
    V2Error,
    deep_json,
    encode_event,
    go_time,
    recover,
    save,
    saved,
)
from balsad.v2store.go_time import NS
from balsad.v2store.node import Node

NOW = 1_700_000_000 * NS


def make_store() -> Store:
    store = Store()
    store.create("/1/d", is_dir=True, expires_ns=NOW + 10 * NS, now_ns=NOW)
    store.set("/1/d/f", value="<&>\u2028", expires_ns=NOW + 5 * NS + 120, now_ns=NOW)
    store.update("/1/d/f", expires_ns=NOW + 6 * NS, refresh=True, now_ns=NOW)
    store.create("/1/empty", is_dir=True)
    store.set("/1/gone", value="x")
    store.delete("/1/gone")
    return store


def recovered(data: bytes) -> Store:
    store = Store()
    recover(store, data)
    return store


def test_saved_form_is_gos() -> None:
    store = Store(("/0",))
    store.hub.history = type(store.hub.history)(2)
    store.set("/0/a", value="x", expires_ns=NOW + 1, now_ns=NOW)

    assert save(store).decode() == (
        '{"Root":{"Path":"/","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"",'
        '"Children":{"0":{"Path":"/0","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z",'
        '"Value":"","Children":{"a":{"Path":"/0/a","CreatedIndex":1,"ModifiedIndex":1,'
        '"ExpireTime":"2023-11-14T22:13:20.000000001Z","Value":"x","Children":null}}}}},'
        '"WatcherHub":{"EventHistory":{"Queue":{"Events":[{"action":"set","node":{"key":"/0/a","value":"x",'
        '"expiration":"2023-11-14T22:13:20.000000001Z","ttl":1,"modifiedIndex":1,"createdIndex":1}},null],'
        '"Size":1,"Front":0,"Back":1,"Capacity":2},"StartIndex":1,"LastIndex":1}},"CurrentIndex":1,'
        '"Stats":{"getsSuccess":0,"getsFail":0,"setsSuccess":1,"setsFail":0,"deleteSuccess":0,"deleteFail":0,'
        '"updateSuccess":0,"updateFail":0,"createSuccess":0,"createFail":0,"compareAndSwapSuccess":0,'
        '"compareAndSwapFail":0,"compareAndDeleteSuccess":0,"compareAndDeleteFail":0,"expireCount":0,"watchers":0},'
        '"CurrentVersion":2}'
    )


def test_a_recovered_tree_goes_on_where_it_was() -> None:
    store = make_store()
    other = recovered(save(store))

    assert save(other) == save(store)
    for one in (store, other):
        one.set("/1/after", value="x", now_ns=NOW)
        one.delete_expired_keys(NOW + 7 * NS)
    assert save(other) == save(store)
    assert [event.node.key for event in other.watch("/1/gone", since_index=1).take()] == ["/1/gone"]


def test_children_come_in_the_order_of_their_bytes() -> None:
    store = Store(())
    for name in ("z", "ä", "\U0001f600", "\uffff", "B", "a"):
        store.set("/" + name, value="x")

    assert list(json.loads(save(store))["Root"]["Children"]) == ["B", "a", "z", "ä", "\uffff", "\U0001f600"]


def test_watchers_outlive_a_recovery() -> None:
    """A member that gets a snapshot from its leader keeps its clients."""
    store = Store()
    watcher = store.watch("/1/f")

    recover(store, save(make_store()))
    store.set("/1/f", value="x")

    assert [event.node.key for event in watcher.take()] == ["/1/f"]


def test_times_of_other_zones_are_understood() -> None:
    """etcd writes local time, so a snapshot from elsewhere carries an offset."""
    text = save(make_store()).replace(
        b'"ExpireTime":"2023-11-14T22:13:30Z"', b'"ExpireTime":"2023-11-15T00:13:30+02:00"'
    )
    assert b"+02:00" in text

    assert save(recovered(text)) == save(make_store())


@pytest.mark.parametrize(
    ("unix_ns", "text"),
    [
        (0, "0001-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (NOW, "2023-11-14T22:13:20Z"),
        (NOW + 120_000_000, "2023-11-14T22:13:20.12Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (2**63 - 1, "2262-04-11T23:47:16.854775807Z"),
    ],
)
def test_times_are_gos(unix_ns: int, text: str) -> None:
    assert go_time.format_ns(unix_ns) == text
    assert go_time.parse_ns(text) == unix_ns


@pytest.mark.parametrize("text", ["", "now", "2023-11-14", "2023-13-14T00:00:00Z", "2023-11-14T22:13:20"])
def test_text_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        go_time.parse_ns(text)


def test_paths_may_be_deeper_than_python_recurses() -> None:
    store = Store()
    path = "/1" + "/a" * 3000
    watcher = store.watch(path)
    store.set(path, value="x")

    other = recovered(save(store))

    assert other.get(path).node.value == "x"
    assert encode_event(other.get("/", recursive=True)).count(b'"dir":true') == 3002
    other.delete("/1/a", recursive=True)
    store.delete("/1/a", recursive=True)
    assert len(watcher.take()) == 1
    assert other.get("/1").node.nodes == []


@pytest.mark.parametrize(
    "text",
    ["1", "null", '"a\\u0041"', "[]", "{}", " [ ] ", '{"a":[1,{"b":null}],"c":{}}', "[[],{}]",
     '[1.5,-2e3,"x",true,false]', '{"a":{"b":{"c":[[[1]]]}}} '],
)  # fmt: skip
def test_flat_reader_reads_what_the_standard_one_reads(text: str) -> None:
    assert deep_json._loads_flat(text) == json.loads(text)


@pytest.mark.parametrize(
    "text", ["", "{", "[", "[1", "[1,", "[1,]", '{"a"}', '{"a":}', '{"a":1,}', "{1:2}", "[1]]", "1 2", "[1 2]", "nul"]
)
def test_flat_reader_refuses_what_the_standard_one_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        json.loads(text)
    with pytest.raises(ValueError):
        deep_json._loads_flat(text)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (b"", "expected JSON"),
        (b"[]", "v2 tree: expected an object"),
        (b"{}", "Root: expected an object"),
        (b'{"Root":{"Path":"/","Children":null}}', "Root: expected a folder"),
        (b'{"Root":{"Path":"/","Children":{"a":7}}}', "/ Children.a: expected an object, found 7"),
        (b'{"Root":{"Path":"/","Children":{"a":{"Path":"/a","Value":7}}}}', "/a.Value: expected a string, found 7"),
        (b'{"Root":{"Path":"/","Children":{"a":{"Path":"/a","ExpireTime":"x"}}}}', "/a.ExpireTime: not a time"),
        (b'{"Root":{"Path":"/","Children":{}},"CurrentIndex":"x"}', "CurrentIndex: expected a number"),
        (b'{"Root":{"Path":"/","Children":{}}}', "Queue.Events: expected an array"),
        (
            b'{"Root":{"Path":"/","Children":{}},"WatcherHub":{"EventHistory":{"Queue":'
            b'{"Events":[null],"Size":1,"Front":0,"Back":0,"Capacity":1}}}}',
            "do not fit its events",
        ),
    ],
)
def test_broken_snapshots_say_where_and_change_nothing(broken: bytes, words: str) -> None:
    store = make_store()
    before = save(store)

    with pytest.raises(SavedStoreError, match=words):
        recover(store, broken)

    assert save(store) == before


def _change(store: Store, chances: random.Random) -> None:
    folder = f"/1/d{chances.randrange(4)}"
    path = f"{folder}/{chances.randrange(30)}" if chances.random() < 0.8 else folder
    expires = NOW + chances.randrange(1, 50) * NS if chances.random() < 0.3 else 0
    what = chances.randrange(7)
    with contextlib.suppress(V2Error):
        if what == 0:
            store.create(path, value="c", expires_ns=expires, now_ns=NOW)
        elif what == 1:
            store.set(path, value=f"<{chances.random()}>", expires_ns=expires, now_ns=NOW)
        elif what == 2:
            store.update(path, value="u" if path != folder else "", expires_ns=expires, now_ns=NOW)
        elif what == 3:
            store.compare_and_swap(path, value="s", now_ns=NOW)
        elif what == 4:
            store.delete(path, is_dir=True, recursive=chances.random() < 0.5)
        elif what == 5:
            store.delete_expired_keys(NOW + chances.randrange(20) * NS)
        else:
            store.create(folder, value="unique", unique=True)


@pytest.mark.parametrize("seed", range(30))
def test_a_save_in_slices_holds_the_tree_as_it_was_when_it_began(seed: int) -> None:
    """However much is written between its slices, and whoever else saves at the same time."""
    chances = random.Random(seed)
    store = Store()
    for _ in range(150):
        _change(store, chances)
    jobs: list[tuple[SaveJob, bytes]] = []
    saved = 0
    for _ in range(150):
        if len(jobs) < 3 and chances.random() < 0.2:
            jobs.append((SaveJob(store), save(store)))
        _change(store, chances)
        for job, wanted in tuple(jobs):
            if job.step(chances.randrange(1, 9)):
                assert job.data == wanted
                assert job.is_closed
                jobs.remove((job, wanted))
                saved += 1
    assert saved > 0 or jobs
    for job, wanted in jobs:
        job.step(1 << 30)
        assert job.data == wanted
    assert store.keepers == []


def test_a_slice_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    for number in range(9000):
        store.create(f"/1/many/{number * 7919 % 9000}", value="v")
        store.create(f"/1/few{number % 100}/{number}", value="v")
    written: list[int] = []
    head = saved._head

    def counted(node: Node) -> str:
        written[-1] += 1
        return head(node)

    monkeypatch.setattr(saved, "_head", counted)
    job = SaveJob(store)
    written.append(0)
    while not job.step(500):
        written.append(0)
    assert max(written) <= 500
    assert sum(written) == 18_000 + 1 + 100 + 3
    written.append(0)
    assert job.data == save(store)

    steps = 1
    other = Store()
    reader = RecoveryJob(job.data)
    while not reader.step(500):
        steps += 1
    reader.hand_over(other)
    assert steps >= 18_000 // 500
    assert save(other) == job.data


def test_a_save_of_a_tree_that_is_replaced_is_over() -> None:
    store = make_store()
    data = save(store)
    job = SaveJob(store)
    assert not job.step(1)
    recover(store, data)
    assert job.is_closed
    assert store.keepers == []


@pytest.mark.parametrize("name", ["a", "ä", "\u2028<", '"\\', "\x01", "\U0001f600", "\udcff", "\ud800x"])
def test_names_of_all_kinds_are_read_node_by_node_as_at_once(name: str) -> None:
    store = Store()
    for number in range(5000):
        store.create(f"/1/f/{number}", value=name)
    store.create(f"/1/f/{name}", value=name)
    data = save(store)
    other = Store()
    job = RecoveryJob(data)
    while not job.step(100):
        pass
    job.hand_over(other)
    at_once = RecoveryJob(b" " + data)  # which no Go program writes
    assert at_once.step(1)
    another = Store()
    at_once.hand_over(another)
    assert save(other) == save(another)
    if name != "\ud800x":
        assert save(other) == data or "\udcff" in name


@pytest.mark.parametrize("cut", [20, 100, 250, 400, -1, -30, -400])
def test_a_torn_tree_is_refused_as_json_is(cut: int) -> None:
    with pytest.raises(SavedStoreError):
        recover(Store(), save(make_store())[:cut])
