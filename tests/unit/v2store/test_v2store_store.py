"""The v2 tree's operations, their events and their refusals."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from balsad.v2store import Event, Store, V2Error, encode_event, errors
from balsad.v2store.go_time import NS

NOW = 1_700_000_000 * NS


def text(event: Event) -> str:
    return encode_event(event).decode()


def refused(operation: Callable[[], object]) -> tuple[int, str, int]:
    """Code, cause and index of the refusal."""
    with pytest.raises(V2Error) as caught:
        operation()
    return caught.value.code, caught.value.cause, caught.value.index


def test_get_of_a_file() -> None:
    store = Store()
    store.create("/foo", value="bar")

    event = store.get("/foo")

    assert text(event) == '{"action":"get","node":{"key":"/foo","value":"bar","modifiedIndex":1,"createdIndex":1}}'
    assert (event.index, event.etcd_index) == (1, 1)


def test_get_of_a_folder_leaves_out_hidden_children_and_sorts_on_demand() -> None:
    """etcd TestStoreGetDirectory, TestStoreGetSorted."""
    store = Store(())
    for path in ("/foo/b", "/foo/_hidden", "/foo/a", "/foo/z/_y", "/foo/z/x"):
        store.create(path, value="v")

    flat = store.get("/foo", in_order=True).node.nodes
    deep = store.get("/foo", recursive=True, in_order=True).node.nodes

    assert flat is not None and deep is not None
    assert [node.key for node in flat] == ["/foo/a", "/foo/b", "/foo/z"]
    assert flat[2].nodes is None
    assert [node.key for node in deep[2].nodes or ()] == ["/foo/z/x"]
    assert store.get("/foo/_hidden").node.value == "v"


def test_paths_are_cleaned() -> None:
    store = Store()
    store.set("//1/./a/../b//c/", value="x")

    assert store.get("1/b/c").node.value == "x"
    assert refused(lambda: store.get("/1/a")) == (errors.KEY_NOT_FOUND, "/1/a", 1)


def test_set_tells_what_was_there() -> None:
    """etcd TestStoreSet."""
    store = Store()

    first = store.set("/foo", value="")
    second = store.set("/foo", value="bar")

    assert first.is_created and not second.is_created
    assert text(first) == '{"action":"set","node":{"key":"/foo","value":"","modifiedIndex":1,"createdIndex":1}}'
    assert text(second) == (
        '{"action":"set","node":{"key":"/foo","value":"bar","modifiedIndex":2,"createdIndex":2},'
        '"prevNode":{"key":"/foo","value":"","modifiedIndex":1,"createdIndex":1}}'
    )


def test_create_refuses_what_is_there_and_what_is_in_the_way() -> None:
    store = Store()
    store.create("/foo", is_dir=True)
    store.create("/file", value="x")

    assert refused(lambda: store.create("/foo", is_dir=True)) == (errors.NODE_EXIST, "/foo", 2)
    assert refused(lambda: store.create("/file/below", value="x")) == (errors.NOT_DIR, "/file", 2)
    assert refused(lambda: store.set("/foo", value="x")) == (errors.NOT_FILE, "/foo", 2)


def test_folders_on_the_way_stay_when_the_creation_fails() -> None:
    """etcd's checkDir creates as it walks; all members must keep them alike."""
    store = Store(())
    store.create("/a/file", value="x")

    assert refused(lambda: store.create("/new/../a/file/x/y"))[0] == errors.NOT_DIR
    store.create("/way/file", value="x")
    assert refused(lambda: store.create("/way/file/x"))[0] == errors.NOT_DIR
    assert store.get("/way").node.created_index == 2


def test_unique_names_are_indexes_of_twenty_digits() -> None:
    """etcd TestStoreCreateUnique names; Go pads them with zeros."""
    store = Store()
    store.create("/1/x")

    event = store.create("/1/q", value="job", unique=True)

    assert event.node.key == "/1/q/00000000000000000002"


def test_namespaces_and_root_are_read_only() -> None:
    store = Store()
    for path in ("/", "/0", "/1", ""):
        assert refused(lambda path=path: store.set(path, value="x")) == (errors.ROOT_READ_ONLY, "/", 0)
        assert refused(lambda path=path: store.create(path, is_dir=True)) == (errors.ROOT_READ_ONLY, "/", 0)
        assert refused(lambda path=path: store.update(path)) == (errors.ROOT_READ_ONLY, "/", 0)
        assert refused(lambda path=path: store.delete(path, recursive=True)) == (errors.ROOT_READ_ONLY, "/", 0)
        assert refused(lambda path=path: store.compare_and_swap(path, prev_index=1)) == (errors.ROOT_READ_ONLY, "/", 0)
        assert refused(lambda path=path: store.compare_and_delete(path, prev_index=1))[0] == errors.NOT_FILE


def test_update_changes_value_and_ttl() -> None:
    store = Store()
    store.create("/foo", value="bar")

    event = store.update("/foo", value="baz", expires_ns=NOW + 100 * NS, now_ns=NOW)

    assert text(event) == (
        '{"action":"update","node":{"key":"/foo","value":"baz","expiration":"2023-11-14T22:15:00Z","ttl":100,'
        '"modifiedIndex":2,"createdIndex":1},'
        '"prevNode":{"key":"/foo","value":"bar","modifiedIndex":1,"createdIndex":1}}'
    )
    assert store.update("/foo", value="", now_ns=NOW).node.expires_ns == 0
    assert not store.has_ttl_keys()


def test_update_of_a_folder_changes_its_ttl_alone() -> None:
    """etcd 3.4 TestStoreUpdateDirTTL; 3.5 lost it."""
    store = Store()
    store.create("/foo/bar", value="baz")

    event = store.update("/foo", expires_ns=NOW + NS, now_ns=NOW)

    assert event.node.is_dir and event.node.modified_index == 2
    assert store.get("/foo").node.modified_index == 1
    assert refused(lambda: store.update("/foo", value="x")) == (errors.NOT_FILE, "/foo", 2)
    store.delete_expired_keys(NOW + NS)
    assert refused(lambda: store.get("/foo/bar"))[0] == errors.KEY_NOT_FOUND


@pytest.mark.parametrize(
    ("prev_value", "prev_index", "cause"),
    [
        ("bar", 0, None),
        ("", 1, None),
        ("bar", 1, None),
        ("nope", 0, "[nope != bar]"),
        ("", 9, "[9 != 1]"),
        ("bar", 9, "[9 != 1]"),
        ("nope", 1, "[nope != bar]"),
        ("nope", 9, "[nope != bar] [9 != 1]"),
    ],
)
def test_compare_and_swap_and_delete(prev_value: str, prev_index: int, cause: str | None) -> None:
    """etcd TestStoreCompareAndSwap..., TestStoreCompareAndDelete..."""
    store = Store()
    store.create("/foo", value="bar")

    def swap() -> Event:
        return store.compare_and_swap("/foo", prev_value=prev_value, prev_index=prev_index, value="baz")

    def remove() -> Event:
        return store.compare_and_delete("/foo", prev_value=prev_value, prev_index=prev_index)

    if cause is None:
        assert text(swap()) == (
            '{"action":"compareAndSwap","node":{"key":"/foo","value":"baz","modifiedIndex":2,"createdIndex":1},'
            '"prevNode":{"key":"/foo","value":"bar","modifiedIndex":1,"createdIndex":1}}'
        )
        store = Store()
        store.create("/foo", value="bar")
        assert text(remove()) == (
            '{"action":"compareAndDelete","node":{"key":"/foo","modifiedIndex":2,"createdIndex":1},'
            '"prevNode":{"key":"/foo","value":"bar","modifiedIndex":1,"createdIndex":1}}'
        )
        assert refused(lambda: store.get("/foo"))[0] == errors.KEY_NOT_FOUND
    else:
        assert refused(swap) == refused(remove) == (errors.TEST_FAILED, cause, 1)
        assert store.get("/foo").node.value == "bar"


def test_folders_are_not_compared() -> None:
    store = Store()
    store.create("/d", is_dir=True)

    assert refused(lambda: store.compare_and_swap("/d", prev_index=1)) == (errors.NOT_FILE, "/d", 1)
    assert refused(lambda: store.compare_and_delete("/d", prev_index=1)) == (errors.NOT_FILE, "/d", 1)


def test_delete_of_folders_needs_leave() -> None:
    """etcd TestStoreDeleteDirectory..."""
    store = Store()
    store.create("/d/f", value="x")

    assert refused(lambda: store.delete("/d")) == (errors.NOT_FILE, "/d", 1)
    assert refused(lambda: store.delete("/d", is_dir=True)) == (errors.DIR_NOT_EMPTY, "/d", 1)
    assert text(store.delete("/d", recursive=True)) == (
        '{"action":"delete","node":{"key":"/d","dir":true,"modifiedIndex":2,"createdIndex":1},'
        '"prevNode":{"key":"/d","dir":true,"modifiedIndex":1,"createdIndex":1}}'
    )
    assert refused(lambda: store.delete("/d", recursive=True)) == (errors.KEY_NOT_FOUND, "/d", 2)


def test_expiry_goes_by_the_cutoff_and_tells_what_went() -> None:
    """etcd TestStoreExpire...; two of one moment go in the order of their paths."""
    store = Store()
    store.create("/b", value="x", expires_ns=NOW + 5 * NS, now_ns=NOW)
    store.create("/a", value="y", expires_ns=NOW + 5 * NS, now_ns=NOW)
    store.create("/c", is_dir=True, expires_ns=NOW + 3 * NS, now_ns=NOW)
    store.create("/later", value="z", expires_ns=NOW + 5 * NS + 1, now_ns=NOW)

    expired = store.delete_expired_keys(NOW + 5 * NS, now_ns=NOW + 7 * NS)

    assert [event.node.key for event in expired] == ["/c", "/a", "/b"]
    assert text(expired[1]) == (
        '{"action":"expire","node":{"key":"/a","modifiedIndex":6,"createdIndex":2},'
        '"prevNode":{"key":"/a","value":"y","expiration":"2023-11-14T22:13:25Z","ttl":-2,'
        '"modifiedIndex":2,"createdIndex":2}}'
    )
    assert store.has_ttl_keys()
    assert store.stats.expire_count == 3


def test_what_goes_with_its_folder_does_not_expire_again() -> None:
    store = Store()
    store.create("/d", is_dir=True, expires_ns=NOW, now_ns=NOW)
    store.create("/d/f", value="x", expires_ns=NOW + NS, now_ns=NOW)
    store.create("/e/f", value="x", expires_ns=NOW + NS, now_ns=NOW)
    store.delete("/e", recursive=True)

    assert len(store.delete_expired_keys(NOW + 2 * NS)) == 1
    assert not store.has_ttl_keys()


def test_a_replaced_file_does_not_expire() -> None:
    store = Store()
    store.set("/f", value="x", expires_ns=NOW)
    store.set("/f", value="y")

    assert store.delete_expired_keys(NOW + NS) == []
    assert store.get("/f").node.value == "y"


def test_a_creation_that_expires_before_2000_never_does() -> None:
    """etcd TestMinExpireTime."""
    store = Store()
    store.create("/f", value="x", expires_ns=978_307_200, now_ns=NOW)

    assert store.get("/f").node.expires_ns == 0


def test_refresh_keeps_the_value_and_moves_the_end() -> None:
    """etcd TestStoreRefresh."""
    store = Store()
    store.create("/f", value="x", expires_ns=NOW)

    for refresh in (
        lambda at: store.update("/f", expires_ns=at, refresh=True),
        lambda at: store.set("/f", expires_ns=at, refresh=True),
        lambda at: store.compare_and_swap("/f", prev_value="x", expires_ns=at, refresh=True),
    ):
        event = refresh(NOW + NS)
        assert event.node.value == "x" and event.is_refresh
        assert event.node.expires_ns == NOW + NS
    assert store.delete_expired_keys(NOW) == []
    assert refused(lambda: store.set("/none", refresh=True))[0] == errors.KEY_NOT_FOUND


def test_refreshing_for_long_does_not_fill_the_heap() -> None:
    store = Store()
    store.create("/f", value="x", expires_ns=NOW)
    for second in range(2000):
        store.update("/f", expires_ns=NOW + second * NS, refresh=True)

    assert len(store.ttl_heap) == 1
    assert len(store.ttl_heap._entries) < 200


def test_successes_and_failures_are_counted_like_etcds() -> None:
    """With its slips: a refused root and a refused compareAndDelete are successes, a file in the way fails twice."""
    store = Store()
    store.set("/f", value="x")
    for failing in (
        lambda: store.get("/none"),
        lambda: store.delete("/"),
        lambda: store.compare_and_delete("/f", prev_index=9),
        lambda: store.create("/f/x"),
        lambda: store.compare_and_swap("/f", prev_index=9),
    ):
        refused(failing)

    assert store.encode_stats() == (
        b'{"getsSuccess":0,"getsFail":1,"setsSuccess":1,"setsFail":1,"deleteSuccess":1,"deleteFail":0,'
        b'"updateSuccess":0,"updateFail":0,"createSuccess":0,"createFail":1,"compareAndSwapSuccess":0,'
        b'"compareAndSwapFail":1,"compareAndDeleteSuccess":1,"compareAndDeleteFail":0,"expireCount":0,"watchers":0}'
    )
    assert store.counters.writes == {"set": 1, "delete": 1, "compareAndDelete": 1, "create": 2, "compareAndSwap": 1}
    assert store.counters.reads_failed == {"get": 1}


def test_clients_see_keys_without_the_namespace() -> None:
    store = Store()
    store.set("/1/d/f", value="x")

    event = store.get("/1", recursive=True).without_prefix("/1")
    assert encode_event(store.get("/1", recursive=True), prefix="/1") == encode_event(event)

    assert text(event) == (
        '{"action":"get","node":{"dir":true,"nodes":[{"key":"/d","dir":true,"nodes":'
        '[{"key":"/d/f","value":"x","modifiedIndex":1,"createdIndex":1}],"modifiedIndex":1,"createdIndex":1}]}}'
    )
    assert store.get("/1/d").node.key == "/1/d"


def test_without_value_only_the_action_is_left() -> None:
    store = Store()

    assert encode_event(store.set("/1/f", value="x"), with_nodes=False) == b'{"action":"set"}'


def test_errors_are_etcds_json() -> None:
    assert V2Error(100, "/a<b", 7).encode() == (
        b'{"errorCode":100,"message":"Key not found","cause":"/a\\u003cb","index":7}'
    )
    assert V2Error(300).encode() == b'{"errorCode":300,"message":"Raft Internal Error","index":0}'
    assert [V2Error(code).status for code in (100, 101, 102, 104, 105, 107, 108, 110, 209, 300, 301, 401)] == [
        404, 412, 403, 400, 412, 400, 403, 401, 400, 500, 500, 400,
    ]  # fmt: skip


def test_only_cluster_data() -> None:
    store = Store()
    store.create("/0/members/1/raftAttributes", value="{}")
    assert store.holds_only_cluster()
    store.create("/2/users/root", value="{}")
    assert not store.holds_only_cluster()
