"""A change of members that strict reconfiguration refuses is told of in the log, and why, in the real one's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.clusters import cluster
from tests.interop.servers import program, programs

pytestmark = [pytest.mark.real, pytest.mark.timeout(90)]


@pytest.mark.parametrize("who", programs())
def test_refused_changes_of_members_are_told_of(who: str, tmp_path: Path) -> None:
    with cluster(tmp_path, {"m0": program(who)}) as one:
        one.ctl("member", "add", "m1", "--peer-urls=http://127.0.0.1:1")
        said = one.ctl("member", "add", "m2", "--peer-urls=http://127.0.0.1:2", check=False)
        assert "etcdserver: " in said
        log = one.members["m0"].log_path.read_text("utf-8", "replace")
        assert "rejecting member add request; " in log
        assert "reconfigure breaks active quorum" in log or "not enough healthy members" in log
