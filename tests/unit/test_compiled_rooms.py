"""The tests of the hot rooms again, on modules that are compiled: one source has one behaviour in both forms."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("raft", "storage", "mvcc", "lease", "transport", "server", "api")
# Set a constant to another value, which the compiled code has taken in already, or look on at a method, which it calls
# without a look into the class.
NOT_THERE = (
    "tests/unit/api/test_api_v3_streams.py::test_watched_keys_have_a_bound_on_their_bytes",
    "tests/unit/mvcc/test_mvcc_range_job.py::test_a_step_is_bounded_also_among_deleted_keys",
    "tests/unit/mvcc/test_mvcc_store.py::test_pages_of_an_older_revision_read_a_bounded_piece_of_what_came_since",
    "tests/unit/server/test_server_long_ranges.py::test_long_ranges_take_turns_and_say_what_was_there",
)


@pytest.mark.timeout(900)
def test_hot_rooms_pass_their_tests_compiled() -> None:
    built = subprocess.run(
        [sys.executable, "tools/compiled_build.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if built.returncode:
        # Anything else that stands in the way is an error.
        assert "there is no C compiler" in built.stderr or "not installed" in built.stderr, built.stderr
        pytest.skip(built.stderr.strip())
    environment = {name: value for name, value in os.environ.items() if name != "BALSAD_SOAK"}
    environment["PYTHONPATH"] = built.stdout.strip()
    which = "import balsad.wire, balsad.raft.node; print(balsad.wire.__file__, balsad.raft.node.__file__)"
    files = subprocess.run([sys.executable, "-c", which], env=environment, capture_output=True, text=True, check=True)
    assert all(name.endswith(".so") for name in files.stdout.split()), files.stdout
    command = [sys.executable, "-m", "balsad", "--version"]
    form = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(form.stderr.splitlines()[-1])["compiled"] is True
    rooms = [f"tests/unit/{room}" for room in ROOMS]
    left_out = [f"--deselect={name}" for name in NOT_THERE]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *left_out, *rooms]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
