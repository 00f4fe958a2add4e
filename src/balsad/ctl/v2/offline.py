"""`backup`, the one v2 command that needs no server. Source: etcd etcdctl/ctlv2/command/backup_command.go."""

from __future__ import annotations

from balsad.ctl.commands import utl_backup
from balsad.ctl.console import EXIT_ERROR, Failure
from balsad.ctl.v2.session import Session


def back_up(session: Session) -> None:
    folders = {name: session.flags.text(name) for name in ("data-dir", "wal-dir", "backup-dir", "backup-wal-dir")}
    for name in ("data-dir", "backup-dir"):
        if not folders[name]:
            raise Failure(EXIT_ERROR, f"backup: --{name} is required")
    utl_backup.back_up(folders, with_v3=session.flags.on("with-v3"))
