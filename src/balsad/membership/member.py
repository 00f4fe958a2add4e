"""A member and the JSON forms in which etcd keeps and sends it.

All of them are `json.Marshal` of one Go struct or a part of it:

    bucket `members`, peer /members,       {"id":N,"peerURLs":[],"isLearner":true,"name":"","clientURLs":[]}
    conf change context
    context of a promotion                 the same and `"isPromote":true`
    v2 tree ID/raftAttributes              {"peerURLs":[],"isLearner":true}
    v2 tree ID/attributes                  {"name":"","clientURLs":[]}

id and peerURLs are always written, the others only when they say something.
Source: etcd membership/member.go, cluster.go (ConfigChangeContext).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from balsad import go_json
from balsad.membership import ids


class MemberFormatError(ValueError):
    """A stored or sent member is not the JSON it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What a member says of itself when it starts."""

    name: str = ""
    client_urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    id: int
    peer_urls: tuple[str, ...] = ()
    is_learner: bool = False
    name: str = ""
    client_urls: tuple[str, ...] = ()

    @property
    def is_started(self) -> bool:
        """A member gives itself a name when it first starts."""
        return bool(self.name)

    @property
    def attributes(self) -> Attributes:
        return Attributes(name=self.name, client_urls=self.client_urls)

    def with_attributes(self, attributes: Attributes) -> Member:
        return dataclasses.replace(self, name=attributes.name, client_urls=attributes.client_urls)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfChangeContext:
    """What a conf change entry says of its member."""

    member: Member
    is_promote: bool = False


def new_member(
    name: str, peer_urls: Iterable[str], token: str, *, now_s: int | None = None, is_learner: bool = False
) -> Member:
    """A member with its id: bootstrapped (`token`), or added at run time (`token` "" and Unix seconds)."""
    urls = tuple(peer_urls)
    return Member(id=ids.member_id(urls, token, now_s), peer_urls=urls, is_learner=is_learner, name=name)


def encode_member(member: Member) -> bytes:
    """The member as the `members` bucket, conf changes and the peers' /members have it."""
    return (_member_fields(member) + "}").encode("utf-8", "surrogateescape")


def encode_members(members: Iterable[Member]) -> bytes:
    """The JSON array of members that peers read from /members, without the newline behind it."""
    return b"[" + b",".join([encode_member(member) for member in members]) + b"]"


def encode_promotion(member_id: int) -> bytes:
    """The context of a conf change that makes a voter of a learner."""
    return (_member_fields(Member(id=member_id)) + ',"isPromote":true}').encode()


def _member_fields(member: Member) -> str:
    text = f'{{"id":{member.id},"peerURLs":{go_json.string_array(member.peer_urls)}'
    if member.is_learner:
        text += ',"isLearner":true'
    if member.name:
        text += f',"name":{go_json.quote(member.name)}'
    if member.client_urls:
        text += f',"clientURLs":{go_json.string_array(member.client_urls)}'
    return text


def encode_raft_attributes(member: Member) -> str:
    learner = ',"isLearner":true' if member.is_learner else ""
    return f'{{"peerURLs":{go_json.string_array(member.peer_urls)}{learner}}}'


def encode_attributes(attributes: Attributes) -> str:
    parts = []
    if attributes.name:
        parts.append(f'"name":{go_json.quote(attributes.name)}')
    if attributes.client_urls:
        parts.append(f'"clientURLs":{go_json.string_array(attributes.client_urls)}')
    return "{" + ",".join(parts) + "}"


def decode_member(data: bytes | str) -> Member:
    """The member in the bucket's form. Raises MemberFormatError."""
    return _member(_object(data), data)


def decode_members(data: bytes | str) -> list[Member]:
    """The members in the array of the peers' /members. Raises MemberFormatError."""
    value = _json(data)
    if not isinstance(value, list):
        raise MemberFormatError(f"expected a JSON array of members, found {data!r}")
    members = []
    for item in value:
        if not isinstance(item, dict):
            raise MemberFormatError(f"expected a JSON object in the array of members, found {item!r}")
        members.append(_member(item, data))
    return members


def decode_context(data: bytes) -> ConfChangeContext:
    """The context of a conf change. Raises MemberFormatError."""
    fields = _object(data)
    return ConfChangeContext(member=_member(fields, data), is_promote=_flag(fields, "isPromote", data))


def decode_attributes(data: bytes | str) -> Attributes:
    """What a member put under its `attributes`. Raises MemberFormatError."""
    fields = _object(data)
    return Attributes(name=_text(fields, "name", data), client_urls=_texts(fields, "clientURLs", data))


def decode_tree_member(member_id: int, raft_attributes: str, attributes: str | None) -> Member:
    """The member whose two files lie in the v2 tree. Raises MemberFormatError."""
    fields = _object(raft_attributes)
    member = Member(
        id=member_id,
        peer_urls=_texts(fields, "peerURLs", raft_attributes),
        is_learner=_flag(fields, "isLearner", raft_attributes),
    )
    return member if attributes is None else member.with_attributes(decode_attributes(attributes))


def _json(data: bytes | str) -> object:
    try:
        text = data if isinstance(data, str) else data.decode("utf-8", "surrogateescape")
        value: object = go_json.loads(text)
    except ValueError as error:
        raise MemberFormatError(f"expected JSON, found {data!r}: {error}") from error
    return value


def _object(data: bytes | str) -> dict[str, object]:
    value = _json(data)
    if not isinstance(value, dict):
        raise MemberFormatError(f"expected a JSON object, found {data!r}")
    return value


def _member(fields: dict[str, object], data: bytes | str) -> Member:
    member_id = fields.get("id", 0)
    if not isinstance(member_id, int) or isinstance(member_id, bool) or not 0 <= member_id < 1 << 64:
        raise MemberFormatError(f'expected a number of 64 bits as "id", found {data!r}')
    return Member(
        id=member_id,
        peer_urls=_texts(fields, "peerURLs", data),
        is_learner=_flag(fields, "isLearner", data),
        name=_text(fields, "name", data),
        client_urls=_texts(fields, "clientURLs", data),
    )


def _text(fields: dict[str, object], name: str, data: bytes | str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise MemberFormatError(f'expected a string as "{name}", found {data!r}')
    return value


def _texts(fields: dict[str, object], name: str, data: bytes | str) -> tuple[str, ...]:
    value = fields.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise MemberFormatError(f'expected an array of strings as "{name}", found {data!r}')
    return tuple(value)


def _flag(fields: dict[str, object], name: str, data: bytes | str) -> bool:
    value = fields.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise MemberFormatError(f'expected true or false as "{name}", found {data!r}')
    return value
