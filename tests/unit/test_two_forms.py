"""What a build puts together where it cannot compile, and what that says of itself.

That it compiles where it can: test_compiled_rooms. Whole installations: tests/interop/test_interop_installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A package of the same name whose only extension is one file of C: what stands in the way comes late, as it would.
SETUP = """
import sys
sys.path.insert(0, {tools!r})
import compiled_build
from setuptools import Extension, setup
compiled_build.extensions = lambda: [Extension("balsad__mypyc", ["some.c"])]
setup(name="balsad", version="1", packages=["balsad"], package_dir={{"": "src"}},
      ext_modules=compiled_build.placeholder(),
      cmdclass={{"build_ext": compiled_build.BuildExt, "build_py": compiled_build.BuildPy}})
"""
SOME_C = "#include <Python.h>\nPyMODINIT_FUNC PyInit_balsad__mypyc(void) { return NULL; }\n"


def build(folder: Path, **environ: str) -> tuple[Path | None, str]:
    """The wheel that came out, and what was said."""
    (folder / "src" / "balsad").mkdir(parents=True)
    (folder / "src" / "balsad" / "__init__.py").touch()
    (folder / "some.c").write_text(SOME_C)
    (folder / "setup.py").write_text(SETUP.format(tools=str(ROOT / "tools")))
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "bdist_wheel"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    made = list((folder / "dist").glob("*.whl")) if (folder / "dist").exists() else []
    assert (done.returncode == 0) == (len(made) == 1), done.stderr
    return (made[0] if made else None), done.stderr


def note(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as packed:
        assert not [name for name in packed.namelist() if name.endswith(".so")]
        return packed.read("balsad/built.txt").decode().strip()


@pytest.fixture
def failing_compiler(tmp_path: Path) -> str:
    """Says that it is a compiler, and cannot compile."""
    program = tmp_path / "cc-that-fails"
    program.write_text("#!/bin/sh\necho out of memory >&2\nexit 1\n")
    program.chmod(0o755)
    return str(program)


def test_what_is_told_not_to_compile_runs_anywhere(tmp_path: Path) -> None:
    wheel, said = build(tmp_path / "package", BALSAD_COMPILE="0")

    assert wheel is not None and wheel.name == "balsad-1-py3-none-any.whl"
    assert note(wheel) == "BALSAD_COMPILE is 0"
    assert said.count("balsad: installed without compiled modules: BALSAD_COMPILE is 0\n") == 1


def test_without_a_compiler_one_line_says_so(tmp_path: Path) -> None:
    wheel, said = build(tmp_path / "package", CC="no-such-compiler -pthread")

    assert wheel is not None and wheel.name == "balsad-1-py3-none-any.whl"
    assert note(wheel) == "there is no C compiler (no-such-compiler)"
    assert said.count("balsad: installed without compiled modules: there is no C compiler (no-such-compiler)\n") == 1


def test_a_compiler_that_fails_leaves_what_runs_anywhere(tmp_path: Path, failing_compiler: str) -> None:
    wheel, said = build(tmp_path / "package", CC=failing_compiler)

    assert wheel is not None and wheel.name == "balsad-1-py3-none-any.whl"
    # Without Python's headers it is not even asked.
    assert "cc-that-fails" in note(wheel) or "Python.h" in note(wheel)
    assert f"balsad: installed without compiled modules: {note(wheel)}\n" in said


def test_who_insists_is_told_what_failed(tmp_path: Path, failing_compiler: str) -> None:
    wheel, said = build(tmp_path / "package", CC=failing_compiler, BALSAD_COMPILE="1")

    assert wheel is None
    assert "balsad: cannot be compiled: " in said


def test_a_wheel_says_why_it_is_not_compiled(tmp_path: Path) -> None:
    """The whole package, packed and unpacked: its version, and its tools."""
    environ = {"PATH": os.environ["PATH"], "BALSAD_COMPILE": "0"}
    wanted = ["bdist_wheel", "-q", f"--dist-dir={tmp_path}", f"--bdist-dir={tmp_path}/bdist"]
    command = [
        sys.executable,
        "setup.py",
        "-q",
        "egg_info",
        f"--egg-base={tmp_path}",
        "build",
        f"--build-base={tmp_path}/b",
    ]
    subprocess.run([*command, *wanted], cwd=ROOT, env=environ, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "unpacked")
    environ["PYTHONPATH"] = str(tmp_path / "unpacked")

    def said(module: str, *arguments: str) -> str:
        program = f"import sys; from {module} import main; sys.exit(main())"
        command = [sys.executable, "-c", program, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    assert wheel.name.endswith("-py3-none-any.whl")
    form = json.loads(said("balsad.__main__", "--version").splitlines()[4])
    assert (form["compiled"], form["not-compiled-because"]) == (False, "BALSAD_COMPILE is 0")
    assert said("balsad.ctl.etcdctl", "version") == "etcdctl version: 3.5.1\nAPI version: 3.5\n"
    assert said("balsad.ctl.etcdutl", "version") == "etcdutl version: 3.5.1\nAPI version: 3.5\n"
