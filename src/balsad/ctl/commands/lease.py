"""`etcdctl lease`. Source: etcdctl lease_command.go."""

from __future__ import annotations

from balsad.client.client import Client
from balsad.ctl.console import EXIT_BAD_ARGS, EXIT_BAD_CONNECTION, Failure
from balsad.ctl.context import Context
from balsad.ctl.go_text import parse_int


def grant(context: Context, args: list[str]) -> None:
    if len(args) != 1:
        raise Failure(EXIT_BAD_ARGS, "lease grant command needs TTL argument")
    try:
        ttl_s = parse_int(args[0])
    except ValueError as error:
        raise Failure(EXIT_BAD_ARGS, f"bad TTL ({error})") from error
    context.start_timeout()
    client = context.client()
    text = "failed to grant lease (%s)"
    context.printer.grant(context.call(client.lease.grant(ttl_s, timeout=context.left), text=text))


def revoke(context: Context, args: list[str]) -> None:
    if len(args) != 1:
        raise Failure(EXIT_BAD_ARGS, "lease revoke command needs 1 argument")
    lease_id = _lease_id(args[0])
    context.start_timeout()
    client = context.client()
    text = "failed to revoke lease (%s)"
    response = context.call(client.lease.revoke(lease_id, timeout=context.left), text=text)
    context.printer.revoke(lease_id, response)


def time_to_live(context: Context, args: list[str]) -> None:
    if len(args) != 1:
        raise Failure(EXIT_BAD_ARGS, "lease timetolive command needs lease ID as argument")
    client = context.client()
    lease_id = _lease_id(args[0])
    keys = context.flags.on("keys")
    response = context.call(client.lease.time_to_live(lease_id, keys=keys), status=EXIT_BAD_CONNECTION)
    context.printer.time_to_live(response, keys=keys)


def list_leases(context: Context, args: list[str]) -> None:
    client = context.client()
    context.printer.leases(context.call(client.lease.list(), status=EXIT_BAD_CONNECTION))


def keep_alive(context: Context, args: list[str]) -> None:
    if len(args) != 1:
        raise Failure(EXIT_BAD_ARGS, "lease keep-alive command needs lease ID as argument")
    lease_id = _lease_id(args[0])
    client = context.client()
    if context.flags.on("once"):
        response = context.call(client.lease.keep_alive_once(lease_id), status=EXIT_BAD_CONNECTION)
        context.printer.keep_alive(response)
        return
    context.call(_keep_alive(context, client, lease_id))
    if context.printer.name == "simple":
        context.console.print(f"lease {lease_id:016x} expired or revoked.")


async def _keep_alive(context: Context, client: Client, lease_id: int) -> None:
    async for response in client.lease.keep_alive(lease_id):
        context.printer.keep_alive(response)


def _lease_id(text: str) -> int:
    try:
        return parse_int(text, 16)
    except ValueError as error:
        raise Failure(EXIT_BAD_ARGS, f"bad lease ID arg ({error}), expecting ID in Hex") from error
