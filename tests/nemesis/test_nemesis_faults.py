"""Three members on a network that can be cut, under load: faults come and go.

While a majority is there it serves; soon after a fault all serve; the history is one that a single store could have
had; all members hold the same. BALSAD_SOAK=1 adds ten minutes of faults at random (NEMESIS_SECONDS, NEMESIS_SEED).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.nemesis.faults import FAULTS
from tests.nemesis.sandbox import run

SOAK = bool(os.environ.get("BALSAD_SOAK"))

# One cluster meets those of a line one after the other.
TOGETHER = (
    "leader_killed,follower_killed",
    "leader_killed_and_back_at_once,all_killed",
    "leader_paused,follower_paused,leader_paused_in_short",
    "leader_isolated,follower_isolated,leader_rejected",
    "leader_deaf,leader_mute,follower_deaf",
    "one_link_cut,all_apart,lossy",
    "slow,too_slow",
    "disk_full",
    "replaced,leader_replaced",
    "left_behind,left_behind_and_killed",
)


ONLY_SOAK = ("next_leader_killed,restless",)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("faults", TOGETHER + (ONLY_SOAK if SOAK else ()))
def test_faults(faults: str, tmp_path: Path) -> None:
    run(faults, tmp_path, 150.0)


def test_all_faults_are_met() -> None:
    assert sorted(",".join(TOGETHER + ONLY_SOAK).split(",")) == sorted(FAULTS)


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not SOAK, reason="takes ten minutes: BALSAD_SOAK=1")
def test_faults_at_random(tmp_path: Path) -> None:
    run("random", tmp_path, 3500.0)
