"""`etcdutl snapshot status` and `restore`. Source: etcdutl snapshot_command.go."""

from __future__ import annotations

import os

from balsad.ctl.command import Command
from balsad.ctl.console import EXIT_BAD_ARGS, EXIT_BAD_FEATURE, EXIT_ERROR, Console, Failure
from balsad.ctl.flags import FlagSet


def save(command: Command, console: Console, args: list[str]) -> None:
    raise Failure(EXIT_BAD_ARGS, "In order to download snapshot use: `etcdctl snapshot save ...`")


def status(command: Command, console: Console, args: list[str]) -> None:
    print_status(command.merged_flags, console, args)


def restore(command: Command, console: Console, args: list[str]) -> None:
    restore_from_flags(command.merged_flags, console, args)


def print_status(flags: FlagSet, console: Console, args: list[str]) -> None:
    """Print what a snapshot file holds."""
    from balsad.ctl.printers import make_printer

    if len(args) != 1:
        raise Failure(EXIT_BAD_ARGS, "snapshot status requires exactly one argument")
    printer = make_printer(flags.text("write-out"), console, False)
    if printer is None:
        raise Failure(EXIT_BAD_FEATURE, "unsupported output format")
    if not os.path.exists(args[0]):
        raise Failure(EXIT_ERROR, f"stat {args[0]}: no such file or directory")
    raise Failure(EXIT_ERROR, "snapshot status is not there yet")


def restore_from_flags(flags: FlagSet, console: Console, args: list[str]) -> None:
    """Make a data directory of a snapshot file."""
    if len(args) != 1:
        raise Failure(EXIT_BAD_ARGS, "snapshot restore requires exactly one argument")
    raise Failure(EXIT_ERROR, "snapshot restore is not there yet")
