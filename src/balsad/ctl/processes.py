"""Other processes and signals, while the small loop goes on: a lock is kept alive as its command runs.

Source: Go's os/exec, for what its errors say.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from typing import Any, Final

from balsad.client.loops import SmallLoop, sleep
from balsad.go_quote import quote_go

_POLL_S: Final = 0.02


class ProcessError(Exception):
    """A command that could not be started, or did not end well; `status` is its exit status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


async def run_process(loop: SmallLoop, args: list[str], env: Mapping[str, str]) -> None:
    """Run a command to its end, with no input. Raises ProcessError."""
    path = _look_up(args[0])
    null = os.open(os.devnull, os.O_RDONLY)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, null, 0)]
        # Signals that this process gives to the loop must be the child's own again.
        reset = [signal.SIGINT, signal.SIGTERM, signal.SIGPIPE]
        pid = os.posix_spawn(path, args, dict(env), file_actions=actions, setsigdef=reset)
    except OSError as error:
        text = (error.strerror or str(error)).lower()
        raise ProcessError(f"fork/exec {path}: {text}", 1) from error
    finally:
        os.close(null)
    code = os.waitstatus_to_exitcode(await _wait(loop, pid))
    if code < 0:
        raise ProcessError(f"signal: {_signal_text(-code)}", -1)
    if code:
        raise ProcessError(f"exit status {code}", code)


async def _wait(loop: SmallLoop, pid: int) -> int:
    """The wait status of a child once it has ended."""
    try:
        handle = os.pidfd_open(pid)
    except (AttributeError, OSError):
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return status
            await sleep(loop, _POLL_S)
    done = loop.create_future()
    loop.watch(handle, lambda: None if done.done() else done.set_result(None))
    try:
        await done
    finally:
        loop.watch(handle, None)
        os.close(handle)
    return os.waitpid(pid, 0)[1]


def _look_up(name: str) -> str:
    """The file that a command's name means. Raises ProcessError."""
    if "/" in name:
        if os.path.exists(name):
            return name
        raise ProcessError(f"fork/exec {name}: no such file or directory", 1)
    for folder in os.environ.get("PATH", "").split(":"):
        path = os.path.join(folder or ".", name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise ProcessError(f"exec: {quote_go(name)}: executable file not found in $PATH", 1)


def _signal_text(number: int) -> str:
    known = {1: "hangup", 2: "interrupt", 3: "quit", 6: "aborted", 9: "killed", 11: "segmentation fault"}
    return known.get(number) or {13: "broken pipe", 14: "alarm clock", 15: "terminated"}.get(number, f"signal {number}")


def on_signals(loop: SmallLoop, callback: Callable[[], Any]) -> None:
    """Call back in the loop at the first SIGINT or SIGTERM."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.set_blocking(reader, False)

    def read() -> None:
        os.read(reader, 64)
        callback()

    loop.watch(reader, read)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: None)
