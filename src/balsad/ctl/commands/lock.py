"""`etcdctl lock`. Source: etcdctl lock_command.go."""

from __future__ import annotations

import os

from balsad.client.client import Client
from balsad.ctl.console import EXIT_BAD_ARGS, EXIT_ERROR, Failure
from balsad.ctl.context import Context
from balsad.ctl.go_text import bytes_of, text_of
from balsad.ctl.processes import ProcessError, on_signals, run_process


def run(context: Context, args: list[str]) -> None:
    if not args:
        raise Failure(EXIT_BAD_ARGS, "lock takes a lock name argument and an optional command to execute")
    client = context.client()
    context.call(_hold(context, client, args[0], args[1:]))


async def _hold(context: Context, client: Client, name: str, command: list[str]) -> None:
    """Hold the lock while the command runs, or until a signal."""
    loop = context.loop
    session = await client.session(ttl_s=context.flags.number("ttl") or 60).open()
    lock = client.lock(session, bytes_of(name))
    stop = loop.create_future()
    acquiring = loop.create_task(lock.acquire())

    def on_signal() -> None:
        acquiring.cancel()
        if not stop.done():
            stop.set_result(None)

    on_signals(loop, on_signal)
    try:
        await acquiring
    except BaseException:
        if stop.done():
            raise Failure(EXIT_ERROR, "context canceled") from None
        raise
    if command:
        # What is already in the environment wins, as in etcdctl.
        env = {"ETCD_LOCK_KEY": text_of(lock.key), "ETCD_LOCK_REV": str(lock.header.revision), **os.environ}
        failed: ProcessError | None = None
        try:
            await run_process(loop, command, env)
        except ProcessError as error:
            failed = error
        await lock.release()
        if failed is not None:
            raise Failure(failed.status & 255, failed)
        return
    held = await client.kv.get(lock.key)
    if not held.kvs:
        raise Failure(EXIT_ERROR, "lock lost on init")
    context.printer.get(held)
    context.console.flush()

    async def expire() -> None:
        await session.wait_expired()
        if not stop.done():
            stop.set_exception(Failure(EXIT_ERROR, "session expired"))

    loop.create_task(expire())
    await stop
    await lock.release()
