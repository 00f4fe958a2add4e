"""The command `etcd` around its configuration: what it refuses, logs and gives back."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from balsad import __version__
from balsad.__main__ import main
from balsad.config import ServerConfig, StartError

served: list[ServerConfig] = []


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No variables, a folder of its own, logging as before afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    monkeypatch.setattr("os.environ", {})
    monkeypatch.chdir(tmp_path)
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A stand-in for balsad.main whose member ends at once."""
    module = types.ModuleType("balsad.main")

    def serve(config: ServerConfig) -> int:
        served[:] = [config]
        return 7

    def serve_proxy(config: ServerConfig) -> int:
        served[:] = [config]
        return 8

    module.serve = serve  # type: ignore[attr-defined]
    module.serve_proxy = serve_proxy  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "balsad.main", module)
    return module


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_a_start_tells_who_serves(room: types.ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    code = main(["etcd", "--name", "a"])

    told = lines(capfd.readouterr().err)
    assert code == 7
    assert served[0].name == "a"
    assert [line["msg"] for line in told if line["msg"] != "failed to detect default host"] == [
        "Running: ",
        "'data-dir' was empty; using default",
        "balsad takes the part of etcd",
    ]
    assert told[0]["args"] == ["etcd", "--name", "a"]
    assert told[-1]["version"] == __version__
    assert told[-1]["compiled"] in (True, False)


def test_a_member_that_cannot_start(room: types.ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    """Source: etcdmain.startEtcdOrProxyV2: in etcd's words, whatever it was that failed."""

    def serve(config: ServerConfig) -> int:
        raise StartError("listen tcp 127.0.0.1:2380: bind: address already in use")

    room.serve = serve  # type: ignore[attr-defined]

    assert main(["etcd"]) == 1
    told = lines(capfd.readouterr().err)
    assert [(line["level"], line["msg"]) for line in told[-2:]] == [
        ("warn", "failed to start etcd"),
        ("fatal", "discovery failed"),
    ]
    assert told[-1]["error"] == "listen tcp 127.0.0.1:2380: bind: address already in use"


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("--auto-compaction-retention=x", 'error parsing CompactionRetention: time: invalid duration "x"'),
        ("--cipher-suites=x", 'unexpected TLS cipher suite "x"'),
    ],
)
def test_what_is_refused_before_anything_opens(
    room: types.ModuleType, capfd: pytest.CaptureFixture[str], flag: str, reason: str
) -> None:
    served.clear()

    assert main(["etcd", flag]) == 1
    assert lines(capfd.readouterr().err)[-1]["error"] == reason
    assert served == []


def test_what_lies_in_the_data_folder_is_told(
    room: types.ModuleType, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "d" / "member").mkdir(parents=True)
    (tmp_path / "d" / "note").touch()

    main(["etcd", "--data-dir=d"])

    told = {str(line["msg"]): line for line in lines(capfd.readouterr().err)}
    assert told["found invalid file under data directory"]["filename"] == "note"
    assert told["server has been already initialized"]["dir-type"] == "member"


@pytest.mark.parametrize(
    ("folder", "flag", "code"),
    [
        ("member", "--proxy=on", 7),
        ("proxy", "--proxy=off", 8),
        ("note", "--proxy=readonly", 8),
        ("note", "--proxy=off", 7),
    ],
)
def test_the_data_folder_says_what_is_started(
    room: types.ModuleType, tmp_path: Path, folder: str, flag: str, code: int
) -> None:
    """Source: etcdmain.startEtcdOrProxyV2: the flag does for a folder that is nobody's."""
    (tmp_path / "d" / folder).mkdir(parents=True)

    assert main(["etcd", "--data-dir=d", flag]) == code


def test_a_data_folder_of_both(room: types.ModuleType, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for folder in ("member", "proxy"):
        (tmp_path / "d" / folder).mkdir(parents=True)

    assert main(["etcd", "--data-dir=d"]) == 1
    error = lines(capfd.readouterr().err)[-1]["error"]
    assert error == "invalid datadir; both member and proxy directories exist"


def test_a_log_file_that_cannot_be_opened(room: types.ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["etcd", "--log-outputs=no/log"]) == 1
    assert lines(capfd.readouterr().err)[-1]["error"] == (
        'couldn\'t open sink "no/log": open no/log: no such file or directory'
    )


def test_logs_go_where_they_are_sent(room: types.ModuleType, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["etcd", "--log-outputs=etcd.log", "--log-format=console", "--log-level=warn"])

    assert capfd.readouterr().err == ""
    (line,) = (tmp_path / "etcd.log").read_text().splitlines()
    assert line.split("\t")[1] == "warn"


@pytest.mark.parametrize(
    ("python_flags", "arguments", "code", "said"),
    [
        (["-O"], ["--version"], 1, "etcd: invariants are checked by assertions, start Python without -O\n"),
        ([], ["--nope"], 2, "flag provided but not defined: -nope\n"),
    ],
)
def test_as_a_process(python_flags: list[str], arguments: list[str], code: int, said: str) -> None:
    command = [sys.executable, *python_flags, "-m", "balsad", *arguments]

    ended = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": os.defpath})

    assert ended.returncode == code
    assert ended.stderr.startswith(said)
