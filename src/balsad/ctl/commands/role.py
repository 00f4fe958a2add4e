"""`etcdctl role`. Source: etcdctl role_command.go."""

from __future__ import annotations

from balsad.client.kv import OPEN_END, prefix_end
from balsad.client.messages import Permission
from balsad.ctl.console import EXIT_BAD_ARGS, Failure
from balsad.ctl.context import Context
from balsad.ctl.flags import FlagSet
from balsad.ctl.go_text import bytes_of

_PERMISSIONS = {"read": Permission.READ, "write": Permission.WRITE, "readwrite": Permission.READWRITE}


def add(context: Context, args: list[str]) -> None:
    if len(args) != 1:
        raise Failure(EXIT_BAD_ARGS, "role add command requires role name as its argument")
    client = context.client()
    context.printer.role_add(args[0], context.call(client.auth.role_add(args[0])))


def delete(context: Context, args: list[str]) -> None:
    if len(args) != 1:
        raise Failure(EXIT_BAD_ARGS, "role delete command requires role name as its argument")
    client = context.client()
    context.printer.role_delete(args[0], context.call(client.auth.role_delete(args[0])))


def get(context: Context, args: list[str]) -> None:
    if len(args) != 1:
        raise Failure(EXIT_BAD_ARGS, "role get command requires role name as its argument")
    client = context.client()
    context.printer.role_get(args[0], context.call(client.auth.role_get(args[0])))


def list_roles(context: Context, args: list[str]) -> None:
    if args:
        raise Failure(EXIT_BAD_ARGS, "role list command requires no arguments")
    client = context.client()
    context.printer.role_list(context.call(client.auth.role_list()))


def grant_permission(context: Context, args: list[str]) -> None:
    if len(args) < 3:
        raise Failure(
            EXIT_BAD_ARGS,
            "role grant command requires role name, permission type, and key [endkey] as its argument",
        )
    kind = _PERMISSIONS.get(args[1].lower())
    if kind is None:
        raise Failure(EXIT_BAD_ARGS, f"invalid permission type: {args[1]}")
    key, range_end = _permission_range(context.flags, args[2:])
    client = context.client()
    response = context.call(client.auth.role_grant_permission(args[0], kind, key, range_end))
    context.printer.role_grant_permission(args[0], response)


def revoke_permission(context: Context, args: list[str]) -> None:
    if len(args) < 2:
        raise Failure(
            EXIT_BAD_ARGS, "role revoke-permission command requires role name and key [endkey] as its argument"
        )
    key, range_end = _permission_range(context.flags, args[1:])
    client = context.client()
    response = context.call(client.auth.role_revoke_permission(args[0], key, range_end))
    context.printer.role_revoke_permission(args[0], bytes_of(args[1]), range_end, response)


def _permission_range(flags: FlagSet, args: list[str]) -> tuple[bytes, bytes]:
    """Key and range end of a permission; the empty key stands for the smallest one."""
    prefix, from_key = flags.on("prefix"), flags.on("from-key")
    key = bytes_of(args[0])
    both = "--from-key and --prefix flags are mutually exclusive"
    if not key:
        if prefix and from_key:
            raise Failure(EXIT_BAD_ARGS, both)
        return OPEN_END, OPEN_END if prefix or from_key else b""
    if len(args) == 1:
        if prefix and from_key:
            raise Failure(EXIT_BAD_ARGS, both)
        if prefix:
            return key, prefix_end(key)
        return key, OPEN_END if from_key else b""
    for name, given in (("prefix", prefix), ("from-key", from_key)):
        if given:
            raise Failure(EXIT_BAD_ARGS, f"unexpected endkey argument with --{name} flag")
    return key, bytes_of(args[1])
