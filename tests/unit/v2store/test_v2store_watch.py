"""Watchers of the v2 tree and the history they may begin in."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from balsad.v2store import Store, V2Error, Watcher, errors
from balsad.v2store.go_time import NS

NOW = 1_700_000_000 * NS


def keys(watcher: Watcher) -> list[str]:
    return [event.node.key for event in watcher.take()]


def test_a_watcher_gets_the_next_event_and_no_more() -> None:
    """etcd TestStoreWatchCreate and others."""
    store = Store()
    woken: list[int] = []
    watcher = store.watch("/foo", wake=lambda: woken.append(store.hub.count))

    store.set("/other", value="x")
    assert watcher.start_index == 0 and not woken
    store.create("/foo", value="bar")
    store.set("/foo", value="baz")

    (event,) = watcher.take()
    assert (event.action, event.index) == ("create", 2)
    assert watcher.is_removed and woken == [0]


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.set("/f", value="1"),
        lambda store: store.update("/f", value="1"),
        lambda store: store.compare_and_swap("/f", prev_value="0", value="1"),
        lambda store: store.delete("/f"),
        lambda store: store.compare_and_delete("/f", prev_value="0"),
        lambda store: store.delete_expired_keys(NOW + NS),
    ],
    ids=["set", "update", "compare_and_swap", "delete", "compare_and_delete", "expire"],
)
def test_whoever_watches_again_as_soon_as_it_is_told_is_not_told_the_same_again(
    write: Callable[[Store], object],
) -> None:
    store = Store()
    store.create("/f", value="0", expires_ns=NOW)
    again: list[Watcher] = []
    store.watch("/f", wake=lambda: again.append(store.watch("/f")))

    write(store)

    (watcher,) = again
    assert (watcher.take(), watcher.start_index) == ([], store.current_index)
    store.set("/f", value="2")
    assert [event.node.value for event in watcher.take()] == ["2"]


def test_a_stream_watcher_stays_until_it_is_closed() -> None:
    store = Store()
    watcher = store.watch("/foo", recursive=True, stream=True)

    for number in range(3):
        store.set(f"/foo/{number}", value="x")
    assert keys(watcher) == ["/foo/0", "/foo/1", "/foo/2"]
    watcher.close()
    watcher.close()
    store.set("/foo/3", value="x")

    assert keys(watcher) == [] and store.hub.count == 0


def test_only_recursive_watchers_look_below() -> None:
    store = Store(())
    plain, recursive, root = store.watch("/d"), store.watch("/d", recursive=True), store.watch("/", recursive=True)

    store.set("/d/f", value="x")

    assert keys(plain) == []
    assert keys(recursive) == keys(root) == ["/d/f"]


def test_deleting_a_folder_wakes_who_watches_inside() -> None:
    """etcd TestStoreWatchRecursiveDirectory..., the third case in watcher.notify."""
    store = Store(())
    store.set("/d/e/f", value="x")
    inside, absent = store.watch("/d/e/f"), store.watch("/d/e/none")

    store.delete("/d", recursive=True)

    assert keys(inside) == ["/d"]
    assert keys(absent) == []


def test_expiry_of_a_folder_wakes_who_watches_inside() -> None:
    store = Store(())
    store.create("/d", is_dir=True, expires_ns=NOW)
    store.set("/d/f", value="x")
    inside = store.watch("/d/f")

    store.delete_expired_keys(NOW)

    (event,) = inside.take()
    assert (event.action, event.node.key) == ("expire", "/d")


def test_hidden_names_wake_only_who_looks_inside() -> None:
    """etcd TestStoreWatchCreateWithHiddenKey and the ...WithHiddenKey tests beside it."""
    store = Store(())
    outside, own, inside = (
        store.watch("/", recursive=True),
        store.watch("/_d/f"),
        store.watch("/_d", recursive=True),
    )

    store.set("/_d/f", value="x")

    assert keys(outside) == []
    assert keys(own) == keys(inside) == ["/_d/f"]


def test_refresh_wakes_nobody_and_is_not_found_later() -> None:
    """etcd TestStoreWatchExpireRefresh."""
    store = Store()
    store.create("/f", value="x", expires_ns=NOW)
    watcher = store.watch("/f")

    store.update("/f", expires_ns=NOW + NS, refresh=True)

    assert keys(watcher) == []
    assert keys(store.watch("/f", since_index=2)) == []
    store.delete_expired_keys(NOW + NS)
    assert [event.action for event in watcher.take()] == ["expire"]


def test_a_watcher_may_begin_in_the_past() -> None:
    store = Store()
    for number in range(5):
        store.set("/f", value=str(number))

    watcher = store.watch("/f", since_index=3)

    (event,) = watcher.take()
    assert (event.node.value, event.etcd_index) == ("2", 5)
    assert store.hub.count == 0


def test_a_watcher_may_begin_in_the_future() -> None:
    """etcd TestStoreWatchStream..., waitIndex beyond the present."""
    store = Store()
    watcher = store.watch("/f", since_index=3)

    store.set("/f", value="1")
    store.set("/f", value="2")
    assert keys(watcher) == []
    store.set("/f", value="3")

    assert [event.node.value for event in watcher.take()] == ["3"]


def test_the_history_holds_the_last_thousand() -> None:
    """etcd TestEventHistory's ring."""
    store = Store()
    for number in range(1, 1501):
        store.set("/f", value=str(number))

    assert [event.node.value for event in store.watch("/f", since_index=501).take()] == ["501"]
    with pytest.raises(V2Error) as caught:
        store.watch("/f", since_index=500)
    assert (caught.value.code, caught.value.cause, caught.value.index) == (
        errors.EVENT_INDEX_CLEARED,
        "the requested history has been cleared [501/500]",
        1500,
    )


def test_the_past_knows_deleted_folders_too() -> None:
    """etcd TestScanHistory and its test of deleted directories."""
    store = Store(())
    store.set("/d/f", value="x")
    store.delete("/d", recursive=True)

    assert keys(store.watch("/d/f", since_index=2)) == ["/d"]
    assert keys(store.watch("/d", recursive=True, since_index=1)) == ["/d/f"]
    assert keys(store.watch("/", recursive=True, since_index=2)) == ["/d"]
    assert keys(store.watch("/x", since_index=1)) == []


def test_a_slow_stream_is_cut_off_with_a_hundred_events() -> None:
    """etcd TestWatcher's full channel."""
    store = Store()
    woken: list[bool] = []
    watcher = store.watch("/f", stream=True, wake=lambda: woken.append(watcher.is_removed))

    for number in range(150):
        store.set("/f", value=str(number))

    assert len(watcher.take()) == 100
    assert watcher.is_removed and store.hub.count == 0
    assert woken == [False] * 100 + [True]


def test_a_watcher_may_leave_while_it_is_woken() -> None:
    store = Store()
    first = store.watch("/f", stream=True, wake=lambda: second.close())
    second = store.watch("/f", stream=True)

    store.set("/f", value="x")
    store.set("/f", value="y")

    assert len(first.take()) == 2
    assert store.hub.count == 1
