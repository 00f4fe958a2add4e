"""`etcdutl backup`, refused for now."""

from __future__ import annotations

from balsad.ctl.command import Command
from balsad.ctl.console import EXIT_ERROR, Console, Failure


def run(command: Command, console: Console, args: list[str]) -> None:
    raise Failure(EXIT_ERROR, "backup is not supported by this etcdutl yet; use `etcdctl snapshot save` instead")
