"""`etcdutl defrag`. Source: etcdutl defrag_command.go."""

from __future__ import annotations

from balsad.ctl.command import Command
from balsad.ctl.console import EXIT_ERROR, Console, Failure
from balsad.ctl.logs import log_offline_work


def run(command: Command, console: Console, args: list[str]) -> None:
    data_dir = command.merged_flags.text("data-dir")
    defrag(console, data_dir, f"Failed to defragment etcd data[{data_dir}] (%s)")


def defrag(console: Console, data_dir: str, text: str) -> None:
    """Defragment the database of a data directory; waits while a server has it."""
    from balsad.ops.defrag import defrag_data_dir
    from balsad.ops.errors import OpsError

    log_offline_work()
    try:
        defrag_data_dir(data_dir, waiting=console.error)
    except OpsError as error:
        raise Failure(EXIT_ERROR, text % (error,)) from error
