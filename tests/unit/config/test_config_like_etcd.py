"""The real etcd 3.5.1 judges the command line: same words, same exit code, for lines that end at once."""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import balsad
from balsad.__main__ import main
from balsad.config.form import is_compiled
from tests.real import real_etcd

LOCAL = [
    "--listen-client-urls=http://127.0.0.1:0",
    "--advertise-client-urls=http://127.0.0.1:0",
    "--listen-peer-urls=http://127.0.0.1:0",
]


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


def told(output: str) -> list[object]:
    """The lines of an output, log lines without what differs between two runs."""
    lines: list[object] = []
    for text in output.splitlines():
        if text.startswith("{"):
            line = json.loads(text)
            if line["msg"] == "balsad takes the part of etcd":
                continue  # ours alone, beside the lines that are etcd's
            line["ts"] = type(line["ts"]).__name__
            for key in ("caller", "stacktrace"):
                line.pop(key, None)
            if "args" in line:
                line["args"][0] = "etcd"
            lines.append(line)
        else:
            lines.append(text)
    return lines


def same(
    arguments: list[str],
    folder: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str] | None = None,
) -> int:
    """Assert that both say the same; the exit code."""
    environ = {"PATH": "/usr/bin", **(environ or {})}
    real = subprocess.run(
        [real_etcd(), *arguments], cwd=folder, env=environ, capture_output=True, text=True, timeout=20, check=False
    )
    monkeypatch.chdir(folder)
    monkeypatch.setattr("os.environ", environ)
    capfd.readouterr()
    code = main(["etcd", *arguments])
    ours = capfd.readouterr()
    assert told(ours.err) == told(real.stderr)
    assert told(ours.out) == told(real.stdout)
    assert code == real.returncode
    return code


USAGE_ERRORS = [
    ["--nosuchflag"],
    ["-nosuchflag=1"],
    ["--name"],
    ["---name", "x"],
    ["--=x"],
    ["-=x"],
    ["--version=x"],
    ["--pre-vote=maybe"],
    ["--pre-vote="],
    ["--heartbeat-interval=abc"],
    ["--heartbeat-interval="],
    ["--heartbeat-interval", "-1"],
    ["--heartbeat-interval", "08"],
    ["--heartbeat-interval", "1__0"],
    ["--heartbeat-interval", " 1"],
    ["--max-txn-ops=99999999999999999999"],
    ["--quota-backend-bytes=1e3"],
    ["--quota-backend-bytes=9223372036854775808"],
    ["--grpc-keepalive-min-time=5"],
    ["--grpc-keepalive-min-time=5x"],
    ["--initial-cluster-state=old"],
    ["--discovery-fallback=no"],
    ["--proxy=maybe"],
    ["--v2-deprecation=not-yet,soon"],
    ["--listen-peer-urls", "foo"],
    ["--listen-peer-urls", "http://"],
    ["--listen-peer-urls", "http://a"],
    ["--listen-peer-urls", "http://a:1/"],
    ["--listen-peer-urls", "http://a:1/x"],
    ["--listen-peer-urls", "http://a b:1"],
    ["--listen-peer-urls", "http://a:b"],
    ["--listen-peer-urls", "http://[::1:1"],
    ["--listen-peer-urls", "http://[::1]x:1"],
    ["--listen-peer-urls", "http://[::1]"],
    ["--listen-peer-urls", "http://::1:1"],
    ["--listen-peer-urls", "http://a:1,"],
    ["--listen-peer-urls", "http://%zz:1"],
    ["--listen-peer-urls", "http://a\x01:1"],
    ["--listen-peer-urls", "ftp://a:1"],
    ["--listen-peer-urls", "localhost:2380"],
    ["--listen-peer-urls", "127.0.0.1:2380"],
    ["--listen-peer-urls", ":2380"],
    ["--listen-peer-urls", "/a:b"],
    ["--listen-peer-urls", "//a:1"],
    ["--listen-peer-urls", "http:/a:1"],
    ["--listen-peer-urls", "unix:///tmp/x"],
    ["--cors", "example.com"],
    ["--cors", ""],
]


@pytest.mark.real
@pytest.mark.parametrize("arguments", USAGE_ERRORS, ids=" ".join)
def test_usage_errors(
    arguments: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Source: Go flag.FlagSet.parseOne."""
    assert same(arguments, tmp_path, capfd, monkeypatch) == 2


REFUSED = [
    ["foo"],
    ["--name", "a", "foo"],
    ["--", "--name"],
    ["-"],
    ["--pre-vote", "maybe"],
    ["--listen-client-urls=http://127.0.0.1:0"],
    ["--listen-client-urls="],
    [*LOCAL, "--election-timeout=300"],
    [*LOCAL, "--election-timeout=60000"],
    [*LOCAL, "--election-timeout=0"],
    [*LOCAL, "--heartbeat-interval=0"],
    [*LOCAL, "--heartbeat-interval=0x2_0", "--election-timeout=0b11"],
    [*LOCAL, "--log-outputs=default,stdout"],
    [*LOCAL, "--logger=capnslog"],
    [*LOCAL, "--logger=foo"],
    [*LOCAL, "--log-outputs=stdout", "--election-timeout=0"],
    [*LOCAL, "--log-outputs=stderr,stdout", "--election-timeout=0"],
    [*LOCAL, "--log-outputs=/nonexistent/folder/file"],
    [*LOCAL, "--log-level=warn", "--election-timeout=0"],
    [*LOCAL, "--log-level=error", "--election-timeout=0"],
    [*LOCAL, "--listen-peer-urls=http://example.com:1"],
    [*LOCAL, "--listen-metrics-urls=http://example.com:1"],
    [*LOCAL, "--listen-peer-urls=http://:1"],
    [*LOCAL, "--advertise-client-urls=http://:5,http://a:5"],
    [*LOCAL, "--initial-advertise-peer-urls=http://:5"],
    [*LOCAL, "--discovery=http://127.0.0.1:1/x", "--initial-cluster=default=http://localhost:2380"],
    [*LOCAL, "--discovery-srv=example.com", "--discovery=http://127.0.0.1:1/x"],
    [*LOCAL, "--auto-compaction-mode=foo"],
    [*LOCAL, "--raft-read-timeout=1s", "--raft-write-timeout=4999ms", "--election-timeout=0"],
    [*LOCAL, "--enable-log-rotation", "--election-timeout=0"],
    [*LOCAL, "--enable-log-rotation", "--log-outputs=/a,/b"],
    ["--discovery=http://127.0.0.1:1/x", "--listen-client-urls=http://127.0.0.1:0", "--discovery-fallback=exit"],
    ["-v", "--vv=3", "--snapshot", "--election-timeout=0"],
]


@pytest.mark.real
@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_refused_configurations(
    arguments: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Source: etcd Config.Validate."""
    assert same(arguments, tmp_path, capfd, monkeypatch) == 1


def test_a_line_of_the_log_tells_whose_version_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    """What reads etcd's four lines, reads them and nothing else."""
    assert main(["etcd", "--version"]) == 0

    said = capfd.readouterr()
    of_etcd = said.out.splitlines()
    assert [line.partition(": ")[0] for line in of_etcd] == ["etcd Version", "Git SHA", "Go Version", "Go OS/Arch"]
    (line,) = said.err.splitlines()
    ours = json.loads(line)
    assert ours["msg"] == "balsad takes the part of etcd"
    assert (ours["version"], ours["compiled"]) == (balsad.__version__, is_compiled())


@pytest.mark.real
@pytest.mark.parametrize(
    "arguments", [["--version"], ["-version=true"], ["--help"], ["-h"], ["--name", "a", "-help=x"]]
)
def test_answers(
    arguments: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert same(arguments, tmp_path, capfd, monkeypatch) == 0


ENVIRONMENTS = [
    {"ETCD_NAME": "x", "ETCD_NO_SUCH": "bar"},
    {"ETCD_NAME": ""},
    {"ETCD_PRE_VOTE": "maybe", "ETCD_HEARTBEAT_INTERVAL": "x"},
    {"ETCD_LISTEN_CLIENT_URLS": "x"},
    {"ETCD_ELECTION_TIMEOUT": "5"},
    {"ETCD_NO_SUCH": "1", "ETCD_ELECTION_TIMEOUT": ""},
    {"ETCD_VERSION": "1", "ETCD_V": "1", "ETCD_CONFIG": "x"},
    {"ETCD_CONFIG_FILE": "/nonexistent"},
    {"ETCD_RAFT_READ_TIMEOUT": "1s"},
    {"ETCD_INITIAL_CLUSTER_STATE": "old"},
]


@pytest.mark.real
@pytest.mark.parametrize("environ", ENVIRONMENTS, ids=str)
def test_environments(
    environ: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Source: etcd pkg/flags SetFlagsFromEnv."""
    assert same(["--election-timeout", "3"], tmp_path, capfd, monkeypatch, environ) == 1


FILES = [
    "election-timeout: 3",
    "Election-Timeout: 3",
    "election-timeout: foo",
    "election-timeout: -3",
    "election-timeout: 1.5",
    "election-timeout: true",
    "grpc-keepalive-min-time: 5s",
    "listen-peer-urls: foo",
    "listen-peer-urls: [http://localhost:2380]",
    "listen-client-urls: http://a",
    "initial-advertise-peer-urls: foo",
    "advertise-client-urls: foo",
    "listen-metrics-urls: foo",
    "log-outputs: stderr",
    "log-outputs: [1]",
    "name: 12",
    "name: [1]",
    "name: {a: 1}",
    "name: null\nelection-timeout: 3",
    "- a",
    "word",
    "pre-vote: x",
    "initial-cluster-state: foo",
    "initial-cluster-state: ''\nelection-timeout: 3",
    "auto-compaction-mode: foo",
    "client-transport-security: 3",
    "client-transport-security: {cert-file: 3}",
    "peer-transport-security: {client-cert-auth: yep}",
    '{"election-timeout": 3, "no-such-key": {}}',
    "logger: foo",
    "cipher-suites: [a]\nelection-timeout: 3",
    "discovery: x\nelection-timeout: 3",
    "discovery: x\ninitial-cluster: a=http://a:1",
]


@pytest.mark.real
@pytest.mark.parametrize("text", FILES)
def test_configuration_files(
    text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Source: etcd embed.ConfigFromFile."""
    (tmp_path / "etcd.yaml").write_text(text)

    assert same(["--config-file", "etcd.yaml", "--name=ignored"], tmp_path, capfd, monkeypatch) == 1


@pytest.mark.real
def test_a_missing_configuration_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert same(["--config-file=no.yaml"], tmp_path, capfd, monkeypatch) == 1
