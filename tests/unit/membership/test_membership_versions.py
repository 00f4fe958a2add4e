"""Versions and the rules by which a cluster agrees on one."""

from __future__ import annotations

import pytest

from balsad.membership import (
    IncompatibleVersionError,
    Version,
    allowed_range,
    check_not_downgraded,
    decide_cluster_version,
    is_compatible,
    is_valid_version_change,
    next_cluster_version,
    parse_cluster_version,
)

V = Version.parse


def test_order_is_that_of_semver() -> None:
    """semver 2.0, 11: alpha < alpha.1 < alpha.beta < beta < beta.2 < beta.11 < rc.1 < release."""
    texts = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
             "1.0.0-rc.1", "1.0.0", "1.0.1", "1.1.0", "1.10.0", "2.0.0"]  # fmt: skip

    assert sorted(texts, key=V) == texts
    assert [str(V(text)) for text in texts] == texts
    assert V("1.0.0+a") == V("1.0.0+b")


@pytest.mark.parametrize("text", ["", "3", "3.5", "v3.5.0", "not_decided", "3.5.0.1", "3.5.x", "3.5.-1"])
def test_text_that_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        V(text)


@pytest.mark.parametrize(("text", "expected"), [("3.4", "3.4.0"), ("3.4.9", "3.4.0")])
def test_cluster_version_may_lack_its_patch(text: str, expected: str) -> None:
    assert str(parse_cluster_version(text)) == expected


@pytest.mark.parametrize(
    ("servers", "decided"),
    [
        (["2.0.0"], "2.0.0"),
        ([None], None),
        (["2.0.0", None], None),
        (["unknown"], None),
        (["2.1.0", "2.0.0", "2.2.2"], "2.0.0"),
        (["2.1.0", "2.1.0", "2.1.0"], "2.1.0"),
    ],
)
def test_lowest_server_decides(servers: list[str | None], decided: str | None) -> None:
    """etcd TestDecideClusterVersion."""
    assert decide_cluster_version(servers) == (None if decided is None else V(decided))


@pytest.mark.parametrize(
    ("current", "decided", "proposed"),
    [
        (None, None, "3.0.0"),
        (None, "3.5.1", "3.5.0"),
        ("3.0.0", "3.5.1", "3.5.0"),
        ("3.5.0", "3.5.1", None),
        ("3.5.0", None, None),
        ("3.5.0", "3.4.9", "3.4.0"),
        ("3.5.0", "3.3.0", None),
        ("3.5.0", "4.0.0", None),
    ],
)
def test_leader_proposes_what_may_change(current: str | None, decided: str | None, proposed: str | None) -> None:
    """etcd monitorVersions: the minimum at first, then upwards, or one minor down."""
    found = next_cluster_version(V(current) if current else None, V(decided) if decided else None)

    assert found == (V(proposed) if proposed else None)


def test_version_change_within_one_major() -> None:
    assert is_valid_version_change(V("3.4.0"), V("3.5.7"))
    assert not is_valid_version_change(V("3.5.2"), V("3.5.7"))
    assert is_valid_version_change(V("3.5.0"), V("3.4.0"))


@pytest.mark.parametrize(
    ("local", "cluster", "target", "fine"),
    [
        ("3.5.1", None, None, True),
        ("3.5.1", "3.5.0", None, True),
        ("3.5.1", "3.6.0", None, False),
        ("3.5.1", "3.6.0", "3.5.0", True),
        ("3.5.1", "3.6.0", "3.4.0", False),
        ("3.6.0", "3.6.0", "3.5.0", True),
        ("3.6.0", "3.5.0", "3.5.0", True),
    ],
)
def test_server_behind_its_cluster_refuses(local: str, cluster: str | None, target: str | None, fine: bool) -> None:
    """etcd TestMustDetectDowngrade."""
    arguments = V(local), V(cluster) if cluster else None, V(target) if target else None
    if fine:
        check_not_downgraded(*arguments)
    else:
        with pytest.raises(IncompatibleVersionError):
            check_not_downgraded(*arguments)


@pytest.mark.parametrize(
    ("remotes", "fine"),
    [
        ({}, False),
        ({1: None}, False),
        ({1: "not_decided"}, False),
        ({1: "3.4.0", 2: None}, True),
        ({1: "3.5.0", 2: "3.6.0"}, False),
        ({1: "2.3.0"}, False),
    ],
)
def test_joining_needs_a_known_version_and_none_out_of_range(remotes: dict[int, str | None], fine: bool) -> None:
    """etcd TestIsCompatibleWithVers."""
    assert is_compatible(remotes, *allowed_range(V("3.5.1"), downgrade_enabled=False)) is fine


def test_during_a_downgrade_only_one_minor_above_may_be_joined() -> None:
    assert allowed_range(V("3.5.1"), downgrade_enabled=True) == (V("3.6.0"), V("3.6.0"))
