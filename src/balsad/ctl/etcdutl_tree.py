"""All commands of etcdutl 3.5.1, and of 3.6 `hashkv` and the flags that bump a restored revision.

Source: etcd etcdutl.
"""

from __future__ import annotations

from balsad.ctl.command import Command
from balsad.ctl.etcdctl_tree import restore_flags
from balsad.ctl.flags import BOOL, INT64, STRING, Flag


def _required(flag: Flag) -> Flag:
    flag.required = True
    return flag


def _hidden(flag: Flag) -> Flag:
    flag.hidden = True
    return flag


def _str(name: str, usage: str) -> Flag:
    return Flag(STRING, name, "", usage)


def _backup() -> Command:
    return Command(
        "backup",
        "[legacy] offline backup of etcd directory",
        run="balsad.ctl.commands.utl_backup:run",
        # The help of 3.5.1 has no word of its long text; cobra's usage prints none.
        flags=[
            _required(_str("data-dir", "Path to the etcd data dir")),
            _str("wal-dir", "Path to the etcd wal dir"),
            _required(_str("backup-dir", "Path to the backup dir")),
            _str("backup-wal-dir", "Path to the backup wal dir"),
            Flag(BOOL, "with-v3", True, "Backup v3 backend data"),
        ],
    )


def _snapshot() -> Command:
    module = "balsad.ctl.commands.utl_snapshot:"
    restore = restore_flags("Path to the output data directory")
    _required(restore[0])
    restore += [
        # Nothing is mapped here: it is taken, and that is all.
        _hidden(Flag(INT64, "initial-memory-map-size", 0, "Initial memory map size of the database in bytes")),
        _hidden(Flag(INT64, "bump-revision", 0, "How much to increase the latest revision after restore")),
        _hidden(
            Flag(
                BOOL,
                "mark-compacted",
                False,
                "Mark the latest revision after restore as the point of scheduled compaction "
                "(required if --bump-revision > 0, disallowed otherwise)",
            )
        ),
    ]
    return Command(
        "snapshot <subcommand>",
        "Manages etcd node snapshots",
        commands=[
            Command(
                "save <filename>",
                "Stores an etcd node backend snapshot to a given file",
                run=module + "save",
                hidden=True,
                deprecated="Use `etcdctl snapshot save` to download snapshot",
                flags_in_use_line=False,
            ),
            Command(
                "restore <filename> --data-dir {output dir} [options]",
                "Restores an etcd member snapshot to an etcd directory",
                run=module + "restore",
                flags=restore,
            ),
            Command("status <filename>", "Gets backend snapshot status of a given file", run=module + "status"),
        ],
    )


def make_root() -> Command:
    """The whole tree."""
    return Command(
        "etcdutl",
        "An administrative command line tool for etcd3.",
        persistent_flags=[
            Flag(
                STRING,
                "write-out",
                "simple",
                "set the output format (fields, json, protobuf, simple, table)",
                "w",
            )
        ],
        commands=[
            _backup(),
            Command(
                "defrag",
                "Defragments the storage of the etcd",
                run="balsad.ctl.commands.utl_defrag:run",
                flags=[_required(_str("data-dir", "Required. Defragments a data directory not in use by etcd."))],
            ),
            _snapshot(),
            Command("version", "Prints the version of etcdutl", run="balsad.ctl.commands.version:run_utl"),
            Command(
                "hashkv <filename>",
                "Prints the KV history hash of a given file",
                run="balsad.ctl.commands.utl_hashkv:run",
                extra=True,
                flags=[Flag(INT64, "rev", 0, "maximum revision to hash (default: latest revision)")],
            ),
        ],
    )
