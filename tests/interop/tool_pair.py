"""Two command line tools side by side: the same lines, each on its own server, and what they print compared.

A line is shell; `etcdctl` and `etcdutl` in it are the tool under comparison, and
ETCDCTL_ENDPOINTS names its server (`$EP` does too, for lines that set --endpoints).
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.interop.servers import clean_environment

LINE_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Printed:
    """What a line left behind."""

    status: int
    out: str
    err: str


class Tool:
    """etcdctl and etcdutl of one make, and where their server is."""

    def __init__(self, name: str, folder: Path, commands: dict[str, list[str]], endpoint: str = "") -> None:
        self.name = name
        self.folder = folder / name
        self.endpoint = endpoint
        bin_folder = self.folder / "bin"
        bin_folder.mkdir(parents=True)
        for tool, command in commands.items():
            path = bin_folder / tool
            path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
            path.chmod(0o755)
        self.env = {
            **clean_environment(),
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            # Compiled files are kept, as an installed tool's are.
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(folder / "pycache"),
            "EP": endpoint,
            "LC_ALL": "C",
        }
        if endpoint:
            self.env["ETCDCTL_ENDPOINTS"] = endpoint

    def start(self, line: str) -> subprocess.Popen[bytes]:
        """A shell of its own process group that runs the line."""
        return subprocess.Popen(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def finish(self, process: subprocess.Popen[bytes]) -> Printed:
        """Wait for it, and mask what differs between two runs of the same tool."""
        try:
            out, err = process.communicate(timeout=LINE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            err += b"\n(killed: it took too long)"
        return Printed(process.returncode, self.mask(out), _without_logs(self.mask(err)))

    def run(self, line: str) -> Printed:
        return self.finish(self.start(line))

    def mask(self, data: bytes) -> str:
        text = data.decode("utf-8", "backslashreplace")
        if self.endpoint:
            text = text.replace(self.endpoint.removeprefix("http://").removeprefix("https://"), "EP")
        for pattern, replacement in MASKS:
            text = re.sub(pattern, replacement, text)
        return text


MASKS: Sequence[tuple[str, str]] = (
    (r"127\.0\.0\.1:\d{4,5}", "HOST"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d{4})", "TIME"),
    (r"took = \S+|\"took\":\"[^\"]*\"|\"Took\" : \S+|\d+(\.\d+)?(ms|\u00b5s)\b", "TOOK"),
    (r"\b\d+(\.\d+)? (k|M|G)?B\b", "SIZE"),
    (r"(\"(?:raft_term|raftTerm|raftIndex|raftAppliedIndex|dbSize|dbSizeInUse|leader|hash)\":)\d+", r"\1N"),
    (r"(\"(?:RaftTerm|RaftIndex|RaftAppliedIndex|DBSize|Leader|Hash|ClusterID|MemberID|ID)\" : )\d+", r"\1N"),
    (r"(\"(?:cluster_id|member_id|ID|id|memberID|lease)\":)\d{6,}", r"\1N"),
    (r"\b[0-9a-f]{14,16}\b", "ID"),
    (r"\b\d{17,20}\b", "ID"),
    (r"-{4,}", "----"),
    (r" {2,}", " "),
)


def _without_logs(text: str) -> str:
    """Standard error without what the Go client logs beside etcdctl's own words."""
    return "\n".join(line for line in text.splitlines() if not line.startswith('{"level"'))


def ours_commands() -> dict[str, list[str]]:
    return {
        tool: [sys.executable, "-c", f"import sys; sys.argv[0] = {tool!r}; from balsad.ctl.{tool} import main; main()"]
        for tool in ("etcdctl", "etcdutl")
    }


def compare(ours: Tool, theirs: Tool, line: str) -> Printed:
    """Both run the line; what ours left must be what theirs left."""
    processes = [tool.start(line) for tool in (ours, theirs)]
    mine, want = (tool.finish(process) for tool, process in zip((ours, theirs), processes, strict=True))
    assert mine == want, f"{line}\n  theirs: {want}\n  ours:   {mine}"
    return mine
