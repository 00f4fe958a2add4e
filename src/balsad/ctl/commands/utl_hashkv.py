"""`etcdutl hashkv`."""

from __future__ import annotations

from balsad.ctl.command import Command
from balsad.ctl.console import EXIT_BAD_ARGS, EXIT_ERROR, Console, Failure


def run(command: Command, console: Console, args: list[str]) -> None:
    if len(args) != 1:
        raise Failure(EXIT_BAD_ARGS, "hashkv requires exactly one argument")
    raise Failure(EXIT_ERROR, "hashkv is not there yet")
