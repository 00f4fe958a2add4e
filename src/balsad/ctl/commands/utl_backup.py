"""`etcdutl backup`, and `backup` of etcdctl in v2 mode.

Source: etcdutl backup_command.go, etcdctl/ctlv2/command/backup_command.go.
"""

from __future__ import annotations

from balsad.ctl.command import Command
from balsad.ctl.console import EXIT_ERROR, Console, Failure
from balsad.ctl.logs import log_offline_work


def run(command: Command, console: Console, args: list[str]) -> None:
    flags = command.merged_flags
    back_up(
        {name: flags.text(name) for name in ("data-dir", "wal-dir", "backup-dir", "backup-wal-dir")},
        with_v3=flags.on("with-v3"),
    )


def back_up(folders: dict[str, str], *, with_v3: bool) -> None:
    """`folders` by the names of the flags; those that were not given are empty or missing."""
    from balsad.ops.backup import BackupOptions, backup
    from balsad.ops.errors import OpsError

    log_offline_work()
    try:
        backup(
            BackupOptions(
                data_dir=folders["data-dir"],
                backup_dir=folders["backup-dir"],
                wal_dir=folders.get("wal-dir", ""),
                backup_wal_dir=folders.get("backup-wal-dir", ""),
                with_v3=with_v3,
            )
        )
    except OpsError as error:
        raise Failure(EXIT_ERROR, str(error)) from error
