"""`etcdctl move-leader`. Source: etcdctl move_leader_command.go."""

from __future__ import annotations

from balsad.ctl.console import EXIT_BAD_ARGS, Failure
from balsad.ctl.context import Context
from balsad.ctl.go_text import parse_uint


def run(context: Context, args: list[str]) -> None:
    if len(args) != 1:
        raise Failure(EXIT_BAD_ARGS, "move-leader command needs 1 argument")
    try:
        target = parse_uint(args[0], 16)
    except ValueError as error:
        raise Failure(EXIT_BAD_ARGS, error) from error
    client = context.client()
    context.start_timeout()
    for endpoint in client.endpoints:
        one = client.only(endpoint)
        status = context.call(one.maintenance.status(timeout=context.left))
        if status.leader == status.header.member_id:
            response = context.call(one.maintenance.move_leader(target, timeout=context.left))
            context.printer.move_leader(status.leader, target, response)
            return
        context.call(one.close())
    raise Failure(EXIT_BAD_ARGS, f"no leader endpoint given at [{' '.join(client.endpoints)}]")
