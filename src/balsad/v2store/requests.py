"""The v2 requests of the raft log: read, written, and applied to the tree.

etcd writes every field but the two optional booleans, also those that are
zero. Two paths of the cluster's own namespace do not go to the tree here: what
a member says of itself, and the cluster version, come out as values, and
membership writes them.

Source: etcd api/etcdserverpb/etcdserver.proto, server/etcdserver/apply_v2.go.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Final, TypeAlias

from balsad.errors import RequestError, UnknownError
from balsad.v2store.errors import V2Error
from balsad.v2store.events import Event
from balsad.v2store.store import Store
from balsad.wire import WireError, read_uvarint, skip_field, to_int64, uvarint, varint

# Unlike etcd's, anchored: a client's key that ends like this must not pass for a member's.
_ATTRIBUTES_PATH: Final = re.compile("/0/members/([0-9a-fA-F]{1,16})/attributes")
_VERSION_PATH: Final = "/0/version"
_METHODS: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"QGET", b"SYNC"))


@dataclass(slots=True, kw_only=True)
class Request:
    """etcdserverpb.Request. `expiration` and `time` are Unix nanoseconds, 0 for none."""

    id: int = 0
    method: str = ""
    path: str = ""
    val: str = ""
    dir: bool = False
    prev_value: str = ""
    prev_index: int = 0
    prev_exist: bool | None = None
    expiration: int = 0
    wait: bool = False
    since: int = 0
    recursive: bool = False
    sorted: bool = False
    quorum: bool = False
    time: int = 0
    stream: bool = False
    refresh: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberAttributesPut:
    """A member told its name and client URLs: `value` is their JSON."""

    member_id: int
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterVersionPut:
    version: str


Outcome: TypeAlias = Event | V2Error | RequestError | MemberAttributesPut | ClusterVersionPut | None


def is_request(data: bytes) -> bool:
    """True when an entry's bytes are a bare v2 request rather than an InternalRaftRequest.

    Both begin with their id; then a request has its method, where the other
    could only have a request, which begins with an id of its own.
    """
    try:
        tag, pos = read_uvarint(data, 0)
        if tag == 0x08:
            _, pos = read_uvarint(data, pos)
            tag, pos = read_uvarint(data, pos)
        if tag != 0x12:
            return False
        size, pos = read_uvarint(data, pos)
    except WireError:
        return False
    return data[pos : pos + size] in _METHODS


def decode_request(data: bytes) -> Request:
    """The request in a bare entry or in InternalRaftRequest.v2. Raises WireError."""
    request = Request()
    pos = 0
    end = len(data)
    while pos < end:
        tag, pos = read_uvarint(data, pos)
        number, kind = tag >> 3, tag & 7
        if not 1 <= number <= 17:
            pos = skip_field(data, pos, tag)
            if pos > end:
                raise WireError("unexpected end of message")
        elif number in (2, 3, 4, 6):
            if kind != 2:
                raise WireError(f"wrong wire type {kind} for field {number} of Request")
            size, pos = read_uvarint(data, pos)
            if pos + size > end:
                raise WireError("unexpected end of message")
            text = data[pos : pos + size].decode("utf-8", "surrogateescape")
            pos += size
            if number == 2:
                request.method = text
            elif number == 3:
                request.path = text
            elif number == 4:
                request.val = text
            else:
                request.prev_value = text
        else:
            if kind != 0:
                raise WireError(f"wrong wire type {kind} for field {number} of Request")
            value, pos = read_uvarint(data, pos)
            _set_number(request, number, value)
    return request


def _set_number(request: Request, number: int, value: int) -> None:
    if number == 1:
        request.id = value
    elif number == 5:
        request.dir = value != 0
    elif number == 7:
        request.prev_index = value
    elif number == 8:
        request.prev_exist = value != 0
    elif number == 9:
        request.expiration = to_int64(value)
    elif number == 10:
        request.wait = value != 0
    elif number == 11:
        request.since = value
    elif number == 12:
        request.recursive = value != 0
    elif number == 13:
        request.sorted = value != 0
    elif number == 14:
        request.quorum = value != 0
    elif number == 15:
        request.time = to_int64(value)
    elif number == 16:
        request.stream = value != 0
    else:
        request.refresh = value != 0


def encode_request(request: Request) -> bytes:
    """The request as etcd proposes it."""
    parts = [b"\x08", uvarint(request.id)]
    _add_text(parts, b"\x12", request.method)
    _add_text(parts, b"\x1a", request.path)
    _add_text(parts, b"\x22", request.val)
    parts += [b"\x28", uvarint(request.dir)]
    _add_text(parts, b"\x32", request.prev_value)
    parts += [b"\x38", uvarint(request.prev_index)]
    if request.prev_exist is not None:
        parts += [b"\x40", uvarint(request.prev_exist)]
    parts += [b"\x48", varint(request.expiration)]
    parts += [b"\x50", uvarint(request.wait)]
    parts += [b"\x58", uvarint(request.since)]
    parts += [b"\x60", uvarint(request.recursive)]
    parts += [b"\x68", uvarint(request.sorted)]
    parts += [b"\x70", uvarint(request.quorum)]
    parts += [b"\x78", varint(request.time)]
    parts += [b"\x80\x01", uvarint(request.stream)]
    if request.refresh is not None:
        parts += [b"\x88\x01", uvarint(request.refresh)]
    return b"".join(parts)


def _add_text(parts: list[bytes], tag: bytes, text: str) -> None:
    data = text.encode("utf-8", "surrogateescape")
    parts += [tag, uvarint(len(data)), data]


def apply_request(store: Store, request: Request, now_ns: int, expired_max: int = sys.maxsize) -> Outcome:
    """Carry out a committed request; gives its event, its error, what membership must do, or None for a SYNC.

    A SYNC deletes `expired_max` keys at most; the same again deletes the next ones.
    """
    try:
        if request.method == "PUT":
            return _put(store, request, now_ns)
        if request.method == "POST":
            return store.create(
                request.path,
                value=request.val,
                is_dir=request.dir,
                unique=True,
                expires_ns=request.expiration,
                now_ns=now_ns,
            )
        if request.method == "DELETE":
            if request.prev_index or request.prev_value:
                return store.compare_and_delete(
                    request.path, prev_value=request.prev_value, prev_index=request.prev_index, now_ns=now_ns
                )
            return store.delete(request.path, is_dir=request.dir, recursive=request.recursive, now_ns=now_ns)
        if request.method == "QGET":
            return store.get(request.path, recursive=request.recursive, in_order=request.sorted, now_ns=now_ns)
        if request.method == "SYNC":
            store.delete_expired_keys(request.time, now_ns=now_ns, limit=expired_max)
            return None
    except V2Error as error:
        return error
    return UnknownError("etcdserver: unknown method")


def _put(store: Store, request: Request, now_ns: int) -> Outcome:
    refresh = bool(request.refresh)
    compares = bool(request.prev_index or request.prev_value)
    if request.prev_exist is False:
        # Like etcd, whoever asks for a new key is not compared with an old one.
        return store.create(
            request.path, value=request.val, is_dir=request.dir, expires_ns=request.expiration, now_ns=now_ns
        )
    if compares:
        return store.compare_and_swap(
            request.path,
            prev_value=request.prev_value,
            prev_index=request.prev_index,
            value=request.val,
            expires_ns=request.expiration,
            refresh=refresh,
            now_ns=now_ns,
        )
    if request.prev_exist:
        return store.update(
            request.path, value=request.val, expires_ns=request.expiration, refresh=refresh, now_ns=now_ns
        )
    if request.path == _VERSION_PATH:
        return ClusterVersionPut(version=request.val)
    match = _ATTRIBUTES_PATH.fullmatch(request.path)
    if match is not None:
        return MemberAttributesPut(member_id=int(match.group(1), 16), value=request.val)
    return store.set(
        request.path,
        value=request.val,
        is_dir=request.dir,
        expires_ns=request.expiration,
        refresh=refresh,
        now_ns=now_ns,
    )
