"""A balsad with one defence taken out, and the attacks on it run again: `python -m tests.defences.taken_out`.

One JSON line in, one out:

    {"module": "balsad.transport.http2_control", "source": "...", "attacks": ["tests/unit/...::test_rapid_reset"]}
    {"tests/unit/...::test_rapid_reset": "AssertionError: ..."}

Each line is worked on by a fork of this process, which has imported pytest but nothing of balsad. There, and in the
processes that a test starts, the module is compiled from `source` instead of from its file. An outcome is "passed",
or how the test failed.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import hypothesis.strategies  # imported once here, not in every fork
import pytest
import pytest_timeout  # noqa: F401

MEMORY_MAX: Final = 4 << 30
"""A defence is often one against memory without bound: without it the machine shall not suffer."""
TIMEOUT_S: Final = 60

# As sitecustomize.py on the path of every Python started from here.
HOOK: Final = """\
import importlib.machinery
import json
import os
import sys


class Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname):
        return compile(SOURCE, self.path, "exec", dont_inherit=True)


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        spec.loader = Loader(name, spec.origin)
        return spec


with open(os.path.join(os.path.dirname(__file__), "changed.json")) as file:
    MODULE, SOURCE = json.load(file)
sys.meta_path.insert(0, Finder)
"""


class Outcomes:
    """A pytest plugin that notes how each test ended."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        name = report.nodeid
        if report.outcome == "rerun":
            return  # not how it ended
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            how = str(crash.message if crash is not None else report.longrepr)
            self.found.setdefault(name, f"{report.when}: {how}"[:2000])
        elif report.skipped:
            self.found[name] = f"skipped: {report.longrepr}"
        elif report.when == "call":
            self.found[name] = "passed"

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.found[report.nodeid] = f"not collected: {report.longrepr}"


def run(module: str, source: str, attacks: list[str], folder: Path) -> dict[str, str]:
    """How the attacks end in this process."""
    hook = folder / "sitecustomize.py"
    hook.write_text(HOOK)
    (folder / "changed.json").write_text(json.dumps([module, source]))
    os.environ["PYTHONPATH"] = str(folder)
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(folder / "hypothesis")
    exec(compile(HOOK, str(hook), "exec"), {"__file__": str(hook), "__name__": "sitecustomize"})
    # That an example fails is enough; a shorter one would take the longest.
    hypothesis.settings.register_profile("taken out", phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate))
    hypothesis.settings.load_profile("taken out")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    outcomes = Outcomes()
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--assert=plain", "--tb=short"]
    options += [f"--timeout={TIMEOUT_S}", f"--basetemp={folder / 'tests'}"]
    code = pytest.main([*options, *attacks], plugins=[outcomes])
    return outcomes.found or {"": f"pytest ended with {int(code)}"}


def fork_and_run(job: dict[str, Any]) -> dict[str, str]:
    """How the attacks end in a fork of this process."""
    folder = Path(tempfile.mkdtemp(prefix="taken-out-"))
    pid = os.fork()
    if not pid:
        try:
            with (folder / "log").open("w") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                found = run(job["module"], job["source"], job["attacks"], folder)
                (folder / "found.json").write_text(json.dumps(found))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    try:
        found = json.loads((folder / "found.json").read_text())
    except OSError:
        # The process itself did not live through it: out of memory, say, or it ran out of time.
        found = {"": "died: " + (folder / "log").read_text()[-2000:]}
    shutil.rmtree(folder, ignore_errors=True)
    return {str(name): str(how) for name, how in found.items()}


def main() -> None:
    assert not [name for name in sys.modules if name.partition(".")[0] == "balsad"]
    for line in sys.stdin:
        print(json.dumps(fork_and_run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
