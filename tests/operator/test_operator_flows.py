"""An operator's guide, typed as it stands on three hosts with certificates: by our etcdctl, and by both real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nemesis.sandbox import run
from tests.operator.hosts import tool


@pytest.mark.real
@pytest.mark.timeout(400)
@pytest.mark.parametrize("ctl", ["ours", "3.5", "3.4"])
def test_the_guide_as_it_is_written(ctl: str, tmp_path: Path) -> None:
    tool(ctl)  # skips where it is not installed
    run(ctl, tmp_path, 380.0, body="tests.operator.flows")
