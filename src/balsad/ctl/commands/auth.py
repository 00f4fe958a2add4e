"""`etcdctl auth`. Source: etcdctl auth_command.go."""

from __future__ import annotations

from balsad.client.client import Client
from balsad.ctl.console import EXIT_BAD_ARGS, Failure
from balsad.ctl.context import Context


def enable(context: Context, args: list[str]) -> None:
    if args:
        raise Failure(EXIT_BAD_ARGS, "auth enable command does not accept any arguments")
    context.start_timeout()
    client = context.client()
    context.call(_enable(context, client))
    context.console.print("Authentication Enabled")


async def _enable(context: Context, client: Client) -> None:
    """Enable, and first give root its role if it has none."""
    from balsad.errors import RootRoleNotExistError

    while True:
        try:
            await client.auth.enable(timeout=context.left)
            return
        except RootRoleNotExistError:
            await client.auth.role_add("root", timeout=context.left)
            await client.auth.user_grant_role("root", "root", timeout=context.left)


def disable(context: Context, args: list[str]) -> None:
    if args:
        raise Failure(EXIT_BAD_ARGS, "auth disable command does not accept any arguments")
    context.start_timeout()
    client = context.client()
    context.call(client.auth.disable(timeout=context.left))
    context.console.print("Authentication Disabled")


def status(context: Context, args: list[str]) -> None:
    if args:
        raise Failure(EXIT_BAD_ARGS, "auth status command does not accept any arguments")
    context.start_timeout()
    client = context.client()
    context.printer.auth_status(context.call(client.auth.status(timeout=context.left)))
