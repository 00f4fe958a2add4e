"""Laws of the v2 tree under random histories."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from balsad.v2store import (
    Event,
    Outcome,
    Request,
    Store,
    V2Error,
    apply_request,
    decode_request,
    encode_event,
    encode_request,
    recover,
    save,
)
from balsad.v2store.go_time import NS, format_ns, parse_ns

NOW = 1_700_000_000 * NS

names = st.sampled_from(["a", "b", "_h", "c<d"])
key_paths = st.lists(names, min_size=1, max_size=3).map(lambda parts: "/1/" + "/".join(parts))
flags = st.booleans()

requests = st.builds(
    Request,
    id=st.integers(0, 2**64 - 1),
    method=st.sampled_from(["PUT", "PUT", "PUT", "POST", "DELETE", "QGET", "SYNC"]),
    path=key_paths,
    val=st.sampled_from(["", "1", "2", "\u2028"]),
    dir=flags,
    prev_value=st.sampled_from(["", "", "1", "2"]),
    prev_index=st.sampled_from([0, 0, 0, 1, 2, 3, 4, 5]),
    prev_exist=st.sampled_from([None, None, True, False]),
    expiration=st.sampled_from([0, 0, NOW + NS, NOW + 2 * NS]),
    recursive=flags,
    sorted=flags,
    time=st.sampled_from([NOW, NOW + NS, NOW + 3 * NS]),
    refresh=st.sampled_from([None, None, None, True]),
)
histories = st.lists(requests, max_size=40)


def lived(history: list[Request]) -> tuple[Store, list[Outcome]]:
    store = Store()
    return store, [apply_request(store, request, NOW) for request in history]


@given(histories)
def test_a_tree_survives_its_snapshot(history: list[Request]) -> None:
    store, _ = lived(history)
    other = Store()

    recover(other, save(store))

    assert save(other) == save(store)


@given(histories, histories)
def test_a_recovered_tree_goes_on_like_the_other(before: list[Request], after: list[Request]) -> None:
    store, _ = lived(before)
    other = Store()
    recover(other, save(store))

    for each in after:
        # Who does not ask for an order gets the children in any, like etcd's.
        request = replace(each, sorted=True)
        assert repr(apply_request(other, request, NOW)) == repr(apply_request(store, request, NOW))
    assert json.loads(save(other)) == json.loads(save(store))


@given(histories)
def test_indexes_count_the_events(history: list[Request]) -> None:
    """Every index has one event, and refusals take none."""
    store = Store()
    watcher = store.watch("/", recursive=True, stream=True)
    for request in history:
        before = store.current_index
        outcome = apply_request(store, request, NOW)
        if isinstance(outcome, V2Error):
            assert store.current_index == before
        elif isinstance(outcome, Event) and outcome.action != "get":
            assert store.current_index == before + 1 == outcome.etcd_index
        watcher.events.clear()
    history_indexes = [event.index for event in store.hub.history.events if event is not None]
    assert history_indexes == list(range(1, store.current_index + 1))


@given(histories)
def test_a_stream_from_the_root_tells_all_that_is_not_hidden(history: list[Request]) -> None:
    store = Store()
    watcher = store.watch("/1", recursive=True, stream=True)
    told: list[Event] = []
    for request in history:
        apply_request(store, request, NOW)
        told += watcher.take()

    expected = [
        event
        for event in store.hub.history.events
        if event is not None and not event.is_refresh and "/_" not in event.node.key
    ]
    assert [encode_event(event) for event in told] == [encode_event(event) for event in expected]


@given(histories)
def test_a_watch_from_the_past_finds_what_a_watch_then_would_have_got(history: list[Request]) -> None:
    """For a file's own path both ways give the same first event."""
    store = Store()
    live = store.watch("/1/a/b")
    for request in history:
        apply_request(store, request, NOW)

    late = store.watch("/1/a/b", since_index=1)

    # The history also tells of a deleted folder when nothing was at the path.
    got_live, got_late = live.take(), late.take()
    if got_live:
        assert got_late and got_late[0].index <= got_live[0].index


def node_paths(value: dict[str, Any], *, permanent_only: bool) -> set[str]:
    """The paths in a saved tree; `permanent_only` leaves out what will expire and all below it."""
    paths: set[str] = set()
    todo = [value["Root"]]
    while todo:
        node = todo.pop()
        if not permanent_only or node["ExpireTime"].startswith("0001"):
            paths.add(node["Path"])
            todo.extend((node["Children"] or {}).values())
    return paths


@given(histories)
def test_expiry_takes_what_has_an_end_and_nothing_else(history: list[Request]) -> None:
    store, _ = lived(history)
    stays = node_paths(json.loads(save(store)), permanent_only=True)

    store.delete_expired_keys(NOW + 5 * NS)

    assert node_paths(json.loads(save(store)), permanent_only=False) == stays
    assert not store.has_ttl_keys()


@given(histories)
def test_listing_shows_each_node_that_get_finds(history: list[Request]) -> None:
    store, _ = lived(history)
    todo = [store.get("/1", recursive=True).node]
    while todo:
        view = todo.pop()
        alone = store.get(view.key).node
        assert (alone.value, alone.is_dir, alone.modified_index) == (view.value, view.is_dir, view.modified_index)
        todo.extend(view.nodes or ())


@given(requests)
def test_requests_are_read_back(request: Request) -> None:
    assert decode_request(encode_request(request)) == request


@settings(max_examples=300)
@given(st.integers(-(2**63), 2**63 - 1))
def test_times_are_read_back(unix_ns: int) -> None:
    assert parse_ns(format_ns(unix_ns)) == unix_ns
