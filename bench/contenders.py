"""Who is measured: balsad, uncompiled or compiled, and the real etcd; how they and their tools are started."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.connection import LoadError
from tests.interop.servers import Program
from tests.real import real_etcd, real_etcdutl

ROOT = Path(__file__).resolve().parent.parent
UNCOMPILED = "uncompiled"
COMPILED = "compiled"
ETCD = "etcd"

FLAGS = ("--heartbeat-interval=100", "--election-timeout=1000", "--log-level=warn")
"""etcd's defaults, which the servers of the tests shorten."""


@dataclass(frozen=True, slots=True)
class Contender:
    """`form` is what its rows are called; `etcdutl` is the command of its offline tool."""

    form: str
    program: Program
    etcdutl: tuple[str, ...]


def etcd(command: str = "") -> Contender:
    """The real etcd 3.5.1, or what stands in its place."""
    program = Program(ETCD, tuple(command.split()) or (real_etcd(),))
    return Contender(ETCD, program, (real_etcdutl(),))


def ours(form: str) -> Contender:
    """Raises LoadError when there is no such form here."""
    python: tuple[str, ...] = (sys.executable,)
    if form == COMPILED:
        python = ("env", f"PYTHONPATH={_build()}", sys.executable)
    _compile_to_bytecode(python, _package_of_form(form, python))
    etcdutl = (*python, "-c", "import sys; from balsad.ctl.etcdutl import main; sys.exit(main())")
    return Contender(form, Program(form, (*python, "-m", "balsad")), etcdutl)


def _build() -> str:
    """Where the compiled form is; built when the source has changed since. Raises LoadError."""
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "compiled_build.py"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise LoadError(f"{done.stderr.strip()}\n--form uncompiled measures without")
    return done.stdout.strip()


def instead(command: str) -> Contender:
    """Another server in our place, for experiments."""
    return Contender("ours", Program("ours", tuple(command.split())), (real_etcdutl(),))


def _package_of_form(form: str, python: tuple[str, ...]) -> Path:
    """The package's folder; that the interpreter takes the form asked for, and no other that lies about."""
    code = "import balsad.wire; print(balsad.wire.__file__)"
    found = Path(subprocess.run([*python, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
    if (found.suffix == ".so") != (form == COMPILED):
        raise LoadError(f"{form}: balsad comes from {found}")
    return found.parent


def _compile_to_bytecode(python: tuple[str, ...], package: Path) -> None:
    """As pip does when it installs: a source tree's modules would be compiled anew by each start.

    So it is where PYTHONDONTWRITEBYTECODE is set.
    """
    subprocess.run([*python, "-m", "compileall", "-q", str(package)], check=True)
