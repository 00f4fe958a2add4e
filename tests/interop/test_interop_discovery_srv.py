"""Clusters found by DNS, in a network of their own where a small server answers for it; the real etcd beside ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.dns_body import STORIES
from tests.nemesis import sandbox

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]


@pytest.mark.parametrize("story", STORIES)
def test_cluster_by_dns(story: str, tmp_path: Path) -> None:
    sandbox.run(story, tmp_path, 100.0, body="tests.interop.dns_body")
