"""`etcdctl alarm`. Source: etcdctl alarm_command.go."""

from __future__ import annotations

from balsad.ctl.console import EXIT_BAD_ARGS, Failure
from balsad.ctl.context import Context


def disarm(context: Context, args: list[str]) -> None:
    if args:
        raise Failure(EXIT_BAD_ARGS, "alarm disarm command accepts no arguments")
    context.start_timeout()
    client = context.client()
    context.printer.alarms(context.call(client.maintenance.disarm(timeout=context.left)))


def list_alarms(context: Context, args: list[str]) -> None:
    if args:
        raise Failure(EXIT_BAD_ARGS, "alarm list command accepts no arguments")
    context.start_timeout()
    client = context.client()
    context.printer.alarms(context.call(client.maintenance.alarms(timeout=context.left)))
