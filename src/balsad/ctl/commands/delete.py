"""`etcdctl del`. Source: etcdctl del_command.go."""

from __future__ import annotations

from balsad.client.kv import delete_request
from balsad.client.messages import DeleteRangeRequest
from balsad.ctl.console import EXIT_BAD_ARGS, Failure
from balsad.ctl.context import Context
from balsad.ctl.flags import FlagSet
from balsad.ctl.go_text import bytes_of


def run(context: Context, args: list[str]) -> None:
    request = request_of(context.flags, args)
    context.start_timeout()
    client = context.client()
    context.printer.delete(context.call(client.kv.do(request, timeout=context.left)))


def request_of(flags: FlagSet, args: list[str]) -> DeleteRangeRequest:
    """The request that the command line means; also a line of `txn`."""
    if not 1 <= len(args) <= 2:
        raise Failure(EXIT_BAD_ARGS, "del command needs one argument as key and an optional argument as range_end")
    prefix, from_key = flags.on("prefix"), flags.on("from-key")
    if prefix and from_key:
        raise Failure(EXIT_BAD_ARGS, "`--prefix` and `--from-key` cannot be set at the same time, choose one")
    if len(args) > 1 and (prefix or from_key):
        raise Failure(
            EXIT_BAD_ARGS, "too many arguments, only accept one argument when `--prefix` or `--from-key` is set"
        )
    return delete_request(
        bytes_of(args[0]),
        bytes_of(args[1]) if len(args) > 1 else b"",
        prefix=prefix,
        from_key=from_key,
        prev_kv=flags.on("prev-kv"),
    )
