"""The v2 command line: which command a line means, and what is said to one that means none.

    etcdctl [global options] command [command options] [arguments...]
    etcdctl member command ...        a command with commands of its own is a small command line itself

Source: github.com/urfave/cli v1.22 (App.Run, Command.Run, RunAsSubcommand and the help templates).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from balsad.ctl.console import EXIT_ERROR, EXIT_INVALID_INPUT, Console, Exit
from balsad.ctl.v2.flags import HELP, VERSION, DoubledFlagError, Flag, UsageError, Values, flags_first
from balsad.ctl.versions import VERSION as ETCD_VERSION

_NAME: Final = "etcdctl"
_SUMMARY: Final = "A simple command line client for etcd."
_HELP_NAMES: Final = ("help", "h")
_HELP_USAGE: Final = "Shows a list of commands or help for one command"
_END: Final = "   "
"""What urfave/cli's template leaves behind the last of a command's options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """`run` is `module:function` below balsad.ctl.v2, asked for only when it is needed."""

    name: str
    usage: str
    run: str = ""
    arguments: str = ""
    usage_text: str = ""
    description: str = ""
    flags: tuple[Flag, ...] = ()
    commands: tuple[Command, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A command that was found, with its flags and those before it."""

    command: Command
    global_flags: Values
    flags: Values

    @property
    def args(self) -> list[str]:
        return self.flags.args


def find_command(
    console: Console, global_flags: tuple[Flag, ...], commands: tuple[Command, ...], words: list[str]
) -> Invocation:
    """What the words mean. Raises Exit when all that was asked for is help, or when they mean nothing."""
    root = _Level(console, (), commands, (*global_flags, HELP, VERSION))
    given = root.parse(words)
    if given.on("help"):
        root.print_help()
        raise Exit(0)
    if given.on("version"):
        console.print(f"etcdctl version: {ETCD_VERSION}")
        console.print("API version: 2")
        raise Exit(0)
    level, args = root, given.args
    while True:
        command = level.command(args)
        rest = args[1:]
        if not command.commands:
            return Invocation(command=command, global_flags=given, flags=level.parse_command(command, rest))
        level = _Level(console, (*level.path, command), command.commands, (*command.flags, HELP))
        below = level.parse(rest)
        if below.on("help"):
            level.print_help()
            raise Exit(0)
        args = below.args


class _Level:
    """A command line with commands: etcdctl itself, or one of its commands that has some."""

    def __init__(
        self, console: Console, path: tuple[Command, ...], commands: tuple[Command, ...], flags: tuple[Flag, ...]
    ) -> None:
        self._console = console
        self.path = path
        self._commands = {command.name: command for command in commands}
        self._flags = flags

    def parse(self, words: list[str]) -> Values:
        values = Values(self._flags)
        try:
            values.parse(words)
        except UsageError as error:
            self._console.print(str(error) if isinstance(error, DoubledFlagError) else f"Incorrect Usage. {error}\n")
            self.print_help()
            self._fail(str(error))
        return values

    def command(self, args: list[str]) -> Command:
        """The command that the arguments begin with. Raises Exit after help was given, or when there is none."""
        asks_help = args[:1] and args[0] in _HELP_NAMES
        if asks_help:
            args = args[1:]
        elif args and args[0] in self._commands:
            return self._commands[args[0]]
        if not args:
            self.print_help(as_app=bool(asks_help))
            raise Exit(0)
        if args[0] in _HELP_NAMES:
            # At the top the template knows no name for this one.
            name = " ".join([_NAME, *(above.name for above in self.path), "help"]) if self.path else ""
            self._say("NAME", f"{name} - {_HELP_USAGE}")
            self._say("USAGE", f"{name} [command]", last=True)
            raise Exit(0)
        asked = self._commands.get(args[0])
        if asked is None:
            self._console.error(f"No help topic for '{args[0]}'")
            raise Exit(EXIT_INVALID_INPUT)
        self._print_command_help(asked)
        raise Exit(0)

    def parse_command(self, command: Command, words: list[str]) -> Values:
        flags = (*command.flags, HELP)
        values = Values(flags)
        try:
            values.parse(flags_first(flags, words))
        except UsageError as error:
            self._console.print(f"Incorrect Usage: {error}\n")
            self._print_command_help(command)
            self._fail(str(error))
        if values.on("help"):
            self._print_command_help(command)
            raise Exit(0)
        return values

    def _fail(self, text: str) -> None:
        self._console.error(text)
        raise Exit(EXIT_ERROR)

    def print_help(self, *, as_app: bool = False) -> None:
        """`as_app`: as if this were etcdctl itself, which is how `etcdctl member help` shows it."""
        commands = [(command.name, command.usage) for command in self._commands.values()]
        name = " ".join([_NAME, *(command.name for command in self.path)])
        if self.path and not as_app:
            self._say("NAME", f"{name} - {self.path[-1].usage}")
            self._say("USAGE", f"{name} command [command options] [arguments...]")
            self._table("COMMANDS", commands)
            self._table("OPTIONS", [flag.help_line for flag in self._flags], end=_END)
            return
        self._say("NAME", f"{name} - {self.path[-1].usage if self.path else _SUMMARY}")
        self._say("USAGE", f"{name} [global options] command [command options] [arguments...]")
        self._say("VERSION", ETCD_VERSION)
        if not self.path:
            commands.append((", ".join(_HELP_NAMES), _HELP_USAGE))
        self._table("COMMANDS", commands)
        self._table("GLOBAL OPTIONS", [flag.help_line for flag in self._flags], end=None)

    def _print_command_help(self, command: Command) -> None:
        name = " ".join([_NAME, *(above.name for above in self.path), command.name])
        self._say("NAME", f"{name} - {command.usage}")
        options = " [command options]" if command.flags else ""
        usage = command.usage_text or f"{name}{options} {command.arguments or '[arguments...]'}"
        self._say("USAGE", usage, last=not command.description and not command.flags)
        if command.description:
            self._say("DESCRIPTION", command.description, last=not command.flags)
        if command.flags:
            self._table("OPTIONS", [flag.help_line for flag in command.flags], end=_END)

    def _say(self, title: str, text: str, *, last: bool = False) -> None:
        self._console.print(f"{title}:\n   {text}" + ("" if last else "\n"))

    def _table(self, title: str, rows: list[tuple[str, str]], *, end: str | None = "") -> None:
        width = max(len(left) for left, _ in rows) + 2
        self._console.print(f"{title}:")
        for left, right in rows:
            self._console.print(f"   {left.ljust(width)}{right}")
        if end is not None:
            self._console.print(end)
