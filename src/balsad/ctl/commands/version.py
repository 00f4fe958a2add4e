"""`version`, of both tools."""

from __future__ import annotations

from balsad.ctl.command import Command
from balsad.ctl.console import Console
from balsad.ctl.context import Context
from balsad.ctl.versions import API_VERSION, VERSION


def run(context: Context, args: list[str]) -> None:
    print_versions(context.command, context.console)


def run_utl(command: Command, console: Console, args: list[str]) -> None:
    print_versions(command, console)


def print_versions(command: Command, console: Console) -> None:
    console.print(f"{command.root.name} version: {VERSION}")
    console.print(f"API version: {API_VERSION}")
