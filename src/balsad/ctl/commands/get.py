"""`etcdctl get`. Source: etcdctl get_command.go."""

from __future__ import annotations

from balsad.client.kv import get_request
from balsad.client.messages import RangeRequest
from balsad.ctl.console import EXIT_BAD_ARGS, EXIT_BAD_FEATURE, Failure
from balsad.ctl.context import Context
from balsad.ctl.flags import FlagSet
from balsad.ctl.go_text import bytes_of
from balsad.go_quote import quote_go

_ORDERS = {"": RangeRequest.NONE, "ASCEND": RangeRequest.ASCEND, "DESCEND": RangeRequest.DESCEND}
_TARGETS = {
    "": RangeRequest.KEY,
    "KEY": RangeRequest.KEY,
    "VERSION": RangeRequest.VERSION,
    "CREATE": RangeRequest.CREATE,
    "MODIFY": RangeRequest.MOD,
    "VALUE": RangeRequest.VALUE,
}


def run(context: Context, args: list[str]) -> None:
    request = request_of(context.flags, args)
    context.start_timeout()
    client = context.client()
    response = context.call(client.kv.do(request, timeout=context.left))
    printer = context.printer
    if context.flags.on("count-only") and printer.name != "fields":
        raise Failure(EXIT_BAD_ARGS, "--count-only is only for `--write-out=fields`")
    if context.flags.on("print-value-only"):
        if printer.name != "simple":
            raise Failure(EXIT_BAD_ARGS, "print-value-only is only for `--write-out=simple`")
        printer.values_only = True
    printer.get(response)


def request_of(flags: FlagSet, args: list[str]) -> RangeRequest:
    """The request that the command line means; also a line of `txn`."""
    if not args:
        raise Failure(EXIT_BAD_ARGS, "get command needs one argument as key and an optional argument as range_end")
    prefix, from_key = flags.on("prefix"), flags.on("from-key")
    if prefix and from_key:
        raise Failure(EXIT_BAD_ARGS, "`--prefix` and `--from-key` cannot be set at the same time, choose one")
    if flags.on("keys-only") and flags.on("count-only"):
        raise Failure(EXIT_BAD_ARGS, "`--keys-only` and `--count-only` cannot be set at the same time, choose one")
    consistency = flags.text("consistency")
    if consistency not in ("s", "l"):
        raise Failure(EXIT_BAD_FEATURE, f"unknown consistency flag {quote_go(consistency)}")
    if len(args) > 1 and (prefix or from_key):
        raise Failure(
            EXIT_BAD_ARGS, "too many arguments, only accept one argument when `--prefix` or `--from-key` is set"
        )
    order, target = flags.text("order"), flags.text("sort-by")
    if order.upper() not in _ORDERS:
        raise Failure(EXIT_BAD_FEATURE, f"bad sort order {order}")
    if target.upper() not in _TARGETS:
        raise Failure(EXIT_BAD_FEATURE, f"bad sort target {target}")
    return get_request(
        bytes_of(args[0]),
        bytes_of(args[1]) if len(args) > 1 else b"",
        prefix=prefix,
        from_key=from_key,
        limit=flags.number("limit"),
        revision=max(0, flags.number("rev")),
        sort_order=_ORDERS[order.upper()],
        sort_target=_TARGETS[target.upper()],
        serializable=consistency == "s",
        keys_only=flags.on("keys-only"),
        count_only=flags.on("count-only"),
    )
