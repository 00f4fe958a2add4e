"""Standard streams of a command, and the ways it ends."""

from __future__ import annotations

import os
import signal
import sys
from typing import Final, NoReturn

from balsad.ctl.go_text import bytes_of

EXIT_OK: Final = 0
EXIT_ERROR: Final = 1
EXIT_BAD_CONNECTION: Final = 2
EXIT_INVALID_INPUT: Final = 3
EXIT_BAD_FEATURE: Final = 4
EXIT_INTERRUPTED: Final = 5
EXIT_BAD_ARGS: Final = 128


class Exit(Exception):
    """The command is over, with this status; what was to be said is said."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Failure(Exit):
    """The command is over with an error that is still to be printed."""

    def __init__(self, status: int, text: object) -> None:
        super().__init__(status)
        self.text = str(text)


class Console:
    """Output that is written when somebody could look: before an error, before waiting, at the end."""

    def __init__(self, out_fd: int = 1, error_fd: int = 2) -> None:
        self._out_fd = out_fd
        self._error_fd = error_fd
        self._out: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        self._out.append(data)
        self._size += len(data)
        if self._size > 1 << 20:
            self.flush()

    def print(self, text: str) -> None:
        """A line on standard output."""
        self.write(bytes_of(text) + b"\n")

    def error(self, text: str) -> None:
        """A line on standard error, after all that was printed before it."""
        self.flush()
        _write_all(self._error_fd, bytes_of(text) + b"\n")

    def flush(self) -> None:
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            self._size = 0
            _write_all(self._out_fd, data)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except BrokenPipeError:
        if fd not in (1, 2):
            raise
        # As a Go program: who writes to a pipe that nobody reads ends by that signal. Its default action from the
        # start would also end whoever writes to a connection that the server has just closed.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)


def read_all_stdin() -> bytes:
    """Everything on standard input."""
    return sys.stdin.buffer.read()


def leave(console: Console, status: int) -> NoReturn:
    """End the process at once, without taking apart what the kernel takes apart anyway."""
    try:
        console.flush()
    except OSError:
        status = status or EXIT_ERROR
    os._exit(status)
