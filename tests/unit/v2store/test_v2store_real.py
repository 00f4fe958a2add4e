"""The v2 tree against the real etcd: its snapshots, its log, its answers."""

from __future__ import annotations

import json
import re
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from balsad import v2store
from balsad.env.real import real_env
from balsad.membership import (
    Attributes,
    Cluster,
    Version,
    decode_attributes,
    encode_attributes,
    encode_member,
)
from balsad.raft import codec
from balsad.raft.messages import Entry, Snapshot
from balsad.storage import DataDir, Snapshotter, WalSnapshot
from balsad.storage.wal import read_log
from tests.interop.servers import Member, Program, etcdutl, real, real_34, start

pytestmark = [pytest.mark.real]

NORMAL, CONF_CHANGE = 0, 1
FLAGS = ("--enable-v2=true", "--snapshot-count=10")


def ask(member: Member, method: str, path: str, **form: str) -> tuple[int, Any, dict[str, str]]:
    """One v2 request; the key's path is quoted already."""
    query = urllib.parse.urlencode(form, errors="surrogateescape")
    if method in ("PUT", "POST"):
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return member.http(method, "/v2/keys" + path, query.encode(), headers)
    return member.http(method, f"/v2/keys{path}?{query}")


STEPS: list[tuple[str, str, dict[str, str]]] = [
    ("PUT", "/a", {"value": "1"}),
    ("PUT", "/a", {"value": '<2> & \u2028 \x7f ä \x01\n"'}),
    ("PUT", "/a", {"value": "3", "prevValue": "nope"}),
    ("PUT", "/a", {"value": "3", "prevIndex": "7000"}),
    ("PUT", "/a", {"value": "3", "prevValue": "nope", "prevIndex": "7000"}),
    ("PUT", "/a", {"value": "3", "prevExist": "true"}),
    ("PUT", "/a", {"value": "3", "prevExist": "false"}),
    ("PUT", "/missing", {"value": "3", "prevExist": "true"}),
    ("PUT", "/dir/sub/file", {"value": "x"}),
    ("PUT", "/dir/sub/file/below/it", {"value": "x"}),
    ("PUT", "/dir/sub", {"value": "on a folder"}),
    ("PUT", "/new/way/", {"value": "slash"}),
    ("PUT", "/ttl", {"value": "t", "ttl": "1000"}),
    ("PUT", "/ttl", {"ttl": "2000", "refresh": "true", "prevExist": "true"}),
    ("PUT", "/ttldir", {"dir": "true", "ttl": "1000"}),
    ("PUT", "/ttldir/child", {"value": "c", "ttl": "900"}),
    ("PUT", "/gone", {"value": "g", "ttl": "0"}),
    ("POST", "/queue", {"value": "first"}),
    ("POST", "/queue", {"value": "second", "ttl": "3000"}),
    ("POST", "/a", {"value": "below a file"}),
    ("GET", "/queue", {"quorum": "true", "sorted": "true", "recursive": "true"}),
    ("GET", "/none", {"quorum": "true"}),
    ("PUT", "/_hidden/x", {"value": "h"}),
    ("DELETE", "/dir", {}),
    ("DELETE", "/dir", {"dir": "true"}),
    ("DELETE", "/dir", {"recursive": "true"}),
    ("DELETE", "/a", {"prevValue": "nope"}),
    ("DELETE", "/queue", {"prevIndex": "3"}),
    ("DELETE", "/a", {"prevValue": "3"}),
    ("DELETE", "/", {"recursive": "true"}),
    ("PUT", "/", {"value": "root"}),
    ("PUT", "/bytes-%FF-%E2%82", {"value": "\udcff\udce2\udc82"}),
    ("PUT", "/%C3%A4/%7E", {"value": ""}),
    ("PUT", "/empty", {"dir": "true"}),
    ("PUT", "/empty", {"dir": "true"}),
    ("PUT", "/b", {"value": "1", "ttl": "500"}),
    ("PUT", "/b", {"value": "2", "prevValue": "1"}),
    ("PUT", "/last", {"value": "1"}),
    ("PUT", "/last", {"value": "2"}),
    ("PUT", "/last", {"value": "3"}),
]


class Replica:
    """What apply does with the tree and the membership, and nothing else."""

    def __init__(self) -> None:
        self.tree = v2store.Store()
        self.cluster = Cluster(server_version=Version(3, 5, 1))
        self.cluster.use_tree(self.tree)

    def apply(self, entry: Entry, now_ns: int) -> v2store.Outcome:
        if entry.type == CONF_CHANGE:
            change = codec.decode_conf_change(entry.data)
            self.cluster.validate(change)
            self.cluster.apply(change, apply_v3=False)
            return None
        if not entry.data or not v2store.is_request(entry.data):
            return None
        request = v2store.decode_request(entry.data)
        assert v2store.encode_request(request) == entry.data
        outcome = v2store.apply_request(self.tree, request, now_ns)
        if isinstance(outcome, v2store.MemberAttributesPut):
            self.cluster.update_attributes(outcome.member_id, decode_attributes(outcome.value), apply_v3=False)
        elif isinstance(outcome, v2store.ClusterVersionPut):
            self.cluster.set_version(Version.parse(outcome.version), apply_v3=False)
        return outcome


@pytest.fixture(scope="module", params=["3.5", "3.4"])
def lived(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data dir of a real etcd that carried out all steps."""
    program: Program = real() if request.param == "3.5" else real_34()
    data_dir = tmp_path_factory.mktemp("v2") / "data"
    with start(program, data_dir, *FLAGS) as member:
        for method, path, form in STEPS:
            ask(member, method, path, **form)
    yield data_dir


def newest_snapshot(data_dir: Path) -> Snapshot:
    snapshot = Snapshotter(real_env().disk, DataDir(str(data_dir)).snap).load_newest()
    assert snapshot is not None
    return snapshot


def entries(data_dir: Path) -> list[Entry]:
    return read_log(real_env().disk, DataDir(str(data_dir)).wal, WalSnapshot()).entries


def test_real_snapshot_survives_recovery_byte_for_byte(lived: Path) -> None:
    data = newest_snapshot(lived).data
    store = v2store.Store()

    v2store.recover(store, data)

    # What was written for bytes that are no UTF-8 has become a character, in etcd too.
    assert v2store.save(store) == data.replace(b"\\ufffd", "\ufffd".encode())


def without_ttl(data: bytes) -> dict[str, Any]:
    """The saved tree; seconds left depend on when an entry was applied."""
    value: dict[str, Any] = json.loads(re.sub(rb',"ttl":\d+', b"", data))
    return value


def test_real_log_replayed_gives_the_real_snapshot(lived: Path) -> None:
    snapshot = newest_snapshot(lived)
    replica = Replica()

    for entry in entries(lived):
        if entry.index <= snapshot.index:
            replica.apply(entry, now_ns=0)

    found, expected = without_ttl(v2store.save(replica.tree)), without_ttl(snapshot.data)
    # Each v2 request looks whether v2 auth is enabled, which is not in the log.
    assert found["Stats"].pop("getsFail") <= expected["Stats"].pop("getsFail")
    assert found["Root"] == expected["Root"]
    assert found["Stats"] == expected["Stats"]
    assert found == expected


def test_ids_and_json_of_the_bootstrap_entry_are_the_real_ones(lived: Path) -> None:
    """The conf change that a first start writes, and the attributes it publishes."""
    replica = Replica()
    for entry in entries(lived):
        replica.apply(entry, now_ns=0)
    (member,) = replica.cluster.members()
    changes = [codec.decode_conf_change(entry.data) for entry in entries(lived) if entry.type == CONF_CHANGE]

    founder = Cluster.from_initial({"default": member.peer_urls}, "etcd-cluster", server_version=Version(3, 5, 1))

    assert founder.member_ids() == [member.id]
    assert [change.node_id for change in changes] == [member.id]
    assert changes[0].context == encode_member(founder.members()[0])
    published = [
        v2store.decode_request(entry.data).val
        for entry in entries(lived)
        if entry.type == NORMAL and b"/attributes" in entry.data
    ]
    assert published == [encode_attributes(Attributes(name="default", client_urls=member.client_urls))]


def test_answers_are_the_real_ones(tmp_path: Path) -> None:
    """Every answer of the real server, beside our event or error for the same entry."""
    answers: list[tuple[int, Any, dict[str, str]]] = []
    with start(real(), tmp_path / "data", "--enable-v2=true") as member:
        for method, path, form in STEPS:
            answers.append(ask(member, method, path, **form))

    replica = Replica()
    outcomes: list[v2store.Event | v2store.V2Error] = []
    for entry in entries(tmp_path / "data"):
        outcome = replica.apply(entry, now_ns=0)
        if isinstance(outcome, v2store.Event | v2store.V2Error):
            outcomes.append(outcome)

    # Before the steps came /health, which reads through the log.
    outcomes = outcomes[-len(STEPS) :]
    for step, outcome, (status, body, headers) in zip(STEPS, outcomes, answers, strict=True):
        if isinstance(outcome, v2store.V2Error):
            assert status == outcome.status, step
            # The edge cuts the namespace off the cause.
            assert body == json.loads(outcome.encode(cause=outcome.cause.removeprefix("/1"))), step
            assert headers["X-Etcd-Index"] == str(outcome.index), step
        else:
            assert status == (201 if outcome.is_created else 200), step
            seen = json.loads(v2store.encode_event(outcome.without_prefix("/1")))
            assert without_ttl(json.dumps(body, separators=(",", ":")).encode()) == without_ttl(
                json.dumps(seen, separators=(",", ":")).encode()
            ), step
            assert headers["X-Etcd-Index"] == str(outcome.etcd_index), step


def replica_at(index: int, data_dir: Path) -> Replica:
    """The tree at this index, of a member that runs: it answers before all of its log is in the file."""
    give_up = time.monotonic() + 20.0
    while True:
        replica = Replica()
        for entry in entries(data_dir):
            replica.apply(entry, now_ns=0)
        if replica.tree.current_index >= index:
            return replica
        assert time.monotonic() < give_up, (replica.tree.current_index, index)
        time.sleep(0.05)


WATCHED = ["/", "/a", "/dir", "/dir/sub/file", "/queue", "/ttl", "/_hidden", "/_hidden/x", "/new"]


def test_watches_of_the_past_find_what_the_real_ones_find(tmp_path: Path) -> None:
    """waitIndex over the whole history, plain and recursive, wherever it has something to tell."""
    with start(real(), tmp_path / "data", "--enable-v2=true") as member:
        while member.get("/version")["etcdcluster"] == "not_decided":
            time.sleep(0.05)  # its decision is a write of its own, which must not come between
        for method, path, form in STEPS:
            ask(member, method, path, **form)
        _, _, told = ask(member, "GET", "/")
        replica = replica_at(int(told["X-Etcd-Index"]), tmp_path / "data")
        compared = 0
        for path in WATCHED:
            for recursive in (False, True):
                for since_index in range(1, replica.tree.current_index + 1):
                    watcher = replica.tree.watch(
                        ("/1" + path).rstrip("/"), recursive=recursive, since_index=since_index
                    )
                    if not watcher.events:
                        watcher.close()
                        break
                    (event,) = watcher.take()
                    _, body, headers = ask(
                        member, "GET", path, wait="true", recursive=str(recursive).lower(), waitIndex=str(since_index)
                    )
                    seen = json.loads(v2store.encode_event(event.without_prefix("/1")))
                    assert without_ttl(json.dumps(body, separators=(",", ":")).encode()) == without_ttl(
                        json.dumps(seen, separators=(",", ":")).encode()
                    ), (path, recursive, since_index)
                    assert headers["X-Etcd-Index"] == str(event.etcd_index)
                    compared += 1
    assert compared > 50


def test_real_etcd_lives_on_a_snapshot_that_we_wrote(tmp_path: Path) -> None:
    """Our save in the place of its own, with a key more: the real etcd serves it."""
    data_dir = tmp_path / "data"
    env = real_env()
    with start(real(), data_dir, *FLAGS) as member:
        for number in range(30):
            ask(member, "PUT", f"/k{number}", value="old")
        like = member
    snapshotter = Snapshotter(env.disk, DataDir(str(data_dir)).snap)
    snapshot = newest_snapshot(data_dir)
    store = v2store.Store()
    v2store.recover(store, snapshot.data)
    for number in range(1500):
        store.set(f"/1/ours/{number}", value="<from us>")
    snapshotter.save(Snapshot(snapshot.index, snapshot.term, snapshot.conf_state, v2store.save(store)))

    with start(real(), data_dir, *FLAGS, like=like) as member:
        status, body, _ = ask(member, "GET", "/ours/1499")
        assert (status, body["node"]["value"]) == (200, "<from us>")
        assert ask(member, "GET", "/k29")[1]["node"]["value"] == "old"
        status, body, _ = ask(member, "GET", "/ours/7", wait="true", waitIndex="1")
        assert (status, body["errorCode"]) == (400, 401)
    assert "revision" in etcdutl("snapshot", "status", str(data_dir / "member/snap/db"), "-w", "json")
