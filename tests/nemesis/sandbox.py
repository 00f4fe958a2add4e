"""A world of its own for a test: network, mounts and processes that are gone when the test is, whatever happens.

`run(name, folder)` starts `python -m tests.nemesis.body name folder` (or another body) as the first process of new
namespaces. There everything may be cut, filled and killed; nothing outside notices.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.servers import clean_environment

SKIPPED = 77  # the body's exit status that means: not possible here
INTO = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
ROOT = Path(__file__).resolve().parents[2]

PROBE = """
set -e
mount -t tmpfs tmpfs /run
ip link set lo up
ip link add probe0 type bridge
ip netns add probe
ip netns exec probe iptables -w -A INPUT -s 192.0.2.1 -j DROP
"""


@functools.cache
def why_not() -> str:
    """Why such a world can't be made here; empty when it can."""
    missing = [tool for tool in ("unshare", "ip", "iptables", "mount") if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not found"
    try:
        probe = subprocess.run(
            [*INTO, "sh", "-c", PROBE],
            capture_output=True,
            text=True,
            timeout=30,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no namespaces: {error}"
    if probe.returncode != 0:
        return f"no namespaces: {(probe.stderr or probe.stdout).strip()}"
    return ""


def run(name: str, folder: Path, seconds: float, body: str = "tests.nemesis.body") -> None:
    """Play what `body` knows as `name` (several with commas between); fails or skips the test as the body says."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    command = [*INTO, sys.executable, "-m", body, name, str(folder)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            env=clean_environment(),
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        said = late.stdout.decode("utf-8", "replace") if late.stdout else ""
        pytest.fail(f"{name} did not end within {seconds} s\n{said}")
    if done.returncode == SKIPPED:
        pytest.skip(done.stdout.strip())
    print(done.stdout)
    if done.returncode != 0:
        pytest.fail(f"{name}: {done.returncode}\n{done.stdout}\n{done.stderr}")
