"""A member whose disk is full, or read-only all at once: it ends as etcd does, says which file and why, keeps all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nemesis.mounts import PLACES
from tests.nemesis.sandbox import run

pytestmark = [pytest.mark.real]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", PLACES)
def test_a_mount_of_its_own(name: str, tmp_path: Path) -> None:
    run(name, tmp_path, 150.0, body="tests.nemesis.mounts")
