"""Every attack and fault has a defence, and a test that fails when the defence is taken out.

The tables hold a line for each: where the defence stands and which tests notice that it is gone. To prove it, those
tests are run on a balsad whose source lacks the defence. A line whose defence has moved fails, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.defences.defence import ROOT, Defence
from tests.defences.peer_table import PEER
from tests.defences.storage_table import STORAGE
from tests.defences.transport_table import TRANSPORT

SOAK = bool(os.environ.get("BALSAD_SOAK"))
DEFENCES = (*TRANSPORT, *PEER, *STORAGE)
# Failures that say more of a careless line in the table than of an attack.
MISHAPS = ("NameError", "SyntaxError", "ImportError", "UnboundLocalError", "IndentationError", "not collected")

Try = Callable[[Defence], dict[str, str]]


@pytest.fixture(scope="module")
def take_out() -> Iterator[Try]:
    """How the attacks on a defence end without it."""
    command = [sys.executable, "-m", "tests.defences.taken_out"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def run(defence: Defence) -> dict[str, str]:
            job = {"module": defence.module, "source": defence.source_without(), "attacks": defence.attacks}
            stdin.write(json.dumps(job) + "\n")
            stdin.flush()
            return dict(json.loads(stdout.readline()))

        yield run
        stdin.close()


@pytest.mark.parametrize("defence", [pytest.param(each, id=each.against) for each in DEFENCES])
def test_without_it_the_attack_succeeds(take_out: Try, defence: Defence) -> None:
    if defence.is_slow and not SOAK:
        defence.source_without()
        pytest.skip("the defence is in its place; that it is needed is shown with BALSAD_SOAK=1")

    found = take_out(defence)

    for attack in defence.attacks:
        outcomes = {name: how for name, how in found.items() if name.startswith(attack) or how.startswith("died")}
        assert outcomes, f"{attack}: was not run: {found}"
        for name, how in outcomes.items():
            assert not how.startswith("skipped"), f"{name}: {how}"
            assert not any(word in how for word in MISHAPS), f"{name}: {how}"
        assert any(how != "passed" for how in outcomes.values()), f"{attack}: passes without its defence"
    assert any(defence.expect in how for how in found.values()), found


def test_names_are_unique() -> None:
    names = [defence.against for defence in DEFENCES]
    assert len(set(names)) == len(names)
