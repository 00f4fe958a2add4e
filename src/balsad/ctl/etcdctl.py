"""The etcdctl command line."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from balsad.ctl.command import execute
from balsad.ctl.console import EXIT_ERROR, Console, Exit, Failure, leave

if TYPE_CHECKING:
    from balsad.ctl.command import Command


def main() -> None:
    """Run etcdctl with the process's arguments and end the process."""
    console = Console()
    leave(console, run(console, sys.argv[1:]))


def run(console: Console, args: list[str]) -> int:
    """Run etcdctl; gives its exit status."""
    # As a Go program: an interrupt ends the process by its signal.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    api = os.environ.pop("ETCDCTL_API", "")
    if api == "2":
        from balsad.ctl.etcdctl_v2 import run_v2

        return guarded(console, lambda: run_v2(console, args))
    if api not in ("", "3"):
        console.error(f"unsupported API version: {api}")
        return EXIT_ERROR
    from balsad.ctl.etcdctl_tree import make_root
    from balsad.ctl.usage import etcdctl_usage

    return guarded(console, lambda: execute(make_root(), console, args, etcdctl_usage, _run_command))


def guarded(console: Console, action: object) -> int:
    """Run a command; what ends it early becomes its exit status."""
    assert callable(action)
    try:
        status: int = action()
    except Failure as failure:
        console.error(f"Error: {failure.text}")
        return failure.status
    except Exit as ended:
        return ended.status
    except BrokenPipeError:
        return EXIT_ERROR
    return status


def _run_command(command: Command, console: Console, args: list[str]) -> None:
    from importlib import import_module

    from balsad.ctl.context import Context

    module, _, function = command.run.partition(":")
    getattr(import_module(module), function)(Context(command, console), args)
