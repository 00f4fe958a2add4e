"""`etcdctl watch`: events, printed or given to a command, also of several watches at once (-i).

What follows -- is a command to run for each event; it is told of the event by
ETCD_WATCH_* variables. Key and range end may also come from ETCDCTL_WATCH_KEY
and ETCDCTL_WATCH_RANGE_END.

Source: etcdctl watch_command.go.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from balsad.client.client import Client
from balsad.client.messages import Event, WatchResponse
from balsad.client.watch import Watcher
from balsad.ctl.commands.txn import split_words
from balsad.ctl.console import EXIT_BAD_ARGS, EXIT_ERROR, EXIT_INTERRUPTED, EXIT_INVALID_INPUT, Exit, Failure
from balsad.ctl.context import Context
from balsad.ctl.etcdctl_tree import watch_command
from balsad.ctl.flags import FlagError, FlagSet
from balsad.ctl.go_text import bytes_of, text_of
from balsad.ctl.printers.simple import event_type
from balsad.ctl.processes import ProcessError, run_process
from balsad.go_quote import quote_go

_BAD_COUNT = "bad number of arguments"
_CONFLICT = "bad number of arguments (found conflicting environment key)"
_NO_COMMAND = "bad number of arguments (found separator --, but no commands)"


def run(context: Context, args: list[str]) -> None:
    key, range_end = os.environ.get("ETCDCTL_WATCH_KEY", ""), os.environ.get("ETCDCTL_WATCH_RANGE_END", "")
    if not key and range_end:
        text = f"ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={quote_go(range_end)}"
        raise Failure(EXIT_BAD_ARGS, text)
    if context.flags.on("interactive"):
        client = context.client()
        context.loop.run(_interactive(context, client, key, range_end))
    try:
        words, command = _split_command(sys.argv, args, key, range_end)
    except FlagError as error:
        raise Failure(EXIT_BAD_ARGS, error) from error
    client = context.client()
    try:
        watcher = _open(client, context.flags, words)
    except FlagError as error:
        raise Failure(EXIT_BAD_ARGS, error) from error
    context.loop.run(_print(context, watcher, command))
    raise Failure(EXIT_INTERRUPTED, "watch is canceled by the server")


def _split_command(
    os_args: list[str], args: list[str], env_key: str, env_range_end: str
) -> tuple[list[str], list[str]]:
    """What to watch, and the command to run for each event. Raises FlagError."""
    raw = os_args[os_args.index("watch") + 1 :] if "watch" in os_args else list(os_args)
    separator = raw.index("--") if "--" in raw else -1
    if separator < 0:
        if env_key and args:
            raise FlagError(_CONFLICT)
        if not env_key and not raw:
            raise FlagError(_BAD_COUNT)
        return _with_env([], env_key, env_range_end) + args, []
    command = raw[separator + 1 :]
    if not command:
        raise FlagError(_NO_COMMAND)
    words = args[: len(args) - len(command)]
    if env_key and words:
        raise FlagError(_CONFLICT)
    return _with_env([], env_key, env_range_end) + words, command


def _with_env(words: list[str], env_key: str, env_range_end: str) -> list[str]:
    if not env_key:
        return words
    return [env_key, env_range_end] if env_range_end else [env_key]


def _open(client: Client, flags: FlagSet, words: list[str]) -> Watcher:
    """Begin to watch. Raises FlagError."""
    if not words:
        raise FlagError(_BAD_COUNT)
    prefix = flags.on("prefix")
    range_end = b""
    if len(words) == 2:
        if prefix:
            raise FlagError("`range_end` and `--prefix` are mutually exclusive")
        range_end = bytes_of(words[1])
    return client.watch.watch(
        bytes_of(words[0]),
        range_end,
        prefix=prefix,
        revision=flags.number("rev"),
        prev_kv=flags.on("prev-kv"),
        progress_notify=flags.on("progress-notify"),
    )


async def _print(context: Context, watcher: Watcher, command: list[str]) -> None:
    """Print, and give to the command, until the watch is over."""
    while (response := await watcher.next()) is not None:
        if response.canceled and response.header.cluster_id and not response.compact_revision:
            # etcdctl's client keeps the reason to itself when a watch ends that had begun.
            return
        if response.canceled:
            context.console.error(f"watch was canceled ({watcher.error})")
        elif not response.events and response.header.revision:
            context.console.print(f"progress notify: {response.header.revision}")
        context.printer.watch(response)
        context.console.flush()
        if command:
            for event in response.events:
                await _run_for(context, command, response, event)


async def _run_for(context: Context, command: list[str], response: WatchResponse, event: Event) -> None:
    env = dict(
        os.environ,
        ETCD_WATCH_REVISION=str(response.header.revision),
        ETCD_WATCH_EVENT_TYPE=quote_go(event_type(event)),
        ETCD_WATCH_KEY=quote_go(text_of(event.kv.key)),
        ETCD_WATCH_VALUE=quote_go(text_of(event.kv.value)),
    )
    try:
        await run_process(context.loop, command, env)
    except ProcessError as error:
        words = " ".join(quote_go(word) for word in command)
        context.console.error(f"command [{words}] error ({error})")
        raise Exit(EXIT_ERROR) from error


# ---- several watches at once


async def _interactive(context: Context, client: Client, env_key: str, env_range_end: str) -> NoReturn:
    """Take `watch ...` and `progress` lines from standard input."""
    while True:
        line = await _read_line(context)
        if line is None:
            raise Failure(EXIT_INVALID_INPUT, "error reading watch request line: EOF")
        words = split_words(line)
        if not words:
            context.console.error(f"Invalid command: {line} (watch and progress supported)")
        elif words[0] == "watch":
            _begin_watch(context, client, line, words[1:], env_key, env_range_end)
        elif words[0] == "progress":
            client.watch.request_progress()
        else:
            context.console.error(f"Invalid command {line} (only support watch)")


def _begin_watch(
    context: Context, client: Client, line: str, words: list[str], env_key: str, env_range_end: str
) -> None:
    if not words and not env_key:
        context.console.error(f"Invalid command {line} (command type or key is not provided)")
        return
    flags = watch_command().flags
    command: list[str] = []
    try:
        if "--" in words:
            separator = words.index("--")
            words, command = words[:separator], words[separator + 1 :]
            if not command:
                raise FlagError(_NO_COMMAND)
        flags.parse(words)
        if env_key and flags.args and not command:
            raise FlagError(_CONFLICT)
        what = _with_env([], env_key, env_range_end) + flags.args
        if not what:
            raise FlagError(_BAD_COUNT)
    except FlagError as error:
        raise Failure(EXIT_BAD_ARGS, error) from error
    try:
        watcher = _open(client, flags, what)
    except FlagError as error:
        context.console.error(f"Invalid command {line} ({error})")
        return
    context.loop.create_task(_print_or_leave(context, watcher, command))


async def _print_or_leave(context: Context, watcher: Watcher, command: list[str]) -> None:
    """As `_print`; what ends the command ends it at once, though another task reads lines."""
    from balsad.ctl.console import leave

    try:
        await _print(context, watcher, command)
    except Failure as failure:
        context.console.error(f"Error: {failure.text}")
        leave(context.console, failure.status)
    except Exit as ended:
        leave(context.console, ended.status)


class _Lines:
    """What was read of standard input beyond the last line."""

    buffer = b""


async def _read_line(context: Context) -> str | None:
    """The next line of standard input without its end; None after the last."""
    while b"\n" not in _Lines.buffer:
        ready = context.loop.create_future()
        context.loop.watch(0, lambda ready=ready: None if ready.done() else ready.set_result(None))  # type: ignore[misc]
        await ready
        context.loop.watch(0, None)
        data = os.read(0, 65536)
        if not data:
            return None
        _Lines.buffer += data
    line, _Lines.buffer = _Lines.buffer.split(b"\n", 1)
    return text_of(line)
