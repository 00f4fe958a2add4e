"""The house's own rules: types, lint, who imports whom, what may not lie about in a file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
SOURCE: Final = ROOT / "src" / "balsad"
LINES_MAX: Final = 600

# Files that may be longer, and why.
LONG_FILES: Final = {
    "client/messages.py": "one class per message of rpc.proto, each a few lines",
    "server/driver.py": "one order of saving, sending, applying and answering, which is easier to see in one place",
}

# Rooms whose answers depend on nothing but what they were handed.
STATE_MACHINES: Final = (
    "raft",
    "mvcc",
    "lease",
    "membership",
    "v2store",
    "server/apply",
    "interval_tree.py",
    "merge_sort.py",
)
OUTSIDE_WORLD: Final = frozenset(
    ("asyncio", "concurrent", "multiprocessing", "random", "secrets", "select", "selectors", "socket", "ssl")
    + ("subprocess", "threading", "time", "uvloop")
)

# Which distribution brings which module, where the two names differ.
MODULE_OF: Final = {"protobuf": "google", "pyyaml": "yaml", "pyjwt": "jwt"}

# Comes with mypy, and is imported where types are checked, never by what runs.
TYPES_ALONE: Final = {"mypy_extensions"}


def _tool(*command: str) -> None:
    """Run a checker from the environment the tests run in; its own words when it finds something."""
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run(
        [program, *command[1:]], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        pytest.fail(f"{command[0]}:\n{done.stdout.strip()[-6000:]}", pytrace=False)


def _written_files() -> Iterator[Path]:
    """Our Python, without what protoc writes."""
    for path in sorted(SOURCE.rglob("*.py")):
        if not path.name.endswith("_pb2.py"):
            yield path


def _tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    names = listing.stdout.decode().split("\0")
    return [path for name in names if name and (path := ROOT / name).is_file()]


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full module name of each import of a file, wherever it stands."""
    package = ("balsad", *path.relative_to(SOURCE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (above, node.module) if part)
            if module == "balsad":
                for name in node.names:
                    yield node.lineno, f"balsad.{name.name}"
            else:
                yield node.lineno, module


def _names(found: list[str]) -> str:
    return "\n".join(found)


def test_house_ruff_finds_nothing() -> None:
    _tool("ruff", "check", "--output-format=concise", "--no-cache")


def test_house_mypy_strict_finds_nothing() -> None:
    _tool("mypy", "--no-error-summary")


def test_house_rooms_ask_only_the_rooms_below() -> None:
    """The contract is in pyproject.toml; a room that is not in it breaks it too."""
    _tool("lint-imports", "--no-cache", "--no-logo")


def test_house_raft_needs_nothing_of_the_house_but_wire() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in (SOURCE / "raft").rglob("*.py")
        for line, module in _imports(path)
        if module.split(".")[0] not in sys.stdlib_module_names
        and not (module + ".").startswith(("balsad.raft.", "balsad.wire."))
    ]
    assert not found, _names(found)


def test_house_state_machines_know_no_clock_chance_socket_or_task() -> None:
    files = [path for room in STATE_MACHINES for path in sorted(SOURCE.glob(room)) for path in _python_of(path)]
    assert len(files) > len(STATE_MACHINES), "rooms have moved"
    found = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in files
        for line, module in _imports(path)
        if module.split(".")[0] in OUTSIDE_WORLD
    ]
    assert not found, _names(found)


def _python_of(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def test_house_files_are_short_enough_to_read() -> None:
    lengths = {str(path.relative_to(SOURCE)): path.read_bytes().count(b"\n") for path in _written_files()}
    too_long = [f"{name}: {count} lines" for name, count in lengths.items() if count > LINES_MAX]
    found = [entry for entry in too_long if entry.split(":")[0] not in LONG_FILES]
    no_longer = [f"{name} may leave LONG_FILES" for name in LONG_FILES if lengths.get(name, 0) <= LINES_MAX]
    assert not found + no_longer, _names(found + no_longer)


def test_house_no_file_names_a_place_on_somebodys_machine() -> None:
    private = re.compile(rb"(?<![\w.:/])/(?:home|root|work|Users)/\w[^\s\"'`]*")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match.group().decode(errors='replace')}"
        for path in _tracked_files()
        for number, line in enumerate(path.read_bytes().split(b"\n"), 1)
        for match in private.finditer(line)
    ]
    assert not found, _names(found)


def test_house_dependencies_are_what_is_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    always = _modules(project["dependencies"])
    extras = project["optional-dependencies"]
    sometimes = set().union(*(_modules(needs) for extra, needs in extras.items() if extra != "dev"))
    imported = {
        module.split(".")[0]
        for path in _written_files()
        for _, module in _imports(path)
        if module.split(".")[0] not in sys.stdlib_module_names and not module.startswith("balsad")
    }
    assert always <= imported, f"never imported: {sorted(always - imported)}"
    declared = always | sometimes | TYPES_ALONE
    assert imported <= declared, f"not declared: {sorted(imported - declared)}"
    assert sometimes <= _modules(extras["dev"]), "the tests need what the extras need"


def _modules(requirements: list[str]) -> set[str]:
    names = (re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower() for requirement in requirements)
    return {MODULE_OF.get(name, name.replace("-", "_")) for name in names}


def test_house_map_shows_every_room() -> None:
    """docs/ARCHITECTURE.md is the house's map: a room that is not on it cannot be found."""
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    rooms = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    rooms |= {path.stem for path in SOURCE.glob("[a-z]*.py")}
    missing = sorted(room for room in rooms if f"`{room}" not in text)
    assert not missing, f"not on the map: {missing}"


def test_house_links_of_the_documents_lead_somewhere() -> None:
    documents = [path for path in _tracked_files() if path.suffix == ".md"]
    found = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in documents
        for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", path.read_text())
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert documents
    assert not found, _names(found)
