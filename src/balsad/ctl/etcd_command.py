"""Commands of `etcd` that are no member: `etcd gateway ...`, `etcd grpc-proxy ...`.

Source: etcd server/etcdmain/gateway.go, grpc_proxy.go.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence

from balsad.ctl.command import Command, execute
from balsad.ctl.console import Console, Exit, leave


def run(root: Command, arguments: Sequence[str], start: Callable[[Command, Console], None]) -> None:
    """Run what `arguments`, with `etcd` before them, name below `root`, and end the process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    console = Console()
    try:
        status = execute(
            root,
            console,
            list(arguments[1:]),
            _usage,
            lambda command, console, _: start(command, console),
            last_words=_last_words,
        )
    except Exit as ended:
        status = ended.status
    leave(console, status)


def _usage(command: Command, console: Console, to_stderr: bool) -> None:
    from balsad.ctl.usage import cobra_usage

    if not to_stderr:
        console.print(f"{command.short}\n")
    cobra_usage(command, console, to_stderr)


def _last_words(console: Console, text: str) -> None:
    """What is wrong with the command line, once more, and no line's end."""
    console.flush()
    sys.stderr.write(text)
    sys.stderr.flush()
