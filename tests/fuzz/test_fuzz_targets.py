"""No bytes whatever surprise a room: they are read as what they are, or refused with the room's own error.

For a moment each, from a fixed seed; BALSAD_SOAK=1 takes FUZZ_SECONDS of CPU (120) for each, from FUZZ_SEED.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.fuzz.engine import Target, run
from tests.fuzz.targets import TARGETS

SOAK = bool(os.environ.get("BALSAD_SOAK"))
SECONDS = float(os.environ.get("FUZZ_SECONDS", "120"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
INPUTS = 1500


@pytest.mark.parametrize("target", [pytest.param(target, id=target.name) for target in TARGETS])
def test_any_bytes(target: Target) -> None:
    if SOAK:
        seed = SEED or random.SystemRandom().randrange(1 << 32)
        report = run(target, seed, cpu_s=SECONDS)
        print(f"{target.name}: FUZZ_SEED={seed}, {report.inputs} inputs, {len(report.outcomes)} outcomes")
    else:
        report = run(target, 1, cpu_s=4.0, inputs_max=INPUTS)
    # Only if some are let in and some turned away the target tells anything.
    assert any(outcome.startswith("refused") for outcome in report.outcomes)
    assert any(not outcome.startswith("refused") for outcome in report.outcomes)
