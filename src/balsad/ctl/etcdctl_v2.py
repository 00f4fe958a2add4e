"""etcdctl with ETCDCTL_API=2: of its commands the one that needs no server, `backup`.

Flags may begin with one dash or two. Source: etcd etcdctl/ctlv2/command/backup_command.go.
"""

from __future__ import annotations

from typing import Final

from balsad.ctl.commands.utl_backup import back_up
from balsad.ctl.console import EXIT_ERROR, Console, Failure

_FOLDERS: Final = ("data-dir", "wal-dir", "backup-dir", "backup-wal-dir")
_USAGE: Final = (
    "usage: etcdctl backup --data-dir DIR [--wal-dir DIR] --backup-dir DIR [--backup-wal-dir DIR] [--with-v3]"
)


def run_v2(console: Console, args: list[str]) -> int:
    """Run it; gives its exit status. Raises: Failure."""
    if args[:1] != ["backup"]:
        what = f"{args[0]!r}" if args else "no command"
        raise Failure(
            EXIT_ERROR,
            f"ETCDCTL_API=2: {what}: this etcdctl knows only `backup` of the v2 commands; "
            "etcd's own etcdctl can be used for the others",
        )
    folders: dict[str, str] = {}
    with_v3 = False
    rest = args[1:]
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            raise Failure(EXIT_ERROR, f"backup: unexpected argument {word!r}\n{_USAGE}")
        name, has_value, value = word.lstrip("-").partition("=")
        if name == "with-v3":
            with_v3 = value.lower() not in ("false", "0", "f")
            continue
        if name not in _FOLDERS:
            raise Failure(EXIT_ERROR, f"flag provided but not defined: -{name}\n{_USAGE}")
        if not has_value:
            if not rest:
                raise Failure(EXIT_ERROR, f"flag needs an argument: -{name}\n{_USAGE}")
            value = rest.pop(0)
        folders[name] = value
    for name in ("data-dir", "backup-dir"):
        if not folders.get(name):
            raise Failure(EXIT_ERROR, f"backup: --{name} is required\n{_USAGE}")
    back_up(folders, with_v3=with_v3)
    return 0
