"""`etcdutl defrag`. Source: etcdutl defrag_command.go."""

from __future__ import annotations

from balsad.ctl.command import Command
from balsad.ctl.console import EXIT_ERROR, Console, Failure


def run(command: Command, console: Console, args: list[str]) -> None:
    data_dir = command.merged_flags.text("data-dir")
    defrag_data_dir(console, data_dir)


def defrag_data_dir(console: Console, data_dir: str) -> None:
    """Defragment the database of a data directory that no server uses."""
    raise Failure(EXIT_ERROR, f"Failed to defragment etcd data[{data_dir}] (not there yet)")
