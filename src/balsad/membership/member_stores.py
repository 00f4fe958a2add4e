"""Where membership is kept: three buckets of the backend and one folder of the v2 tree.

    bucket members           hex id -> member as JSON
    bucket members_removed   hex id -> "removed"
    bucket cluster           clusterVersion -> "3.5.0", downgrade -> JSON
    /0/members/ID            raftAttributes and attributes, JSON each
    /0/removed_members/ID    ""
    /0/version               "3.5.0"

The tree is written by every applied entry, the buckets only by entries above
the backend's consistent index: after a restart the tree lags behind and
follows the log again.

Source: etcd membership/store.go, cluster.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from balsad import go_json
from balsad.membership import member as members_json
from balsad.membership.ids import format_id, parse_id
from balsad.membership.member import Attributes, Member, MemberFormatError
from balsad.membership.versions import Version
from balsad.storage import schema

MEMBERS_PATH: Final = "/0/members"
REMOVED_MEMBERS_PATH: Final = "/0/removed_members"
VERSION_PATH: Final = "/0/version"
_RAFT_ATTRIBUTES: Final = "raftAttributes"
_ATTRIBUTES: Final = "attributes"


class Buckets(Protocol):
    """What membership needs of the backend."""

    def create_bucket(self, bucket: bytes, /) -> None: ...

    def put(self, bucket: bytes, key: bytes, value: bytes, /) -> None: ...

    def delete(self, bucket: bytes, key: bytes, /) -> None: ...

    def get(self, bucket: bytes, key: bytes, /) -> bytes | None: ...

    def scan(self, bucket: bytes, start: bytes, end: bytes | None, /) -> list[tuple[bytes, bytes]]: ...


class TreeNode(Protocol):
    @property
    def key(self) -> str: ...

    @property
    def value(self) -> str | None: ...

    @property
    def nodes(self) -> Sequence[TreeNode] | None: ...


class MemberTree(Protocol):
    """What membership needs of the v2 tree."""

    def read_tree(self, path: str, /) -> TreeNode | None:
        """The node and all below it, sorted; None when there is none."""

    def read_file(self, path: str, /) -> str | None: ...

    def create_file(self, path: str, value: str, /) -> bool:
        """False when it is there already."""

    def set_file(self, path: str, value: str, /) -> None: ...

    def update_file(self, path: str, value: str, /) -> None: ...

    def delete_tree(self, path: str, /) -> bool:
        """False when it is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Downgrade:
    """A downgrade of the cluster; `target` is "" while none is under way."""

    target: str = ""
    enabled: bool = False

    @property
    def target_version(self) -> Version | None:
        return Version.parse(self.target) if self.enabled and self.target else None


def member_path(member_id: int) -> str:
    return f"{MEMBERS_PATH}/{format_id(member_id)}"


def attributes_path(member_id: int) -> str:
    """Where a member publishes its name and client URLs."""
    return f"{member_path(member_id)}/{_ATTRIBUTES}"


class BucketMembers:
    """Membership in the backend's buckets."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        for name in (schema.MEMBERS, schema.MEMBERS_REMOVED, schema.CLUSTER):
            buckets.create_bucket(name)

    def load(self) -> tuple[dict[int, Member], set[int]]:
        """The members by id and the ids of the removed. Raises MemberFormatError."""
        members: dict[int, Member] = {}
        for key, value in self._buckets.scan(schema.MEMBERS, b"", None):
            member_id = _bucket_id(schema.MEMBERS, key)
            try:
                members[member_id] = members_json.decode_member(value)
            except MemberFormatError as error:
                raise MemberFormatError(f"bucket members, key {key!r}: {error}") from error
        removed = {
            _bucket_id(schema.MEMBERS_REMOVED, key) for key, _ in self._buckets.scan(schema.MEMBERS_REMOVED, b"", None)
        }
        return members, removed

    def save(self, member: Member) -> None:
        """Write the member, new or not.

        etcd 3.5.0 and 3.5.1 leave the value of a known member as it is, so that
        names and client URLs are missing in their files; later ones write it.
        """
        self._buckets.put(schema.MEMBERS, format_id(member.id).encode(), members_json.encode_member(member))

    def remove(self, member_id: int) -> None:
        key = format_id(member_id).encode()
        self._buckets.put(schema.MEMBERS_REMOVED, key, schema.REMOVED)
        self._buckets.delete(schema.MEMBERS, key)

    def clear(self) -> None:
        """Forget all members and all removed ones."""
        for bucket in (schema.MEMBERS, schema.MEMBERS_REMOVED):
            for key, _ in self._buckets.scan(bucket, b"", None):
                self._buckets.delete(bucket, key)

    def load_version(self) -> Version | None:
        value = self._buckets.get(schema.CLUSTER, schema.CLUSTER_VERSION)
        return None if value is None else _version("bucket cluster, key clusterVersion", value.decode("latin-1"))

    def save_version(self, version: Version) -> None:
        self._buckets.put(schema.CLUSTER, schema.CLUSTER_VERSION, str(version).encode())

    def load_downgrade(self) -> Downgrade:
        """The downgrade under way. Raises MemberFormatError."""
        value = self._buckets.get(schema.CLUSTER, schema.DOWNGRADE)
        if value is None:
            return Downgrade()
        try:
            fields = go_json.loads(value)
            downgrade = Downgrade(target=str(fields.get("target-version", "")), enabled=bool(fields.get("enabled")))
        except (ValueError, AttributeError) as error:
            raise MemberFormatError(f"bucket cluster, key downgrade: expected JSON, found {value!r}") from error
        if downgrade.enabled:
            _version("bucket cluster, key downgrade", downgrade.target)
        return downgrade

    def save_downgrade(self, downgrade: Downgrade) -> None:
        enabled = "true" if downgrade.enabled else "false"
        value = f'{{"target-version":{go_json.quote(downgrade.target)},"enabled":{enabled}}}'
        self._buckets.put(schema.CLUSTER, schema.DOWNGRADE, value.encode())


def _bucket_id(bucket: bytes, key: bytes) -> int:
    try:
        return parse_id(key.decode("latin-1"))
    except ValueError as error:
        raise MemberFormatError(f"bucket {bucket.decode()}: expected a hex id as key, found {key!r}") from error


def _version(place: str, text: str) -> Version:
    try:
        return Version.parse(text)
    except ValueError as error:
        raise MemberFormatError(f"{place}: expected a version, found {text!r}") from error


class TreeMembers:
    """Membership in the v2 tree."""

    def __init__(self, tree: MemberTree) -> None:
        self._tree = tree

    def load(self) -> tuple[dict[int, Member], set[int]]:
        """The members by id and the ids of the removed. Raises MemberFormatError."""
        members: dict[int, Member] = {}
        removed: set[int] = set()
        folder = self._tree.read_tree(MEMBERS_PATH)
        if folder is None:
            # Like etcd: who never had a member cannot have removed one.
            return members, removed
        for node in folder.nodes or ():
            member = _node_member(node)
            members[member.id] = member
        gone = self._tree.read_tree(REMOVED_MEMBERS_PATH)
        if gone is not None:
            removed = {_node_id(node) for node in gone.nodes or ()}
        return members, removed

    def create(self, member: Member) -> bool:
        """Write a new member's raft attributes; False when they are there already."""
        return self._tree.create_file(
            f"{member_path(member.id)}/{_RAFT_ATTRIBUTES}", members_json.encode_raft_attributes(member)
        )

    def update(self, member: Member) -> None:
        self._tree.update_file(
            f"{member_path(member.id)}/{_RAFT_ATTRIBUTES}", members_json.encode_raft_attributes(member)
        )

    def set_attributes(self, member_id: int, attributes: Attributes) -> None:
        self._tree.set_file(attributes_path(member_id), members_json.encode_attributes(attributes))

    def remove(self, member_id: int) -> bool:
        """Take the member out and remember its id; False when it was not there."""
        if not self._tree.delete_tree(member_path(member_id)):
            return False
        self._tree.create_file(f"{REMOVED_MEMBERS_PATH}/{format_id(member_id)}", "")
        return True

    def clear(self) -> None:
        """Forget all members and all removed ones."""
        members, removed = self.load()
        for member_id in sorted(members):
            self._tree.delete_tree(member_path(member_id))
        for member_id in sorted(removed):
            self._tree.delete_tree(f"{REMOVED_MEMBERS_PATH}/{format_id(member_id)}")

    def load_version(self) -> Version | None:
        value = self._tree.read_file(VERSION_PATH)
        return None if value is None else _version(f"v2 tree, {VERSION_PATH}", value)

    def save_version(self, version: Version) -> None:
        self._tree.set_file(VERSION_PATH, str(version))


def _node_id(node: TreeNode) -> int:
    try:
        return parse_id(node.key.rpartition("/")[2])
    except ValueError as error:
        raise MemberFormatError(f"v2 tree, {node.key}: expected a hex id as name") from error


def _node_member(node: TreeNode) -> Member:
    member_id = _node_id(node)
    raft_attributes: str | None = None
    attributes: str | None = None
    for child in node.nodes or ():
        name = child.key.rpartition("/")[2]
        if name == _RAFT_ATTRIBUTES:
            raft_attributes = child.value
        elif name == _ATTRIBUTES:
            attributes = child.value
        else:
            raise MemberFormatError(f"v2 tree, {child.key}: expected raftAttributes or attributes")
    if raft_attributes is None:
        raise MemberFormatError(f"v2 tree, {node.key}: raftAttributes are missing")
    try:
        return members_json.decode_tree_member(member_id, raft_attributes, attributes)
    except MemberFormatError as error:
        raise MemberFormatError(f"v2 tree, {node.key}: {error}") from error
