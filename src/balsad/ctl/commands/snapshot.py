"""`etcdctl snapshot save`; `status` and `restore` are etcdutl's. Source: etcdctl snapshot_command.go."""

from __future__ import annotations

import os
import time

from balsad.ctl.commands.utl_snapshot import print_status, restore_from_flags
from balsad.ctl.console import EXIT_BAD_ARGS, EXIT_INTERRUPTED, Console, Failure
from balsad.ctl.context import Context, go_strerror
from balsad.ctl.go_text import humanize_bytes
from balsad.ctl.logs import log

_HASH_SIZE = 32
_SECTOR = 512


def save(context: Context, args: list[str]) -> None:
    if len(args) != 1:
        raise Failure(EXIT_BAD_ARGS, "snapshot save expects one argument")
    settings = context.settings()
    if len(settings.endpoints) != 1:
        listed = " ".join(settings.endpoints)
        text = f"snapshot must be requested to one selected node, not multiple [{listed}]"
        raise Failure(EXIT_INTERRUPTED, text)
    path = args[0]
    part = path + ".part"
    # Without --command-timeout a snapshot takes as long as it takes.
    timeout = context.flags.seconds("command-timeout") if context.flags.flags["command-timeout"].changed else None
    client = context.make_client(settings)
    if settings.user and settings.password:
        context.call(client.connect(), status=EXIT_INTERRUPTED)
    try:
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        text = f"could not open {part} (open {part}: {go_strerror(error)})"
        raise Failure(EXIT_INTERRUPTED, text) from error
    console = context.console
    try:
        _info(console, 68, "created temporary db file", path=part)
        began = time.monotonic()

        async def fetch() -> int:
            size = 0
            opened = False
            async for response in client.maintenance.snapshot(timeout=timeout):
                if not opened:
                    opened = True
                    log(console, "info", "v3/maintenance.go:211", "opened snapshot stream; downloading", {}, "client")
                    _info(console, 76, "fetching snapshot", endpoint=settings.endpoints[0])
                size += len(response.blob)
                view = memoryview(response.blob)
                while view:
                    view = view[os.write(file, view) :]
            log(console, "info", "v3/maintenance.go:219", "completed snapshot read; closing", {}, "client")
            return size

        try:
            size = context.call(fetch(), status=EXIT_INTERRUPTED)
            if size % _SECTOR != _HASH_SIZE:
                raise Failure(EXIT_INTERRUPTED, f"sha256 checksum not found [bytes: {size}]")
            os.fsync(file)
        except OSError as error:
            raise Failure(EXIT_INTERRUPTED, f"write {part}: {go_strerror(error)}") from error
        finally:
            os.close(file)
        took = _humanize_time(time.monotonic() - began)
        fields = {"endpoint": settings.endpoints[0], "size": humanize_bytes(size), "took": took}
        _info(console, 91, "fetched snapshot", **fields)
        try:
            os.rename(part, path)
        except OSError as error:
            text = f"could not rename {part} to {path} (rename {part} {path}: {go_strerror(error)})"
            raise Failure(EXIT_INTERRUPTED, text) from error
        _info(console, 100, "saved", path=path)
    finally:
        if os.path.exists(part):
            os.unlink(part)
    console.print(f"Snapshot saved at {path}")


def _info(console: Console, line: int, message: str, **fields: str) -> None:
    log(console, "info", f"snapshot/v3_snapshot.go:{line}", message, fields)


def _humanize_time(seconds: float) -> str:
    """How long ago, as go-humanize says it."""
    whole = int(seconds)
    if whole < 1:
        return "now"
    if whole < 2:
        return "1 second ago"
    if whole < 60:
        return f"{whole} seconds ago"
    minutes = whole // 60
    return "1 minute ago" if minutes < 2 else f"{minutes} minutes ago"


def status(context: Context, args: list[str]) -> None:
    context.console.error("Deprecated: Use `etcdutl snapshot status` instead.\n")
    print_status(context.flags, context.console, args)


def restore(context: Context, args: list[str]) -> None:
    context.console.error("Deprecated: Use `etcdutl snapshot restore` instead.\n")
    restore_from_flags(context.flags, context.console, args)
