"""`etcdutl snapshot status` and `restore`. Source: etcdutl snapshot_command.go."""

from __future__ import annotations

from balsad.ctl.command import Command
from balsad.ctl.console import EXIT_BAD_ARGS, EXIT_BAD_FEATURE, EXIT_ERROR, Console, Failure
from balsad.ctl.flags import FlagSet
from balsad.ctl.logs import log_offline_work
from balsad.ctl.printers import make_printer
from balsad.ctl.printers.base import Printer


def save(command: Command, console: Console, args: list[str]) -> None:
    raise Failure(EXIT_BAD_ARGS, "In order to download snapshot use: `etcdctl snapshot save ...`")


def status(command: Command, console: Console, args: list[str]) -> None:
    print_status(command.merged_flags, console, args)


def restore(command: Command, console: Console, args: list[str]) -> None:
    restore_from_flags(command.merged_flags, console, args)


def printer_of(flags: FlagSet, console: Console) -> Printer:
    """The printer of --write-out, for tools that have no --hex."""
    printer = make_printer(flags.text("write-out"), console, False)
    if printer is None:
        raise Failure(EXIT_BAD_FEATURE, "unsupported output format")
    return printer


def print_status(flags: FlagSet, console: Console, args: list[str]) -> None:
    """Print what a snapshot file holds."""
    if len(args) != 1:
        raise Failure(EXIT_BAD_ARGS, "snapshot status requires exactly one argument")
    printer = printer_of(flags, console)
    from balsad.ops.errors import OpsError
    from balsad.ops.snapshot_status import snapshot_status

    try:
        printer.snapshot_status(snapshot_status(args[0]))
    except OpsError as error:
        raise Failure(EXIT_ERROR, error) from error


def restore_from_flags(flags: FlagSet, console: Console, args: list[str]) -> None:
    """Make a data directory of a snapshot file."""
    if len(args) != 1:
        raise Failure(EXIT_BAD_ARGS, "snapshot restore requires exactly one argument")
    from balsad.ops.errors import OpsError
    from balsad.ops.restore import RestoreOptions, snapshot_restore

    options = RestoreOptions(
        snapshot_path=args[0],
        name=flags.text("name"),
        data_dir=flags.text("data-dir"),
        wal_dir=flags.text("wal-dir"),
        initial_advertise_peer_urls=flags.text("initial-advertise-peer-urls"),
        initial_cluster=flags.text("initial-cluster"),
        initial_cluster_token=flags.text("initial-cluster-token"),
        skip_hash_check=flags.on("skip-hash-check"),
        bump_revision=flags.number("bump-revision") if "bump-revision" in flags.flags else 0,
        mark_compacted="mark-compacted" in flags.flags and flags.on("mark-compacted"),
    )
    log_offline_work()
    try:
        snapshot_restore(options)
    except OpsError as error:
        raise Failure(EXIT_ERROR, error) from error
