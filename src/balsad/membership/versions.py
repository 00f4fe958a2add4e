"""Server and cluster versions: how they compare, and which one a cluster agrees on.

Source: etcd cluster_util.go (decideClusterVersion, isCompatibleWithVers),
membership/downgrade.go, membership/cluster.go (IsValidVersionChange).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import total_ordering
from typing import Final

_FORM: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+([0-9A-Za-z.-]+))?")


@total_ordering
class Version:
    """A semantic version. Build metadata is kept but compares equal."""

    __slots__ = ("major", "metadata", "minor", "patch", "pre_release")

    def __init__(self, major: int, minor: int, patch: int = 0, pre_release: str = "", metadata: str = "") -> None:
        self.major = major
        self.minor = minor
        self.patch = patch
        self.pre_release = pre_release
        self.metadata = metadata

    @staticmethod
    def parse(text: str) -> Version:
        """The version in `text`, of the form `major.minor.patch[-pre][+meta]`. Raises ValueError."""
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError(f"{text} is not in dotted-tri format")
        major, minor, patch, pre_release, metadata = match.groups()
        return Version(int(major), int(minor), int(patch), pre_release or "", metadata or "")

    def __str__(self) -> str:
        text = f"{self.major}.{self.minor}.{self.patch}"
        if self.pre_release:
            text += "-" + self.pre_release
        if self.metadata:
            text += "+" + self.metadata
        return text

    def __repr__(self) -> str:
        return f"Version({self})"

    def _key(self) -> tuple[int, int, int, bool, list[tuple[bool, int, str]]]:
        # A pre-release comes before its release; its numeric parts come before
        # others and compare as numbers (semver 2.0, 11).
        parts = self.pre_release.split(".") if self.pre_release else []
        return (
            self.major,
            self.minor,
            self.patch,
            not parts,
            [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts],
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._key() == other._key()

    def __lt__(self, other: Version) -> bool:
        return self._key() < other._key()

    def __hash__(self) -> int:
        return hash((self.major, self.minor, self.patch, self.pre_release))

    def minor_only(self) -> Version:
        """The version as a cluster version: patch 0, nothing behind it."""
        return Version(self.major, self.minor)

    def short(self) -> str:
        """`major.minor`, as logs and /version of a cluster show it."""
        return f"{self.major}.{self.minor}"


MIN_CLUSTER_VERSION: Final = Version(3, 0, 0)


class IncompatibleVersionError(Exception):
    """This server may not take part in its cluster at the cluster's version."""


def parse_cluster_version(text: str) -> Version:
    """The cluster version in `major.minor` or `major.minor.patch`. Raises ValueError."""
    try:
        version = Version.parse(text)
    except ValueError:
        version = Version.parse(text + ".0")
    return version.minor_only()


def decide_cluster_version(server_versions: Iterable[str | None]) -> Version | None:
    """The lowest server version of all members, or None while one of them is unknown."""
    lowest: Version | None = None
    for text in server_versions:
        if text is None:
            return None
        try:
            version = Version.parse(text)
        except ValueError:
            return None
        if lowest is None or version < lowest:
            lowest = version
    return lowest


def next_cluster_version(current: Version | None, decided: Version | None) -> Version | None:
    """The cluster version that the leader should propose, or None when it may stay.

    While nothing is decided a new cluster begins at the lowest one there is.
    """
    if current is None:
        return MIN_CLUSTER_VERSION if decided is None else decided.minor_only()
    if decided is not None and is_valid_version_change(current, decided):
        return decided.minor_only()
    return None


def allowed_downgrade(version: Version) -> Version:
    """The one version a cluster of `version` may go down to."""
    return Version(version.major, version.minor - 1)


def is_valid_version_change(cluster: Version, target: Version) -> bool:
    """True when the cluster version may change: upwards in one major, or down by one minor."""
    cluster, target = cluster.minor_only(), target.minor_only()
    return target == allowed_downgrade(cluster) or (cluster.major == target.major and cluster < target)


def check_not_downgraded(local: Version, cluster: Version | None, downgrade_target: Version | None) -> None:
    """Refuse to serve a cluster that is ahead of this server, unless it is coming down to its version.

    `downgrade_target` is None while no downgrade is under way. As in 3.6, and unlike 3.5, whoever has served the
    cluster goes on doing so until it is replaced.
    Raises: IncompatibleVersionError. Source: etcd MustDetectDowngrade.
    """
    local = local.minor_only()
    if cluster is not None and local < cluster and local != downgrade_target:
        raise IncompatibleVersionError("invalid downgrade; server version is lower than determined cluster version")


def allowed_range(local: Version, downgrade_enabled: bool) -> tuple[Version, Version]:
    """The lowest and highest cluster version that a server of version `local` can join."""
    if downgrade_enabled:
        only = Version(local.major, local.minor + 1)
        return only, only
    return MIN_CLUSTER_VERSION, local.minor_only()


def is_compatible(remote_cluster_versions: Mapping[int, str | None], lowest: Version, highest: Version) -> bool:
    """True when a known cluster version of another member lies in the range and none lies outside.

    Members that did not answer (None) or have none decided yet do not count: they may be off while this one joins.
    """
    found = False
    for text in remote_cluster_versions.values():
        if text is None:
            continue
        try:
            version = Version.parse(text)
        except ValueError:
            continue
        if version < lowest or highest < version:
            return False
        found = True
    return found
