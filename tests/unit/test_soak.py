"""`make soak`: what is in it, what it says, and that nothing long is forgotten."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOAK = [sys.executable, str(ROOT / "tools" / "soak.py")]

sys.path.insert(0, str(ROOT / "tools"))
import soak  # noqa: E402


def test_every_long_test_is_of_a_part() -> None:
    """A file that asks for BALSAD_SOAK runs longer with it, so somebody has to run it so."""
    # Without it: the tests that are run once more, compiled.
    long = [
        path.relative_to(ROOT)
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if "BALSAD_SOAK" in path.read_text() and path.name not in ("test_soak.py", "test_compiled_rooms.py")
    ]
    places = [Path(test) for part in soak.PARTS for test in part.tests]

    assert all((ROOT / place).exists() for place in places)
    assert [path for path in long if not any(path.is_relative_to(place) for place in places)] == []
    assert len(long) >= 9


def test_parts_are_listed_and_chosen() -> None:
    told = subprocess.run([*SOAK, "--list", "fuzz", "kills"], capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in told.splitlines()] == ["kills", "fuzz"]

    wrong = subprocess.run([*SOAK, "fuz"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "there is no part fuz: there are storage, " in wrong.stderr


def test_what_failed_is_named_with_its_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other parts run all the same; the tests see that this is the long form."""
    (tmp_path / "test_one.py").write_text("def test_bad():\n    assert 1 == 2, 'seed 17'\n")
    (tmp_path / "test_two.py").write_text("import os\ndef test_good():\n    assert os.environ['BALSAD_SOAK'] == '1'\n")
    bad = soak.Part("bad", "one that fails", 1, (str(tmp_path / "test_one.py"),))
    good = soak.Part("good", "one that passes", 1, (str(tmp_path / "test_two.py"),), workers=1)
    monkeypatch.setattr(soak, "PARTS", (bad, good))
    assert soak.main(["--", f"--rootdir={tmp_path}", "-p", "no:cacheprovider", "-c", "/dev/null"]) == 1

    told = capfd.readouterr().out
    assert "=== part 1 of 2: bad: one that fails; about 1 minutes" in told
    assert "seed 17" in told
    assert "\nbad         FAILED in " in told
    assert "\ngood        passed in " in told
    assert re.search(r"^    BALSAD_SOAK=1 \S+ -m pytest --timeout=7200 \S*test_one.py::test_bad$", told, re.MULTILINE)
