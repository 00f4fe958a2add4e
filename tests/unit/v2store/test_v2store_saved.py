"""Saving and recovering the v2 tree, and the times and depths in it."""

from __future__ import annotations

import json

import pytest

from balsad.v2store import SavedStoreError, Store, deep_json, encode_event, go_time, recover, save
from balsad.v2store.go_time import NS

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
