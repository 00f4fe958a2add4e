"""Three members on a network that can be cut, under load: one fault each, and its end.

While a majority is there it serves; soon after the fault all serve; the history is one that a single store could have
had; all members hold the same. BALSAD_SOAK=1 plays all faults, and then ten minutes of them at random
(NEMESIS_SECONDS, NEMESIS_SEED).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.nemesis.faults import FAULTS
from tests.nemesis.sandbox import run

SOAK = bool(os.environ.get("BALSAD_SOAK"))
ONLY_SOAK = ("follower_killed", "follower_paused", "follower_isolated", "leader_mute", "too_slow")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", [name for name in FAULTS if SOAK or name not in ONLY_SOAK])
def test_fault(fault: str, tmp_path: Path) -> None:
    run(fault, tmp_path, 150.0)


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not SOAK, reason="takes ten minutes: BALSAD_SOAK=1")
def test_faults_at_random(tmp_path: Path) -> None:
    run("random", tmp_path, 3500.0)
