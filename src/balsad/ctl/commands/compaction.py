"""`etcdctl compaction`. Source: etcdctl compaction_command.go."""

from __future__ import annotations

from balsad.ctl.console import EXIT_BAD_ARGS, EXIT_ERROR, Failure
from balsad.ctl.context import Context
from balsad.ctl.go_text import parse_int


def run(context: Context, args: list[str]) -> None:
    if len(args) != 1:
        raise Failure(EXIT_BAD_ARGS, "compaction command needs 1 argument")
    try:
        revision = parse_int(args[0])
    except ValueError as error:
        raise Failure(EXIT_ERROR, error) from error
    client = context.client()
    context.start_timeout()
    context.call(client.kv.compact(revision, physical=context.flags.on("physical"), timeout=context.left))
    context.console.print(f"compacted revision {revision}")
