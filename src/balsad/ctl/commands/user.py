"""`etcdctl user`. Source: etcdctl user_command.go."""

from __future__ import annotations

from balsad.ctl.console import EXIT_BAD_ARGS, Failure
from balsad.ctl.context import Context
from balsad.ctl.password import ask_twice, scan_word


def add(context: Context, args: list[str]) -> None:
    if len(args) != 1:
        raise Failure(EXIT_BAD_ARGS, "user add command requires user name as its argument")
    user, password = args[0], ""
    no_password = context.flags.on("no-password")
    if not no_password:
        password = context.flags.text("new-user-password")
        if not password:
            name, colon, inline = user.partition(":")
            if colon:
                user, password = name, inline
                if not user:
                    raise Failure(EXIT_BAD_ARGS, "empty user name is not allowed")
            else:
                password = _new_password(context, user)
    client = context.client()
    response = context.call(client.auth.user_add(user, password, no_password=no_password))
    context.printer.user_add(user, response)


def _new_password(context: Context, user: str) -> str:
    if context.flags.on("interactive"):
        return ask_twice(context.console, user)
    return scan_word()


def delete(context: Context, args: list[str]) -> None:
    if len(args) != 1:
        raise Failure(EXIT_BAD_ARGS, "user delete command requires user name as its argument")
    client = context.client()
    context.printer.user_delete(args[0], context.call(client.auth.user_delete(args[0])))


def get(context: Context, args: list[str]) -> None:
    if len(args) != 1:
        raise Failure(EXIT_BAD_ARGS, "user get command requires user name as its argument")
    client = context.client()
    response = context.call(client.auth.user_get(args[0]))
    if not context.flags.on("detail"):
        context.printer.user_get(args[0], response)
        return
    context.console.print(f"User: {args[0]}")
    for role in response.roles:
        context.console.print("")
        context.printer.role_get(role, context.call(client.auth.role_get(role)))


def list_users(context: Context, args: list[str]) -> None:
    if args:
        raise Failure(EXIT_BAD_ARGS, "user list command requires no arguments")
    client = context.client()
    context.printer.user_list(context.call(client.auth.user_list()))


def passwd(context: Context, args: list[str]) -> None:
    if len(args) != 1:
        raise Failure(EXIT_BAD_ARGS, "user passwd command requires user name as its argument")
    password = _new_password(context, args[0])
    client = context.client()
    context.printer.user_change_password(context.call(client.auth.user_change_password(args[0], password)))


def grant_role(context: Context, args: list[str]) -> None:
    if len(args) != 2:
        raise Failure(EXIT_BAD_ARGS, "user grant command requires user name and role name as its argument")
    client = context.client()
    user, role = args
    context.printer.user_grant_role(user, role, context.call(client.auth.user_grant_role(user, role)))


def revoke_role(context: Context, args: list[str]) -> None:
    if len(args) != 2:
        raise Failure(EXIT_BAD_ARGS, "user revoke-role requires user name and role name as its argument")
    client = context.client()
    user, role = args
    context.printer.user_revoke_role(user, role, context.call(client.auth.user_revoke_role(user, role)))
