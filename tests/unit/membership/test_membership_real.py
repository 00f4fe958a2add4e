"""Membership against the real etcd: ids, conf change contexts, buckets."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from balsad import v2store
from balsad.env.real import real_env
from balsad.errors import MemberNotFoundError
from balsad.membership import (
    Attributes,
    Cluster,
    Member,
    Version,
    cluster_id,
    decode_attributes,
    decode_context,
    encode_member,
    encode_members,
    encode_promotion,
    format_id,
    member_id,
    peer_text,
)
from balsad.raft import codec
from balsad.storage import Backend, DataDir, WalSnapshot
from balsad.storage.wal import decode_metadata, read_log
from tests.interop.servers import fetch, real, real_34, start
from tests.unit.membership.fakes import FakeBuckets

pytestmark = [pytest.mark.real]

LEARNER_URL = "http://127.0.0.1:1"
SECOND_URL = "http://127.0.0.1:3"
MOVED_URL = "http://127.0.0.1:2"


@pytest.mark.parametrize("version", ["3.5", "3.4"])
def test_the_life_of_a_learner(version: str, tmp_path: Path) -> None:
    """A learner comes, moves, goes; a second one stays. Its log, replayed here, gives the very buckets."""
    data_dir = tmp_path / "data"
    before_s = int(time.time())
    with start(real() if version == "3.5" else real_34(), data_dir) as server:
        printed = json.loads(server.etcdctl("member", "list", "-w", "json"))
        json.loads(server.etcdctl("member", "add", "l1", "--learner", f"--peer-urls={LEARNER_URL}", "-w", "json"))
        learner = member_named(server.etcdctl("member", "list", "-w", "json"), LEARNER_URL)
        server.etcdctl("member", "update", format_id(learner), f"--peer-urls={MOVED_URL}")
        server.etcdctl("member", "remove", format_id(learner))
        server.etcdctl("member", "add", "l2", "--learner", f"--peer-urls={SECOND_URL}")
        second = member_named(server.etcdctl("member", "list", "-w", "json"), SECOND_URL)
        after_s = int(time.time())
        peers_see = server.peer_url

    # Ids.
    founder = member_id([peers_see], "etcd-cluster")
    assert printed["members"][0]["ID"] == founder
    assert printed["header"]["cluster_id"] == cluster_id([founder])
    seconds = range(before_s, after_s + 1)
    assert learner in [member_id([LEARNER_URL], "", now_s=now_s) for now_s in seconds]
    assert second in [member_id([SECOND_URL], "", now_s=now_s) for now_s in seconds]

    # The log.
    log = read_log(real_env().disk, DataDir(str(data_dir)).wal, WalSnapshot())
    assert decode_metadata(log.metadata) == (founder, cluster_id([founder]))
    cluster = Cluster(server_version=Version(3, 5, 1), local_id=founder)
    tree, buckets = v2store.Store(), FakeBuckets()
    cluster.use_tree(tree)
    cluster.use_buckets(buckets)
    contexts: list[bytes] = []
    for entry in log.entries:
        if entry.type == 1:
            change = codec.decode_conf_change(entry.data)
            contexts.append(change.context)
            cluster.validate(change)
            cluster.apply(change, apply_v3=True)
        elif v2store.is_request(entry.data):
            outcome = v2store.apply_request(tree, v2store.decode_request(entry.data), 0)
            if isinstance(outcome, v2store.MemberAttributesPut):
                cluster.update_attributes(outcome.member_id, decode_attributes(outcome.value), apply_v3=True)
            elif isinstance(outcome, v2store.ClusterVersionPut):
                cluster.set_version(Version.parse(outcome.version), apply_v3=True)
    for context in contexts:
        assert not context or encode_member(decode_context(context).member) == context
    assert contexts[0] == encode_member(Member(id=founder, peer_urls=(peers_see,), name="default"))
    assert cluster.member_ids() == sorted([founder, second])
    assert cluster.removed_ids() == [learner]

    # The buckets.
    shutil.copyfile(DataDir(str(data_dir)).db, tmp_path / "db")
    backend = Backend.open(real_env().disk, str(tmp_path / "db"))
    found = {name: dict(backend.scan(name, b"", None)) for name in (b"members", b"members_removed", b"cluster")}
    backend.close()
    if version == "3.5":
        # 3.5.1 never writes over a member's value, and so leaves out what it published.
        founders_key = format_id(founder).encode()
        assert found[b"members"].pop(founders_key) == contexts[0]
        assert Attributes(name="default", client_urls=(server.client_url,)) == decode_attributes(
            buckets.data[b"members"].pop(founders_key)
        )
    assert found == buckets.data


def member_named(listing: str, peer_url: str) -> int:
    """The id of the member with that peer URL in `member list -w json`."""
    (found,) = [one["ID"] for one in json.loads(listing)["members"] if one["peerURLs"] == [peer_url]]
    return int(found)


def test_peers_are_told_the_same_json(tmp_path: Path) -> None:
    """The body of /members on the peer port."""
    with start(real(), tmp_path / "data") as server:
        server.etcdctl("member", "add", "l1", "--learner", f"--peer-urls={LEARNER_URL}")
        learner = member_named(server.etcdctl("member", "list", "-w", "json"), LEARNER_URL)
        _, body, headers = fetch(server.peer_url + "/members")

    founder = member_id([server.peer_url], "etcd-cluster")
    members = [
        Member(id=founder, peer_urls=(server.peer_url,), name="default", client_urls=(server.client_url,)),
        Member(id=learner, peer_urls=(LEARNER_URL,), is_learner=True),
    ]
    assert headers["X-Etcd-Cluster-Id"] == format_id(cluster_id([founder]))
    assert body == encode_members(sorted(members, key=lambda member: member.id)) + b"\n"


def test_a_promotion_of_nobody_is_refused_in_the_words_for_peers(tmp_path: Path) -> None:
    """The text that peers compare; the conf change goes through the log and is judged at apply."""
    with start(real(), tmp_path / "data") as server:
        status, body, _ = fetch(server.peer_url + "/members/promote/7", "POST", b"")
    log = read_log(real_env().disk, DataDir(str(tmp_path / "data")).wal, WalSnapshot())
    promotions = [codec.decode_conf_change(entry.data) for entry in log.entries if b"isPromote" in entry.data]

    assert [change.context for change in promotions] == [encode_promotion(7)]
    assert (status, body.decode()) == (404, peer_text(MemberNotFoundError()) + "\n")
