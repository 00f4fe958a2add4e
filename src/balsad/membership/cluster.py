"""Who is in the cluster, who was and may not come back, and the version all agreed on.

    unknown --add--> learner --promote--> voter
    unknown --add-----------------------> voter
    learner or voter --remove--> removed (for ever)

The cluster changes only by applied entries. `validate` judges a conf change
as etcd's apply does, from nothing but earlier entries, so that all members
come to the same verdict. Every change is written through to the v2 tree and,
unless the backend has seen the entry before (`apply_v3` False), to the buckets.

Source: etcd membership/cluster.go (3.5.1, with the fixes up to 3.5.33), server.go (applyConfChange).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from balsad.errors import (
    MemberExistError,
    MemberNotFoundError,
    MemberNotLearnerError,
    PeerURLExistError,
    RequestError,
    TooManyLearnersError,
)
from balsad.membership import ids
from balsad.membership import member as members_json
from balsad.membership.member import Attributes, Member, new_member
from balsad.membership.member_stores import BucketMembers, Buckets, Downgrade, MemberTree, TreeMembers
from balsad.membership.versions import Version, check_not_downgraded
from balsad.raft.messages import ConfChange, ConfChangeType

LEARNERS_MAX: Final = 1


class MemberRemovedError(MemberNotFoundError):
    """The id belonged to a member that was removed; ids never come back."""


_PEER_TEXTS: Final[list[tuple[type[RequestError], str]]] = [
    (MemberRemovedError, "membership: ID removed"),
    (MemberNotFoundError, "membership: ID not found"),
    (MemberExistError, "membership: ID exists"),
    (PeerURLExistError, "membership: peerURL exists"),
    (MemberNotLearnerError, "membership: can only promote a learner member"),
    (TooManyLearnersError, "membership: too many learner members in cluster"),
]


def peer_text(error: RequestError) -> str:
    """The words in which peers tell each other of a refused change, which are not those for clients."""
    for kind, text in _PEER_TEXTS:
        if isinstance(error, kind):
            return text
    return error.text


@dataclass(frozen=True, slots=True)
class MemberAdded:
    member: Member


@dataclass(frozen=True, slots=True)
class MemberPromoted:
    member: Member


@dataclass(frozen=True, slots=True)
class MemberUpdated:
    """The peer URLs changed; `member` is None when it was gone already."""

    member: Member | None


@dataclass(frozen=True, slots=True)
class MemberRemoved:
    """`member` is what was known of it, None when nothing was."""

    member_id: int
    member: Member | None


MemberChange: TypeAlias = MemberAdded | MemberPromoted | MemberUpdated | MemberRemoved


class Cluster:
    def __init__(
        self,
        *,
        server_version: Version,
        cluster_id: int = 0,
        local_id: int = 0,
        learners_max: int = LEARNERS_MAX,
    ) -> None:
        """`learners_max` must be the same at all members: each judges by its own."""
        self.server_version = server_version
        self.learners_max = learners_max
        self.cluster_id = cluster_id
        self.local_id = local_id
        self.version: Version | None = None
        self.downgrade = Downgrade()
        self._members: dict[int, Member] = {}
        self._removed: set[int] = set()
        self._tree: TreeMembers | None = None
        self._buckets: BucketMembers | None = None

    @staticmethod
    def from_initial(peer_urls_by_name: Mapping[str, Iterable[str]], token: str, *, server_version: Version) -> Cluster:
        """The cluster that these members found. Raises ValueError when two would have one id."""
        cluster = Cluster(server_version=server_version)
        for name, peer_urls in peer_urls_by_name.items():
            member = new_member(name, peer_urls, token)
            if member.id in cluster._members:
                raise ValueError(f"member exists with identical ID {member}")
            if member.id == ids.NO_MEMBER:
                raise ValueError("cannot use 0 as member id")
            cluster._members[member.id] = member
        cluster.cluster_id = ids.cluster_id(cluster._members)
        return cluster

    @staticmethod
    def from_members(cluster_id: int, members: Iterable[Member], *, server_version: Version) -> Cluster:
        """The cluster as another member describes it."""
        cluster = Cluster(server_version=server_version, cluster_id=cluster_id)
        cluster._members = {member.id: member for member in members}
        return cluster

    # Where it is kept.

    def use_tree(self, tree: MemberTree) -> None:
        self._tree = TreeMembers(tree)

    def use_buckets(self, buckets: Buckets) -> None:
        """Write through to these buckets from now on; they are created where missing."""
        self._buckets = BucketMembers(buckets)

    def recover(self) -> None:
        """Take members and version from the tree, or from the buckets when there is no tree.

        Raises: MemberFormatError; IncompatibleVersionError when the cluster is ahead of this server.
        """
        if self._tree is not None:
            self.version = self._tree.load_version()
            self._members, self._removed = self._tree.load()
        elif self._buckets is not None:
            self.version = self._buckets.load_version()
            self._members, self._removed = self._buckets.load()
        if self._buckets is not None:
            self.downgrade = self._buckets.load_downgrade()
        check_not_downgraded(self.server_version, self.version, self.downgrade.target_version)

    def push(self) -> None:
        """Make buckets and tree hold exactly the members known here, with no removed ones."""
        if self._buckets is not None:
            self._buckets.clear()
            for member in self.members():
                self._buckets.save(member)
        if self._tree is not None:
            self._tree.clear()
            for member in self.members():
                self._tree.create(member)

    def promote_in_buckets_as_in_tree(self) -> list[Member]:
        """Heal buckets that still call a learner who is a voter in the tree; gives the healed members.

        Source: etcd SyncLearnerPromotionIfNeeded (3.5.22).
        """
        healed: list[Member] = []
        if self._tree is not None and self._buckets is not None:
            in_tree = self._tree.load()[0]
            for member_id, member in sorted(self._buckets.load()[0].items()):
                known = in_tree.get(member_id)
                if known is not None and member.is_learner and not known.is_learner:
                    member = dataclasses.replace(member, is_learner=False)
                    self._buckets.save(member)
                    healed.append(member)
        return healed

    def remove_zombies(self) -> list[Member]:
        """Remove from the buckets who is no longer in the tree; gives the removed.

        Files that older versions or --force-new-cluster left behind may hold such members.
        Source: etcd CleanupZombieMembersIfNeeded (3.5.20).
        """
        zombies: list[Member] = []
        if self._tree is not None and self._buckets is not None:
            in_tree = self._tree.load()[0]
            for member_id, member in sorted(self._buckets.load()[0].items()):
                if member_id not in in_tree:
                    self._buckets.remove(member_id)
                    zombies.append(member)
        return zombies

    # Who is in.

    def members(self) -> list[Member]:
        """All members by ascending id."""
        return [self._members[member_id] for member_id in sorted(self._members)]

    def stored_members(self) -> list[Member]:
        """All members by ascending id as the buckets have them, which may be ahead of the tree after a restart."""
        if self._buckets is None:
            return self.members()
        return [member for _, member in sorted(self._buckets.load()[0].items())]

    def voters(self) -> list[Member]:
        return [member for member in self.members() if not member.is_learner]

    def member_ids(self) -> list[int]:
        return sorted(self._members)

    def voter_ids(self) -> list[int]:
        return [member.id for member in self.voters()]

    def member(self, member_id: int) -> Member | None:
        return self._members.get(member_id)

    def member_by_name(self, name: str) -> Member | None:
        """The member of that name. Raises ValueError when there are two."""
        found = [member for member in self.members() if member.name == name]
        if len(found) > 1:
            raise ValueError(f"two member with same name found: {name}")
        return found[0] if found else None

    def is_removed(self, member_id: int) -> bool:
        return member_id in self._removed

    def removed_ids(self) -> list[int]:
        return sorted(self._removed)

    def is_local_learner(self) -> bool:
        member = self._members.get(self.local_id)
        return member is not None and member.is_learner

    def peer_urls(self) -> list[str]:
        return sorted(url for member in self._members.values() for url in member.peer_urls)

    def client_urls(self) -> list[str]:
        return sorted(url for member in self._members.values() for url in member.client_urls)

    def check_learners(self) -> None:
        """Refuse to go on with more learners than there may be: entries applied again would be judged otherwise.

        Raises: TooManyLearnersError. Source: etcd ValidateMaxLearnerConfig (3.6).
        """
        _check_learners(self._members.values(), self.learners_max)
        if self._buckets is None:
            return
        # The tree may be behind the buckets, by as much as the log has since its snapshot: whom it still calls a
        # learner may be a voter by now, and another one learn. But whom it calls a voter is none any more, see
        # `promote_in_buckets_as_in_tree`, and whom it calls removed is gone, see `remove_zombies`.
        settled = {member_id for member_id, member in self._members.items() if not member.is_learner} | self._removed
        later = [member for member_id, member in self._buckets.load()[0].items() if member_id not in settled]
        _check_learners(later, self.learners_max)

    # What applied entries change.

    def validate(self, change: ConfChange) -> None:
        """Judge a committed conf change. Raises the RequestError that its proposer gets.

        The verdict comes from the tree, not from the buckets: on replay they are ahead.
        """
        members, removed = (self._members, self._removed) if self._tree is None else self._tree.load()
        if change.node_id in removed:
            raise MemberRemovedError
        target = members.get(change.node_id)
        if change.type in (ConfChangeType.ADD_NODE, ConfChangeType.ADD_LEARNER_NODE):
            context = members_json.decode_context(change.context)
            if context.is_promote:
                if target is None:
                    raise MemberNotFoundError
                if not target.is_learner:
                    raise MemberNotLearnerError
                return
            if target is not None:
                raise MemberExistError
            _check_peer_urls_free(members.values(), context.member.peer_urls)
            if context.member.is_learner:
                _check_learners(members.values(), self.learners_max - 1)
        elif change.type == ConfChangeType.REMOVE_NODE:
            if target is None:
                raise MemberNotFoundError
        elif change.type == ConfChangeType.UPDATE_NODE:
            if target is None:
                raise MemberNotFoundError
            others = [member for member in members.values() if member.id != change.node_id]
            _check_peer_urls_free(others, members_json.decode_member(change.context).peer_urls)
        else:
            raise AssertionError(f"unknown conf change type {change.type}")

    def apply(self, change: ConfChange, *, apply_v3: bool) -> MemberChange:
        """Carry out a conf change that `validate` let through."""
        if change.type == ConfChangeType.REMOVE_NODE:
            return self.remove(change.node_id, apply_v3=apply_v3)
        context = members_json.decode_context(change.context)
        assert context.member.id == change.node_id, "conf change and its context name different members"
        if change.type == ConfChangeType.UPDATE_NODE:
            return self.update_peer_urls(change.node_id, context.member.peer_urls, apply_v3=apply_v3)
        if context.is_promote:
            return self.promote(change.node_id, apply_v3=apply_v3)
        return self.add(context.member, apply_v3=apply_v3)

    def add(self, member: Member, *, apply_v3: bool) -> MemberAdded:
        if self._tree is not None:
            self._tree.create(member)
        if self._buckets is not None and apply_v3:
            self._buckets.save(member)
        self._members[member.id] = member
        return MemberAdded(member)

    def remove(self, member_id: int, *, apply_v3: bool) -> MemberRemoved:
        if self._tree is not None:
            self._tree.remove(member_id)
        if self._buckets is not None and apply_v3:
            self._buckets.remove(member_id)
        self._removed.add(member_id)
        return MemberRemoved(member_id, self._members.pop(member_id, None))

    def promote(self, member_id: int, *, apply_v3: bool) -> MemberPromoted:
        member = dataclasses.replace(self._members[member_id], is_learner=False)
        self._save_raft_attributes(member, apply_v3=apply_v3)
        return MemberPromoted(member)

    def update_peer_urls(self, member_id: int, peer_urls: tuple[str, ...], *, apply_v3: bool) -> MemberUpdated:
        member = self._members.get(member_id)
        if member is None:
            return MemberUpdated(None)
        # The entry's context says nothing of learners: only the URLs are taken from it.
        member = dataclasses.replace(member, peer_urls=peer_urls)
        self._save_raft_attributes(member, apply_v3=apply_v3)
        return MemberUpdated(member)

    def _save_raft_attributes(self, member: Member, *, apply_v3: bool) -> None:
        self._members[member.id] = member
        if self._tree is not None:
            self._tree.update(member)
        if self._buckets is not None and apply_v3:
            self._buckets.save(member)

    def update_attributes(self, member_id: int, attributes: Attributes, *, apply_v3: bool) -> Member | None:
        """Take over what a member says of itself; None for one that was removed meanwhile."""
        member = self._members.get(member_id)
        if member is None:
            assert member_id in self._removed, f"attributes of unknown member {member_id:x}"
            return None
        member = member.with_attributes(attributes)
        self._members[member_id] = member
        if self._tree is not None:
            self._tree.set_attributes(member_id, attributes)
        if self._buckets is not None and apply_v3:
            self._buckets.save(member)
            if member_id == self.local_id:
                # Once at each start is the right time: rare, and before requests are served.
                self.remove_zombies()
        return member

    def set_version(self, version: Version, *, apply_v3: bool) -> None:
        """Raises IncompatibleVersionError when the cluster left this server behind."""
        self.version = version
        check_not_downgraded(self.server_version, version, self.downgrade.target_version)
        if self._tree is not None:
            self._tree.save_version(version)
        if self._buckets is not None and apply_v3:
            self._buckets.save_version(version)

    def set_downgrade(self, downgrade: Downgrade, *, apply_v3: bool) -> None:
        if self._buckets is not None and apply_v3:
            self._buckets.save_downgrade(downgrade)
        self.downgrade = downgrade

    # Joining.

    def take_ids_of(
        self, existing: Cluster, same_urls: Callable[[tuple[str, ...], tuple[str, ...]], bool] | None = None
    ) -> None:
        """Take the member ids of an existing cluster for the members configured here, matched by their peer URLs.

        `same_urls` may resolve names; without it the texts must be equal in any order.
        Raises: ValueError with etcd's words. Source: etcd ValidateClusterAndAssignIDs.
        """
        theirs, ours = existing.members(), self.members()
        if len(theirs) != len(ours):
            raise ValueError("member count is unequal")
        matches = _same_texts if same_urls is None else same_urls
        members: dict[int, Member] = {}
        for known in theirs:
            for mine in ours:
                if matches(known.peer_urls, mine.peer_urls):
                    members[known.id] = dataclasses.replace(mine, id=known.id)
                    break
            else:
                raise ValueError(
                    f"PeerURLs: no match found for existing member "
                    f"({ids.format_id(known.id)}, [{' '.join(known.peer_urls)}])"
                )
        self._members = members


def _same_texts(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return sorted(one) == sorted(other)


def _check_peer_urls_free(members: Iterable[Member], peer_urls: Iterable[str]) -> None:
    taken = {url for member in members for url in member.peer_urls}
    if any(url in taken for url in peer_urls):
        raise PeerURLExistError


def _check_learners(members: Iterable[Member], most: int) -> None:
    if sum(member.is_learner for member in members) > most:
        raise TooManyLearnersError
