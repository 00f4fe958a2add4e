"""A user's merged permissions allow exactly the requests all of whose keys some permission holds."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from balsad.auth.permissions import READ, READWRITE, WRITE, Grants, insert_permission
from balsad.proto import auth_pb2

LETTERS = (b"\0", b"a", b"b")
BOUNDS = [b"".join(letters) for size in (1, 2) for letters in product(LETTERS, repeat=size)]
# Between two bounds next to each other lies nothing that would not be allowed as the lower one is, or the lower one and
# a zero: a single key ends there.
KEYS = sorted(set(BOUNDS) | {bound + b"\0" for bound in BOUNDS})

ranges = st.tuples(st.sampled_from(BOUNDS), st.sampled_from([b"", b"\0", *BOUNDS]))
permissions = st.lists(st.tuples(st.sampled_from([READ, WRITE, READWRITE]), ranges), max_size=8)


def holds(key_range: tuple[bytes, bytes], key: bytes) -> bool:
    start, end = key_range
    if end == b"":
        return key == start
    return start <= key and (end == b"\0" or key < end)


def made(held: list[tuple[int, tuple[bytes, bytes]]]) -> Grants:
    grants = Grants(is_root=False)
    for kind, (key, end) in held:
        grants.add(auth_pb2.Permission(permType=kind, key=key, range_end=end))  # type: ignore[arg-type]
    return grants


@given(held=permissions, asked=ranges)
def test_a_request_is_allowed_when_every_key_of_it_is(
    held: list[tuple[int, tuple[bytes, bytes]]], asked: tuple[bytes, bytes]
) -> None:
    grants = made(held)
    # A range without keys is judged by where it stands.
    wanted = [key for key in KEYS if holds(asked, key)] or [asked[0]]

    for kind, allowed in ((READ, grants.may_read(*asked)), (WRITE, grants.may_write(*asked))):
        mine = [each for granted, each in held if granted in (kind, READWRITE)]
        assert allowed == all(any(holds(each, key) for each in mine) for key in wanted)


@given(held=permissions)
def test_a_role_keeps_every_range_once_granted_and_stays_sorted(held: list[tuple[int, tuple[bytes, bytes]]]) -> None:
    kept: list[auth_pb2.Permission] = []
    for kind, (key, end) in held:
        insert_permission(kept, auth_pb2.Permission(permType=kind, key=key, range_end=end))  # type: ignore[arg-type]

    assert [each.key for each in kept] == sorted(each.key for each in kept)
    assert {(each.key, each.range_end) for each in kept} == {key_range for _, key_range in held}
