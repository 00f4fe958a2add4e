"""Merged permissions, and the order in which a role keeps them."""

from __future__ import annotations

import pytest

from balsad.auth.permissions import READ, READWRITE, WRITE, Grants, insert_permission
from balsad.proto import auth_pb2


def permission(kind: int, key: bytes, end: bytes = b"") -> auth_pb2.Permission:
    return auth_pb2.Permission(permType=kind, key=key, range_end=end)  # type: ignore[arg-type]


def grants(*permissions: auth_pb2.Permission) -> Grants:
    made = Grants(is_root=False)
    for each in permissions:
        made.add(each)
    return made


def test_kinds_are_kept_apart() -> None:
    both = grants(permission(READ, b"r"), permission(WRITE, b"w"), permission(READWRITE, b"x"), permission(77, b"y"))

    assert [key for key in (b"r", b"w", b"x", b"y") if both.may_read(key, b"")] == [b"r", b"x"]
    assert [key for key in (b"r", b"w", b"x", b"y") if both.may_write(key, b"")] == [b"w", b"x"]


@pytest.mark.parametrize(
    ("key", "end", "allowed"),
    [
        (b"a", b"c", True),
        (b"a", b"e", True),
        (b"b", b"d", True),
        (b"a", b"e\0", False),
        (b"A", b"b", False),
        (b"a", b"\0", False),
        (b"x", b"", True),
        (b"x", b"x\0", True),
        (b"x", b"y", True),
        (b"f", b"m", False),
        (b"e", b"", False),
        (b"m", b"\0", True),
        (b"m", b"zzz", True),
        (b"l", b"\0", False),
    ],
)
def test_touching_ranges_count_as_one(key: bytes, end: bytes, allowed: bool) -> None:
    """etcd checkKeyInterval: the union of what is granted must hold all that is asked for."""
    held = grants(
        permission(READ, b"a", b"c"),
        permission(READ, b"c", b"e"),
        permission(READ, b"x"),
        permission(READ, b"m", b"\0"),
    )

    assert held.may_read(key, end) is allowed


def test_a_range_without_keys_is_judged_by_where_it_stands() -> None:
    held = grants(permission(READ, b"c", b"f"))

    assert held.may_read(b"d", b"a")
    assert held.may_read(b"d", b"d")
    assert not held.may_read(b"g", b"a")
    assert not held.may_read(b"b", b"a")


@pytest.mark.parametrize(("key", "end"), [(b"", b""), (b"", b"z"), (b"", b"\0"), (b"z", b"a"), (b"b", b"b")])
def test_a_permission_that_holds_no_key_allows_nothing(key: bytes, end: bytes) -> None:
    """3.5.1 lets them be granted; its tree never finds them."""
    held = grants(permission(READWRITE, key, end))

    assert not any(held.may_read(asked, b"") for asked in (b"a", b"b", b"z", b"\0"))
    assert not held.may_write(b"\0", b"\0")


def test_root_may_do_everything() -> None:
    root = Grants(is_root=True)

    assert root.may_read(b"\0", b"\0") and root.may_write(b"x", b"")


def names(permissions: list[auth_pb2.Permission]) -> list[bytes]:
    return [each.key + b"-" + each.range_end for each in permissions]


def test_permissions_are_kept_by_key() -> None:
    kept: list[auth_pb2.Permission] = []
    for key in (b"m", b"a", b"z", b"g"):
        insert_permission(kept, permission(READ, key))

    assert names(kept) == [b"a-", b"g-", b"m-", b"z-"]


def test_the_same_range_again_changes_its_kind() -> None:
    kept = [permission(READ, b"a", b"b")]

    insert_permission(kept, permission(WRITE, b"a", b"b"))

    assert [(each.permType, each.range_end) for each in kept] == [(WRITE, b"b")]


def test_only_the_first_permission_of_a_key_can_be_changed() -> None:
    """etcd looks at the first of the key and adds another when that one ends elsewhere."""
    kept = [permission(READ, b"a", b"b"), permission(READ, b"a", b"c")]

    insert_permission(kept, permission(WRITE, b"a", b"c"))

    assert [(each.permType, each.range_end) for each in kept] == [(READ, b"b"), (READ, b"c"), (WRITE, b"c")]


def test_a_new_one_goes_last_among_its_equals() -> None:
    kept = [permission(READ, b"a", b"b"), permission(READ, b"c")]

    insert_permission(kept, permission(READ, b"a", b"c"))

    assert names(kept) == [b"a-b", b"a-c", b"c-"]


def test_from_seven_on_gos_sort_first_swaps_over_six_places() -> None:
    """sort.Sort of Go 1.16: the one six places before goes to the end, and comes back behind its equals."""
    kept = [permission(READ, b"b", end) for end in (b"p", b"q", b"r")] + [
        permission(READ, key) for key in (b"c", b"d", b"e")
    ]

    insert_permission(kept, permission(READ, b"a"))

    assert names(kept) == [b"a-", b"b-q", b"b-r", b"b-p", b"c-", b"d-", b"e-"]
