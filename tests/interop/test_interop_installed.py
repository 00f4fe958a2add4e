"""balsad as pip installs it, each time into a virtualenv of its own: both forms, what leads to them, and what is left.

From a copy of the tracked files and from the sdist made of them. Takes about ten minutes: BALSAD_SOAK=1. pip asks its
index for what a build needs.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.servers import Program, clean_environment, etcdutl, finish, run_tool, start

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.skipif(not os.environ.get("BALSAD_SOAK"), reason="takes ten minutes: BALSAD_SOAK=1"),
    pytest.mark.timeout(3600),
]

COMPILER = shlex.split(sysconfig.get_config_var("CC") or "cc")[0]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The tracked files, as a clone has them."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listing.split("\0")):
        if (ROOT / name).is_file():
            (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / "checkout" / name)
    return tmp_path / "checkout"


@pytest.fixture
def unpacked_sdist(checkout: Path, tmp_path: Path) -> Path:
    backend = (
        "import sys; sys.path.insert(0, 'tools'); import compiled_build; print(compiled_build.build_sdist('dist'))"
    )
    subprocess.run([sys.executable, "-c", backend], cwd=checkout, capture_output=True, check=True)
    (packed,) = (checkout / "dist").glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path / "sdist", filter="data")
    (folder,) = (tmp_path / "sdist").iterdir()
    return folder


class Venv:
    """A virtualenv outside the house; its programs see no PYTHONPATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        self.before = set(self._files())

    def _files(self) -> Iterator[Path]:
        for path in self.folder.rglob("*"):
            if path.name != "__pycache__" and path.suffix != ".pyc":
                yield path

    def command(self, name: str) -> tuple[str, ...]:
        return ("/usr/bin/env", "-u", "PYTHONPATH", str(self.folder / "bin" / name))

    def pip(self, *arguments: str, **environ: str) -> str:
        command = [*self.command("python"), "-m", "pip", *arguments]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**clean_environment(), **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    def tag(self) -> str:
        (wheel,) = self.folder.glob("lib/python*/site-packages/balsad-*.dist-info/WHEEL")
        (tag,) = [line for line in wheel.read_text().splitlines() if line.startswith("Tag: ")]
        return tag.removeprefix("Tag: ")

    def form(self) -> str:
        status, told = finish(*self.command("etcd"), "--version")
        lines = told.splitlines()
        assert status == 0
        assert lines[0] == "etcd Version: 3.5.1"
        return lines[4]

    def serves(self, folder: Path, *flags: str) -> str:
        """Put, get, back up and look at the backup, with the installed programs alone; what the log says who it is."""
        with start(Program("installed balsad", self.command("etcd")), folder / "data", *flags) as member:
            tool = [*self.command("etcdctl"), f"--endpoints={member.client_url}"]
            assert run_tool(*tool, "put", "a", "1") == "OK\n"
            assert run_tool(*tool, "get", "a") == "a\n1\n"
            assert member.etcdctl("get", "a") == "a\n1\n"
            backup = str(folder / "backup.db")
            run_tool(*tool, "snapshot", "save", backup)
        assert run_tool(*self.command("etcdutl"), "snapshot", "status", backup) == etcdutl("snapshot", "status", backup)
        return next(
            line for line in member.log_path.read_text().splitlines() if "balsad takes the part of etcd" in line
        )

    def without_balsad(self) -> list[Path]:
        """What is there after `pip uninstall`, beside what was there before and what belongs to others."""
        self.pip("uninstall", "-y", "balsad")
        others = {"bcrypt", "crc32c", "google", "hpack", "protobuf", "sortedcontainers", "uvloop", "yaml", "_yaml"}
        others |= {"jwt", "cryptography", "cffi", "pycparser", "PyYAML", "PyJWT", "pyjwt", "pyyaml", "_cffi_backend"}

        def is_of_others(path: Path) -> bool:
            part = path.relative_to(self.folder).parts
            names = part[3:4] if part[0] == "lib" else part[1:2]
            return not names or names[0].split("-")[0].split(".")[0] in others

        return [path for path in self._files() if path not in self.before and not is_of_others(path)]


@pytest.mark.real
def test_compiled_from_a_checkout_with_all_extras(checkout: Path, tmp_path: Path) -> None:
    if shutil.which(COMPILER) is None:
        pytest.skip(f"there is no C compiler ({COMPILER})")
    venv = Venv(tmp_path / "venv")
    (tmp_path / "key").write_text("a secret of some length, as HS256 has\n" * 2)

    told = venv.pip("install", "-v", f"{checkout}[jwt,auto-tls]")

    assert "balsad: compiling " in told
    assert '"compiled":true' in venv.form()
    assert venv.tag() == "cp{0}{1}-cp{0}{1}-{2}".format(
        *sys.version_info[:2], sysconfig.get_platform().replace("-", "_").replace(".", "_")
    )
    who = venv.serves(
        tmp_path, f"--auth-token=jwt,sign-method=HS256,priv-key={tmp_path}/key", "--auto-tls", "--peer-auto-tls"
    )
    assert '"compiled":true' in who
    assert venv.without_balsad() == []


@pytest.mark.real
@pytest.mark.parametrize("how", ["told not to", "no compiler", "a compiler that fails half-way"])
def test_pure_from_the_sdist(how: str, unpacked_sdist: Path, tmp_path: Path) -> None:
    venv = Venv(tmp_path / "venv")
    if how == "told not to":
        environ, why = {"BALSAD_COMPILE": "0"}, "BALSAD_COMPILE is 0"
    elif how == "no compiler":
        environ, why = {"CC": "no-such-compiler"}, "there is no C compiler (no-such-compiler)"
    else:
        if shutil.which(COMPILER) is None:
            pytest.skip(f"there is no C compiler ({COMPILER})")
        failing = tmp_path / "tiring-cc"
        calls = tmp_path / "calls"
        count = f"echo >>{calls}; [ $(wc -l <{calls}) -le 20 ] || exit 1"
        failing.write_text(f'#!/bin/sh\n{count}\nexec {COMPILER} "$@"\n')
        failing.chmod(0o755)
        environ, why = {"CC": str(failing)}, "tiring-cc"

    told = venv.pip("install", "-v", str(unpacked_sdist), **environ)

    assert "balsad: installed without compiled modules: " in told
    assert venv.tag() == "py3-none-any"
    assert '"compiled":false' in venv.form() and why in venv.form()
    assert not list(venv.folder.glob("lib/python*/site-packages/balsad/**/*.so"))
    assert not list(venv.folder.glob("lib/python*/site-packages/balsad__mypyc*"))
    who = venv.serves(tmp_path)
    assert '"compiled":false' in who and why in who
    assert venv.without_balsad() == []
