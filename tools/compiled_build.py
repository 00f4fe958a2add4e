"""The compiled build: the hot modules become C by mypyc, from the same source that runs without it.

`BALSAD_COMPILE` says whether: `0` never, `1` always, so that whatever stands in the way is an error, and
otherwise where there is a C compiler and Python's headers. Nothing else differs between the two forms.

This module is pip's build backend (setuptools' own, which asks for mypyc only where it can be used), the
`build_ext` command of `setup.py`, and a command of its own that puts a compiled balsad into `build/compiled`
and prints that path: put it on PYTHONPATH to run, test or measure that one.

A build leaves a note in the package, `built.txt`: what it compiled for, or why it did not compile. pip shows what a
build prints only with `-v`, so it is `etcd --version` and the start-up log that tell.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from setuptools import Extension, build_meta
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

# What a backend does besides compiling is setuptools' business.
build_sdist = build_meta.build_sdist
build_wheel = build_meta.build_wheel
build_editable = build_meta.build_editable
get_requires_for_build_sdist = build_meta.get_requires_for_build_sdist
prepare_metadata_for_build_wheel = build_meta.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = build_meta.prepare_metadata_for_build_editable

ROOT = Path(__file__).resolve().parent.parent
MYPY = "mypy==2.4.1"
GROUP = "balsad"
NOTE = "built.txt"  # read by balsad.config.form

MODULES = """
    wire
    raft/*
    storage/overlay storage/backend storage/commit_job
    storage/wal/record storage/wal/replay storage/wal/writer
    storage/bolt/page storage/bolt/tree storage/bolt/tx storage/bolt/freelist storage/bolt/bulk storage/bolt/digest
    storage/bolt/reach storage/bolt/runs storage/bolt/check
    mvcc/*
    lease/*
    transport/call transport/stream transport/frames transport/header_block transport/methods transport/timers
    transport/rpc_server transport/http2_base transport/http2_control transport/http2_connection
    transport/http2_exchange transport/plain_sink
    server/busy_poll server/group_commit
    server/driver server/propose server/answers server/request_ids server/quota server/ranges server/read_index
    server/service server/plain_txn server/apply/dispatch server/apply/kv server/apply/txn server/apply/plain_txn
    server/apply/tally server/apply/put_entry server/apply/long_writes server/apply_steps
    peer/codec peer/http_answer transport/http1_request
    api/v3/kv api/v3/door api/v3/watch
"""
"""What is compiled. The rule: what runs for every request, entry, key, page or event.

Protocols (`faces`) stay out of it: a class that is compiled is asked for by its own type, any other by its name.
"""
NOT_COMPILED = {"__init__", "faces"}


def wish() -> str:
    return os.environ.get("BALSAD_COMPILE", "").strip()


def obstacle() -> str:
    """Why nothing can be compiled here; empty when it can."""
    if wish() == "0":
        return "BALSAD_COMPILE is 0"
    if sys.implementation.name != "cpython":
        return f"mypyc does not serve {sys.implementation.name}"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler})"
    if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        return "Python's headers (Python.h) are not installed"
    return ""


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    needs: list[str] = build_meta.get_requires_for_build_wheel(config_settings)
    return needs if obstacle() and wish() != "1" else [*needs, MYPY]


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    needs: list[str] = build_meta.get_requires_for_build_editable(config_settings)
    return [*needs, MYPY] if wish() == "1" else needs


def modules() -> list[str]:
    """The sources that are compiled, by their paths from here."""
    package = ROOT / "src" / "balsad"
    found = {path for pattern in MODULES.split() for path in package.glob(f"{pattern}.py")}
    return sorted(str(path.relative_to(ROOT)) for path in found if path.stem not in NOT_COMPILED)


def extensions() -> list[Extension]:
    """The C of the modules, written by mypyc. Raises: CannotCompileError."""
    try:
        from mypyc.build import mypycify
    except ImportError as error:
        raise CannotCompileError(f"mypyc is not installed ({error})") from None
    options = ["--config-file", str(ROOT / "tools" / "compiled.ini"), "--cache-dir", "build/mypy"]
    target = Path("build/mypyc")
    try:
        made: list[Extension] = mypycify(
            [*options, *modules()], group_name=GROUP, multi_file=True, target_dir=str(target), verbose=False
        )
    except SystemExit as error:
        raise CannotCompileError("mypyc refuses the source") from error
    for extension in made:
        # Not -Werror, which mypyc asks for: another compiler's new warning is no reason to do without.
        extension.extra_compile_args = ["-O2", "-g0", "-w", "-fvisibility=hidden"]
        extension.depends = [str(path) for path in sorted(target.glob("*.h"))]
    return made


class CannotCompileError(Exception):
    """Why there will be no compiled modules."""


class BuildExt(build_ext):
    """Compiles what `extensions` gives, on all cores; without a way to, it leaves the package as it is."""

    def run(self) -> None:
        why = obstacle()
        if not why:
            print(f"balsad: compiling {len(modules())} modules; BALSAD_COMPILE=0 leaves it")
            try:
                self._compile(extensions())
                self._leave_note(f"compiled for {sys.implementation.name} {sysconfig.get_python_version()}")
                return
            except CannotCompileError as error:
                why = str(error)
            except Exception as error:  # setuptools and its compilers raise many kinds
                why = f"{type(error).__name__}: {error}"
        if wish() == "1":
            raise SystemExit(f"balsad: cannot be compiled: {why}")
        self._clean()
        self.extensions = self.distribution.ext_modules = []
        wheel = self.distribution.get_command_obj("bdist_wheel", create=False)
        if wheel is not None:
            wheel.root_is_pure = True  # what it will hold runs anywhere after all
        self._leave_note(why)
        say_pure(why)

    def _leave_note(self, note: str) -> None:
        if not self.inplace:
            leave_note(self.build_lib, note)

    def _compile(self, made: list[Extension]) -> None:
        self.extensions = self.distribution.ext_modules = made
        self.swig_opts = None  # as before the first time
        self.finalize_options()
        self._clean()
        self.parallel = os.cpu_count() or 1
        super().run()

    def _clean(self) -> None:
        """What an earlier build left must not be taken for this one's."""
        if not self.inplace:
            for path in Path(self.build_lib).rglob("*.so"):
                path.unlink()

    def build_extensions(self) -> None:
        compile_all = self.compiler.compile
        self.compiler.compile = _in_parallel(compile_all, self.compiler.object_filenames)
        super().build_extensions()


class BuildPy(build_py):
    """Copies the package, and says beside it why nothing will be compiled, if that is known already."""

    def run(self) -> None:
        if not self.editable_mode:
            # A module that is no more would otherwise come along from an earlier build.
            shutil.rmtree(Path(self.build_lib, "balsad"), ignore_errors=True)
        super().run()
        if not self.editable_mode and not self.distribution.ext_modules:
            leave_note(self.build_lib, obstacle())


def leave_note(build_lib: str, note: str) -> None:
    """Say in the package how it was built, in one line."""
    folder = Path(build_lib, "balsad")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NOTE).write_text(" ".join(note.split())[:500] + "\n", encoding="utf-8")


def _in_parallel(
    compile_all: Callable[..., list[str]], object_names: Callable[..., list[str]]
) -> Callable[..., list[str]]:
    """A compiler's `compile` that takes sources side by side, and leaves objects that are newer than all they need."""

    def compile_each(sources: list[str], output_dir: str | None = None, **rest: Any) -> list[str]:
        def compile_one(source: str) -> list[str]:
            objects = object_names([source], 0, output_dir or "")
            newest = max(os.path.getmtime(path) for path in [source, *(rest.get("depends") or [])])
            if os.path.exists(objects[0]) and os.path.getmtime(objects[0]) > newest:
                return objects
            return compile_all([source], output_dir=output_dir, **rest)

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            return [name for objects in pool.map(compile_one, sources) for name in objects]

    return compile_each


def placeholder() -> list[Extension]:
    """Stands for the extensions until `build_ext` runs, and makes wheels belong to their platform."""
    if wish() != "1":
        if any(command in sys.argv for command in ("editable_wheel", "develop")):
            return []
        why = obstacle()
        if why:
            if any(command in sys.argv for command in ("bdist_wheel", "build", "install")):
                say_pure(why)
            return []
    return [Extension(f"{GROUP}__mypyc", [])]


def say_pure(why: str) -> None:
    print(f"balsad: installed without compiled modules: {why}", file=sys.stderr)


def build_beside() -> Path:
    """A compiled balsad in build/compiled, made anew only when the source has changed. Raises CannotCompileError."""
    why = obstacle()
    if why:
        raise CannotCompileError(why)
    target = ROOT / "build" / "compiled"
    stamp = target / ".source"
    target.parent.mkdir(exist_ok=True)
    with (target.parent / "compiled.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = _source_hash()
        if stamp.is_file() and stamp.read_text() == state:
            return target
        shutil.rmtree(target, ignore_errors=True)
        command = [sys.executable, "setup.py", "-q", "build", "--build-lib", str(target)]
        environment = {**os.environ, "BALSAD_COMPILE": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CannotCompileError(f"the build failed:\n{done.stdout}{done.stderr}")
        if _source_hash() == state:
            stamp.write_text(state)
    return target


def _source_hash() -> str:
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "tools").glob("compiled*"), ROOT / "setup.py"]):
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    try:
        print(build_beside())
    except CannotCompileError as reason:
        sys.exit(f"balsad: cannot be compiled: {reason}")
