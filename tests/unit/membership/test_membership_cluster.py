"""The cluster: conf changes judged and applied, written through and recovered."""

from __future__ import annotations

import pytest

from balsad.errors import (
    MemberExistError,
    MemberNotFoundError,
    MemberNotLearnerError,
    PeerURLExistError,
    RequestError,
    TooManyLearnersError,
)
from balsad.membership import (
    Attributes,
    Cluster,
    Downgrade,
    IncompatibleVersionError,
    Member,
    MemberAdded,
    MemberFormatError,
    MemberPromoted,
    MemberRemoved,
    MemberRemovedError,
    MemberUpdated,
    Version,
    encode_member,
    encode_promotion,
    peer_text,
)
from balsad.raft.messages import ConfChange, ConfChangeType
from tests.unit.membership.fakes import FakeBuckets, FakeTree

SERVER = Version(3, 5, 1)
ADD, REMOVE = ConfChangeType.ADD_NODE, ConfChangeType.REMOVE_NODE
UPDATE, LEARN = ConfChangeType.UPDATE_NODE, ConfChangeType.ADD_LEARNER_NODE


def member(member_id: int, *, learner: bool = False, name: str = "") -> Member:
    return Member(id=member_id, peer_urls=(f"http://m:{member_id}",), is_learner=learner, name=name)


def adding(one: Member) -> ConfChange:
    return ConfChange(LEARN if one.is_learner else ADD, one.id, encode_member(one))


def make_cluster() -> tuple[Cluster, FakeTree, FakeBuckets]:
    """Voters 1 and 2, learner 3; 9 was removed."""
    cluster = Cluster(server_version=SERVER, local_id=1)
    tree, buckets = FakeTree(), FakeBuckets()
    cluster.use_tree(tree)
    cluster.use_buckets(buckets)
    for one in (member(2), member(1), member(3, learner=True), member(9)):
        cluster.add(one, apply_v3=True)
    cluster.remove(9, apply_v3=True)
    return cluster, tree, buckets


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (adding(member(4)), None),
        (adding(member(9)), MemberRemovedError),
        (ConfChange(REMOVE, 9), MemberRemovedError),
        (adding(member(1)), MemberExistError),
        (adding(Member(id=4, peer_urls=("http://x:1", "http://m:2"))), PeerURLExistError),
        (adding(member(4, learner=True)), TooManyLearnersError),
        (ConfChange(ADD, 4, encode_promotion(4)), MemberNotFoundError),
        (ConfChange(ADD, 2, encode_promotion(2)), MemberNotLearnerError),
        (ConfChange(ADD, 3, encode_promotion(3)), None),
        (ConfChange(REMOVE, 4), MemberNotFoundError),
        (ConfChange(REMOVE, 3), None),
        (ConfChange(UPDATE, 4, encode_member(member(4))), MemberNotFoundError),
        (ConfChange(UPDATE, 2, encode_member(Member(id=2, peer_urls=("http://m:1",)))), PeerURLExistError),
        (ConfChange(UPDATE, 2, encode_member(member(2))), None),
    ],
)
def test_verdicts_on_conf_changes(change: ConfChange, refusal: type[RequestError] | None) -> None:
    """etcd TestClusterValidateConfigurationChange."""
    cluster, _, _ = make_cluster()
    if refusal is None:
        cluster.validate(change)
    else:
        with pytest.raises(RequestError) as caught:
            cluster.validate(change)
        assert type(caught.value) is refusal


def test_peers_hear_other_words_than_clients() -> None:
    assert peer_text(MemberRemovedError()) == "membership: ID removed"
    assert peer_text(MemberNotFoundError()) == "membership: ID not found"
    assert MemberRemovedError().text == "etcdserver: member not found"


def test_conf_changes_are_carried_out() -> None:
    cluster, _, _ = make_cluster()

    changes = [
        cluster.apply(adding(member(4)), apply_v3=True),
        cluster.apply(ConfChange(ADD, 3, encode_promotion(3)), apply_v3=True),
        cluster.apply(ConfChange(UPDATE, 2, encode_member(Member(id=2, peer_urls=("http://n:2",)))), apply_v3=True),
        cluster.apply(ConfChange(REMOVE, 1), apply_v3=True),
    ]

    assert changes == [
        MemberAdded(member(4)),
        MemberPromoted(member(3)),
        MemberUpdated(Member(id=2, peer_urls=("http://n:2",))),
        MemberRemoved(1, member(1)),
    ]
    assert cluster.voter_ids() == [2, 3, 4]
    assert cluster.removed_ids() == [1, 9]


def test_update_keeps_a_learner_a_learner() -> None:
    """etcd 3.5.1 made a voter of it, as the request's context does not say what it is."""
    cluster, tree, _ = make_cluster()

    cluster.apply(ConfChange(UPDATE, 3, encode_member(Member(id=3, peer_urls=("http://n:3",)))), apply_v3=True)

    assert cluster.member(3) == Member(id=3, peer_urls=("http://n:3",), is_learner=True)
    assert tree.files["/0/members/3/raftAttributes"] == '{"peerURLs":["http://n:3"],"isLearner":true}'


def test_everything_is_written_through() -> None:
    cluster, tree, buckets = make_cluster()
    cluster.update_attributes(2, Attributes(name="b", client_urls=("http://c:2",)), apply_v3=True)
    cluster.set_version(Version(3, 5), apply_v3=True)
    cluster.set_downgrade(Downgrade(target="3.5.0", enabled=True), apply_v3=True)

    assert tree.files == {
        "/0/members/1/raftAttributes": '{"peerURLs":["http://m:1"]}',
        "/0/members/2/raftAttributes": '{"peerURLs":["http://m:2"]}',
        "/0/members/2/attributes": '{"name":"b","clientURLs":["http://c:2"]}',
        "/0/members/3/raftAttributes": '{"peerURLs":["http://m:3"],"isLearner":true}',
        "/0/removed_members/9": "",
        "/0/version": "3.5.0",
    }
    assert buckets.data == {
        b"members": {
            b"1": b'{"id":1,"peerURLs":["http://m:1"]}',
            b"2": b'{"id":2,"peerURLs":["http://m:2"],"name":"b","clientURLs":["http://c:2"]}',
            b"3": b'{"id":3,"peerURLs":["http://m:3"],"isLearner":true}',
        },
        b"members_removed": {b"9": b"removed"},
        b"cluster": {b"clusterVersion": b"3.5.0", b"downgrade": b'{"target-version":"3.5.0","enabled":true}'},
    }


def test_replayed_entries_leave_the_buckets_alone() -> None:
    cluster, tree, buckets = make_cluster()
    before = {name: dict(bucket) for name, bucket in buckets.data.items()}

    cluster.apply(adding(member(4)), apply_v3=False)
    cluster.apply(ConfChange(REMOVE, 2), apply_v3=False)
    cluster.update_attributes(1, Attributes(name="a"), apply_v3=False)
    cluster.set_version(Version(3, 5), apply_v3=False)

    assert buckets.data == before
    assert "/0/removed_members/2" in tree.files
    assert tree.files["/0/version"] == "3.5.0"


@pytest.mark.parametrize("from_tree", [True, False])
def test_recovery_gives_the_same_cluster(from_tree: bool) -> None:
    cluster, tree, buckets = make_cluster()
    cluster.update_attributes(2, Attributes(name="b", client_urls=("http://c:2",)), apply_v3=True)
    cluster.set_version(Version(3, 5), apply_v3=True)

    found = Cluster(server_version=SERVER)
    if from_tree:
        found.use_tree(tree)
    else:
        found.use_buckets(buckets)
    found.recover()

    assert found.members() == cluster.members()
    assert found.removed_ids() == [9]
    assert found.version == Version(3, 5)


def test_recovery_refuses_a_cluster_ahead_of_the_server() -> None:
    tree = FakeTree({"/0/version": "3.6.0"})
    cluster = Cluster(server_version=SERVER)
    cluster.use_tree(tree)

    with pytest.raises(IncompatibleVersionError):
        cluster.recover()


@pytest.mark.parametrize(
    "files",
    [
        {"/0/members/1/attributes": "{}"},
        {"/0/members/xyz/raftAttributes": '{"peerURLs":[]}'},
        {"/0/members/1/raftAttributes": "nonsense"},
        {"/0/members/1/other": ""},
        {"/0/version": "three"},
    ],
)
def test_a_broken_tree_says_where(files: dict[str, str]) -> None:
    cluster = Cluster(server_version=SERVER)
    cluster.use_tree(FakeTree(files))

    with pytest.raises(MemberFormatError, match=r"^v2 tree, /0/"):
        cluster.recover()


def test_attributes_of_a_removed_member_are_skipped() -> None:
    cluster, tree, _ = make_cluster()

    assert cluster.update_attributes(9, Attributes(name="late"), apply_v3=True) is None
    assert "/0/members/9/attributes" not in tree.files


def test_own_attributes_clear_zombies_out_of_the_buckets() -> None:
    """etcd 3.5.20: what an earlier life left in the buckets alone goes when the member publishes itself."""
    cluster, _, buckets = make_cluster()
    buckets.put(b"members", b"77", encode_member(member(0x77)))

    cluster.update_attributes(1, Attributes(name="a"), apply_v3=True)

    assert b"77" not in buckets.data[b"members"]
    assert buckets.data[b"members_removed"][b"77"] == b"removed"


def test_buckets_learn_of_a_promotion_that_only_the_tree_has() -> None:
    cluster, _, buckets = make_cluster()
    cluster.apply(ConfChange(ADD, 3, encode_promotion(3)), apply_v3=False)

    assert cluster.promote_in_buckets_as_in_tree() == [member(3)]
    assert buckets.data[b"members"][b"3"] == encode_member(member(3))


def test_initial_cluster_has_etcds_ids() -> None:
    cluster = Cluster.from_initial({"default": ["http://localhost:2380"]}, "etcd-cluster", server_version=SERVER)

    assert cluster.member_ids() == [0x8E9E05C52164694D]
    assert cluster.cluster_id == 0xCDF818194E3A8C32
    assert cluster.member_by_name("default") == cluster.members()[0]


def test_two_members_with_the_same_urls_are_refused() -> None:
    with pytest.raises(ValueError, match="identical ID"):
        Cluster.from_initial({"a": ["http://x:1"], "b": ["http://x:1"]}, "t", server_version=SERVER)


def test_joining_member_takes_its_id_from_the_cluster() -> None:
    """etcd TestValidateClusterAndAssignIDs."""
    local = Cluster.from_initial({"a": ["http://a:1"], "b": ["http://b:1", "http://b:2"]}, "t", server_version=SERVER)
    existing = Cluster.from_members(
        5,
        [Member(id=1, peer_urls=("http://b:2", "http://b:1")), Member(id=2, peer_urls=("http://a:1",))],
        server_version=SERVER,
    )

    local.take_ids_of(existing)

    assert [(one.id, one.name) for one in local.members()] == [(1, "b"), (2, "a")]


@pytest.mark.parametrize(
    ("urls", "words"),
    [(["http://a:1"], "member count is unequal"), (["http://a:1", "http://c:1"], "no match found for existing member")],
)
def test_joining_another_cluster_is_refused(urls: list[str], words: str) -> None:
    local = Cluster.from_initial({"a": ["http://a:1"], "b": ["http://b:1"]}, "t", server_version=SERVER)
    existing = Cluster.from_members(
        5, [Member(id=i, peer_urls=(url,)) for i, url in enumerate(urls, start=1)], server_version=SERVER
    )

    with pytest.raises(ValueError, match=words):
        local.take_ids_of(existing)


def test_push_replaces_what_was_kept() -> None:
    _, tree, buckets = make_cluster()
    restored = Cluster.from_members(7, [member(5)], server_version=SERVER)
    restored.use_tree(tree)
    restored.use_buckets(buckets)

    restored.push()

    assert tree.files == {"/0/members/5/raftAttributes": '{"peerURLs":["http://m:5"]}'}
    assert buckets.data[b"members"] == {b"5": encode_member(member(5))}
    assert buckets.data[b"members_removed"] == {}


def test_learners_are_counted_in_tree_and_buckets_apart() -> None:
    """A tree as old as the last snapshot: its learner was promoted since, and the next one learns."""
    cluster, tree, buckets = make_cluster()
    files = dict(tree.files)
    cluster.apply(ConfChange(ADD, 3, encode_promotion(3)), apply_v3=True)
    cluster.apply(adding(member(4, learner=True)), apply_v3=True)
    tree.files = files

    def restarted(learners_max: int) -> Cluster:
        again = Cluster(server_version=SERVER, local_id=1, learners_max=learners_max)
        again.use_tree(tree)
        again.use_buckets(buckets)
        again.recover()
        return again

    assert [one.id for one in restarted(1).members() if one.is_learner] == [3]
    restarted(1).check_learners()
    with pytest.raises(TooManyLearnersError):
        restarted(0).check_learners()
    cluster.learners_max = 2
    cluster.apply(adding(member(5, learner=True)), apply_v3=True)
    with pytest.raises(TooManyLearnersError):
        restarted(1).check_learners()
