"""`etcdctl elect`. Source: etcdctl elect_command.go."""

from __future__ import annotations

from typing import Any

from balsad.client.client import Client
from balsad.ctl.console import EXIT_BAD_ARGS, EXIT_ERROR, Failure
from balsad.ctl.context import Context
from balsad.ctl.go_text import bytes_of
from balsad.ctl.processes import on_signals


def run(context: Context, args: list[str]) -> None:
    if len(args) not in (1, 2):
        text = "elect takes one election name argument and an optional proposal argument"
        raise Failure(EXIT_BAD_ARGS, text)
    client = context.client()
    listen = context.flags.on("listen")
    if len(args) == 1:
        if not listen:
            raise Failure(EXIT_BAD_ARGS, "no proposal argument but -l not set")
        context.call(_observe(context, client, args[0]))
    else:
        if listen:
            raise Failure(EXIT_BAD_ARGS, "proposal given but -l is set")
        context.call(_campaign(context, client, args[0], args[1]))


def _stop_at_signal(context: Context, task: Any) -> Any:
    """A future that a signal decides; the signal also ends the task."""
    stop = context.loop.create_future()

    def on_signal() -> None:
        task.cancel()
        if not stop.done():
            stop.set_result(None)

    on_signals(context.loop, on_signal)
    return stop


async def _observe(context: Context, client: Client, name: str) -> None:
    """Print every leader until a signal."""
    session = await client.session().open()
    election = client.election(session, bytes_of(name))

    async def print_leaders() -> None:
        async for response in election.observe():
            context.printer.get(response)
            context.console.flush()

    task = context.loop.create_task(print_leaders())
    stop = _stop_at_signal(context, task)
    try:
        await task
    except BaseException:
        if not stop.done():
            raise Failure(EXIT_ERROR, "elect: observer lost") from None


async def _campaign(context: Context, client: Client, name: str, proposal: str) -> None:
    """Lead until a signal."""
    loop = context.loop
    session = await client.session().open()
    election = client.election(session, bytes_of(name))
    task = loop.create_task(election.campaign(bytes_of(proposal)))
    stop = _stop_at_signal(context, task)
    try:
        await task
    except BaseException:
        if stop.done():
            raise Failure(EXIT_ERROR, "context canceled") from None
        raise
    context.printer.get(await client.kv.get(election.key))
    context.console.flush()

    async def expire() -> None:
        await session.wait_expired()
        if not stop.done():
            stop.set_exception(Failure(EXIT_ERROR, "elect: session expired"))

    loop.create_task(expire())
    await stop
    await election.resign()
