"""`--cases DIR` runs the scenario files below another directory than `cases/`."""

from __future__ import annotations

from pathlib import Path

import pytest

CASES = Path(__file__).parent / "cases"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cases", metavar="DIR", default=None, help="directory of scenario files (*.txt, at any depth)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "scenario_path" not in metafunc.fixturenames:
        return
    directory = metafunc.config.getoption("--cases", None)
    root = Path(directory) if directory else CASES
    if not root.is_dir():
        raise pytest.UsageError(f"--cases: {root} is not a directory")
    paths = sorted(root.rglob("*.txt"))
    if not paths:
        raise pytest.UsageError(f"--cases: no *.txt below {root}")
    ids = [str(path.relative_to(root).with_suffix("")) for path in paths]
    metafunc.parametrize("scenario_path", paths, ids=ids)
