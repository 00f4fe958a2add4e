"""`etcdctl downgrade`, of 3.6. Source: etcdctl downgrade_command.go."""

from __future__ import annotations

from balsad.client.messages import DowngradeRequest
from balsad.ctl.console import EXIT_BAD_ARGS, Failure
from balsad.ctl.context import Context


def validate(context: Context, args: list[str]) -> None:
    _ask(context, "validate", DowngradeRequest.VALIDATE, _target(args))


def enable(context: Context, args: list[str]) -> None:
    _ask(context, "enable", DowngradeRequest.ENABLE, _target(args))


def cancel(context: Context, args: list[str]) -> None:
    _ask(context, "cancel", DowngradeRequest.CANCEL, "")


def _target(args: list[str]) -> str:
    if not args:
        raise Failure(EXIT_BAD_ARGS, "TARGET_VERSION not provided")
    if len(args) > 1:
        raise Failure(EXIT_BAD_ARGS, "too many arguments")
    if not args[0]:
        raise Failure(EXIT_BAD_ARGS, "target version not provided")
    return args[0]


def _ask(context: Context, what: str, action: int, version: str) -> None:
    context.start_timeout()
    client = context.client()
    response = context.call(client.maintenance.downgrade(action, version, timeout=context.left))
    context.printer.downgrade(what, response)
