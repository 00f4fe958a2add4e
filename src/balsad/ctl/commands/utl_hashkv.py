"""`etcdutl hashkv`. Source: etcdutl hashkv_command.go of 3.6."""

from __future__ import annotations

from balsad.ctl.command import Command
from balsad.ctl.commands.utl_snapshot import printer_of
from balsad.ctl.console import EXIT_ERROR, Console, Failure


def run(command: Command, console: Console, args: list[str]) -> None:
    if len(args) != 1:
        raise Failure(EXIT_ERROR, f"accepts 1 arg(s), received {len(args)}")
    flags = command.merged_flags
    printer = printer_of(flags, console)
    from balsad.ops.errors import OpsError
    from balsad.ops.hashkv import hashkv

    try:
        printer.db_hash_kv(hashkv(args[0], flags.number("rev")))
    except OpsError as error:
        raise Failure(EXIT_ERROR, error) from error
