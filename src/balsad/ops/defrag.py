"""Defragmenting the db of a member that is not running: `etcdutl defrag --data-dir`.

Source: etcd etcdutl/etcdutl/defrag_command.go.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from balsad.env import Disk
from balsad.env.real import real_env
from balsad.go_quote import quote_go
from balsad.ops.errors import OpsError
from balsad.storage import Backend, DatabaseLockedError, DataDir, StorageError, defragment

_PATIENCE_S: Final = 1.0
_PAUSE_S: Final = 0.05


def defrag_data_dir(
    data_dir: str,
    *,
    waiting: Callable[[str], None] | None = None,
    lock_wait_s: float | None = None,
    disk: Disk | None = None,
) -> None:
    """Write the db anew without its free pages; the old file is replaced once the new one is durable.

    While a server has it, this waits, after a second with a word to `waiting`, `lock_wait_s` at the most
    (None: for ever, like etcd). Raises: OpsError.
    """
    disk = real_env().disk if disk is None else disk
    path = DataDir(data_dir).db
    if not disk.exists(path):
        # etcd would make an empty db here.
        raise OpsError(f"open {path}: no such file or directory")
    try:
        backend = _open_patiently(disk, path, waiting, lock_wait_s)
        try:
            defragment(backend)
        finally:
            backend.close()
    except StorageError as error:
        raise OpsError(str(error)) from error


def _open_patiently(disk: Disk, path: str, waiting: Callable[[str], None] | None, lock_wait_s: float | None) -> Backend:
    began = time.monotonic()
    while True:
        try:
            return Backend.open(disk, path)
        except DatabaseLockedError:
            waited = time.monotonic() - began
            if lock_wait_s is not None and waited >= lock_wait_s:
                raise
            if waited >= _PATIENCE_S and waiting is not None:
                waiting(
                    f"waiting for etcd to close and release its lock on {quote_go(path)}. "
                    "To defrag a running etcd instance, omit --data-dir."
                )
                waiting = None
            time.sleep(_PAUSE_S)
