"""Which etcd balsad says it is, in one place."""

from __future__ import annotations

import platform
from typing import Final

ETCD_VERSION: Final = "3.5.1"
"""What /version, Status and `etcd --version` report."""

CLUSTER_VERSION: Final = "3.5.0"
"""What a cluster of such members agrees on."""

MIN_CLUSTER_VERSION: Final = "3.0.0"
"""The oldest cluster a member of this version may join."""

API_VERSION: Final = "3.5"

# Scripts read all four lines of `etcd --version`, so the two that name etcd's own build stay as that build prints
# them. Who really serves is told by a line of the log, there and at a start: see `balsad.config.form`.
GIT_SHA: Final = "e8732fb5f"
GO_VERSION: Final = "go1.16.3"

_GO_ARCHITECTURES: Final = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}


def go_os() -> str:
    return platform.system().lower()


def go_arch() -> str:
    machine = platform.machine()
    return _GO_ARCHITECTURES.get(machine, machine)


def version_lines() -> str:
    """What `etcd --version` prints of etcd."""
    return (
        f"etcd Version: {ETCD_VERSION}\n"
        f"Git SHA: {GIT_SHA}\n"
        f"Go Version: {GO_VERSION}\n"
        f"Go OS/Arch: {go_os()}/{go_arch()}\n"
    )
