"""The etcdutl command line."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from balsad.ctl.command import execute
from balsad.ctl.console import Console, leave
from balsad.ctl.etcdctl import guarded

if TYPE_CHECKING:
    from balsad.ctl.command import Command


def main() -> None:
    """Run etcdutl with the process's arguments and end the process."""
    console = Console()
    leave(console, run(console, sys.argv[1:]))


def run(console: Console, args: list[str]) -> int:
    """Run etcdutl; gives its exit status."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    from balsad.ctl.etcdutl_tree import make_root
    from balsad.ctl.usage import cobra_usage

    return guarded(console, lambda: execute(make_root(), console, args, cobra_usage, _run_command))


def _run_command(command: Command, console: Console, args: list[str]) -> None:
    from importlib import import_module

    module, _, function = command.run.partition(":")
    getattr(import_module(module), function)(command, console, args)
