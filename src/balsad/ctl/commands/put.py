"""`etcdctl put`. Source: etcdctl put_command.go."""

from __future__ import annotations

from balsad.client.kv import put_request
from balsad.client.messages import PutRequest
from balsad.ctl.console import EXIT_BAD_ARGS, Failure, read_all_stdin
from balsad.ctl.context import Context
from balsad.ctl.flags import FlagSet
from balsad.ctl.go_text import bytes_of, parse_int

_NEEDS = "put command needs 1 argument and input from stdin or 2 arguments"


def run(context: Context, args: list[str]) -> None:
    request = request_of(context.flags, args)
    context.start_timeout()
    client = context.client()
    context.printer.put(context.call(client.kv.do(request, timeout=context.left)))


def request_of(flags: FlagSet, args: list[str]) -> PutRequest:
    """The request that the command line means; also a line of `txn`."""
    if not args:
        raise Failure(EXIT_BAD_ARGS, _NEEDS)
    ignore_value = flags.on("ignore-value")
    if ignore_value and len(args) > 1:
        raise Failure(EXIT_BAD_ARGS, "put command needs only 1 argument when 'ignore-value' is set")
    value = b""
    if not ignore_value:
        value = bytes_of(args[1]) if len(args) > 1 else read_all_stdin()
        if len(args) == 1 and not value:
            raise Failure(EXIT_BAD_ARGS, _NEEDS)
    try:
        lease = parse_int(flags.text("lease"), 16)
    except ValueError as error:
        raise Failure(EXIT_BAD_ARGS, f"bad lease ID ({error}), expecting ID in Hex") from error
    return put_request(
        bytes_of(args[0]),
        value,
        lease=lease,
        prev_kv=flags.on("prev-kv"),
        ignore_value=ignore_value,
        ignore_lease=flags.on("ignore-lease"),
    )
