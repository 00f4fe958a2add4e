"""A tree of commands as cobra runs it: finding, prefixes, suggestions, flags, help, and what errors say.

A command names the function that runs it as "module:function"; the module is
imported when the command runs, so that help costs nothing but this tree.

Source: github.com/spf13/cobra v1.1.3 with EnablePrefixMatching.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from balsad.ctl.console import EXIT_ERROR, EXIT_OK, Console
from balsad.ctl.flags import BOOL, Flag, FlagError, FlagSet
from balsad.ctl.go_text import back_quote
from balsad.go_quote import quote_go

_SUGGESTION_DISTANCE: Final = 2

Runner = Callable[["Command", Console, list[str]], None]
Usage = Callable[["Command", Console, bool], None]


class Command:
    """One command and what is below it. `run` is "module:function", or empty for a mere group.

    A hidden command is left out of help; an extra one, of a later release, also needs its whole name.
    """

    def __init__(
        self,
        use: str,
        short: str = "",
        *,
        run: str = "",
        long: str = "",
        flags: Sequence[Flag] = (),
        persistent_flags: Sequence[Flag] = (),
        commands: Sequence[Command] = (),
        hidden: bool = False,
        extra: bool = False,
        deprecated: str = "",
        flags_in_use_line: bool = True,
    ) -> None:
        self.use = use
        self.name = use.split(" ", 1)[0]
        self.short = short
        self.long = long
        self.run = run
        self.hidden = hidden or extra
        self.extra = extra
        self.deprecated = deprecated
        self.parent: Command | None = None
        self.commands: list[Command] = []
        self.flags = FlagSet(flags)
        self.persistent_flags = FlagSet(persistent_flags)
        self._flags_in_use_line = flags_in_use_line
        self._merged = False
        for command in commands:
            self.add(command)

    def add(self, command: Command) -> None:
        command.parent = self
        self.commands.append(command)

    # ---- what it is

    @property
    def root(self) -> Command:
        return self if self.parent is None else self.parent.root

    @property
    def path(self) -> str:
        """Its name with all names above it."""
        return self.name if self.parent is None else f"{self.parent.path} {self.name}"

    @property
    def sorted_commands(self) -> list[Command]:
        return sorted(self.commands, key=lambda command: command.name)

    @property
    def is_available(self) -> bool:
        """Whether help lists it."""
        if self.deprecated or self.hidden or self.name == "help":
            return False
        return bool(self.run) or any(command.is_available for command in self.commands)

    @property
    def inherited_flags(self) -> FlagSet:
        """The persistent flags of all commands above."""
        found = FlagSet()
        above = self.parent
        while above is not None:
            found.merge(above.persistent_flags)
            above = above.parent
        return found

    @property
    def local_flags(self) -> FlagSet:
        """The flags that are its own."""
        inherited = self.inherited_flags.flags
        return FlagSet(flag for flag in self.merged_flags.flags.values() if flag.name not in inherited)

    @property
    def merged_flags(self) -> FlagSet:
        """Its own flags and those it inherits."""
        if not self._merged:
            self._merged = True
            self.flags.merge(self.persistent_flags)
            self.flags.merge(self.inherited_flags)
        return self.flags

    @property
    def use_line(self) -> str:
        line = self.use if self.parent is None else f"{self.parent.path} {self.use}"
        if self._flags_in_use_line and self.merged_flags.flags and "[flags]" not in line:
            line += " [flags]"
        return line

    def add_help_flag(self) -> None:
        if "help" not in self.merged_flags.flags:
            self.flags.add(Flag(BOOL, "help", False, f"help for {self.name or 'this command'}", "h"))

    # ---- finding

    def find(self, args: list[str]) -> tuple[Command, list[str]]:
        """The command that `args` mean and what is left of them. Raises UnknownCommandError."""
        words = self._words(args)
        if words:
            below = self._below(words[0])
            if below is not None:
                rest = list(args)
                rest.remove(words[0])
                return below.find(rest)
        if self.commands and self.parent is None and words:
            raise UnknownCommandError(self, words[0])
        return self, args

    def _words(self, args: list[str]) -> list[str]:
        """The arguments without flags and their values, up to --."""
        flags = self.merged_flags
        words: list[str] = []
        rest = list(args)
        while rest:
            arg = rest.pop(0)
            if arg == "--":
                break
            if arg.startswith("--"):
                flag = flags.flags.get(arg[2:])
                if "=" in arg or (flag is not None and not flag.takes_value):
                    continue
            elif arg.startswith("-"):
                flag = flags.by_shorthand(arg[1:2]) if len(arg) > 1 else None
                if "=" in arg or len(arg) != 2 or (flag is not None and not flag.takes_value):
                    continue
            else:
                if arg:
                    words.append(arg)
                continue
            if len(rest) <= 1:
                # As cobra has it: a last argument after such a flag is its value.
                break
            rest.pop(0)
        return words

    def _below(self, word: str) -> Command | None:
        """The command of this name, or the only one whose name begins so."""
        matches: list[Command] = []
        for command in self.commands:
            if command.name == word:
                return command
            if command.name.startswith(word) and not command.extra:
                matches.append(command)
        return matches[0] if len(matches) == 1 else None

    def suggestions(self, word: str) -> list[str]:
        """Commands that may have been meant."""
        found = []
        for command in self.commands:
            if command.is_available and (
                _distance(word.lower(), command.name.lower()) <= _SUGGESTION_DISTANCE
                or command.name.lower().startswith(word.lower())
            ):
                found.append(command.name)
        return found


class UnknownCommandError(Exception):
    """No command of this name."""

    def __init__(self, command: Command, word: str) -> None:
        self.command = command
        text = f"unknown command {quote_go(word)} for {quote_go(command.path)}"
        suggestions = command.suggestions(word)
        if suggestions:
            text += "\n\nDid you mean this?\n" + "".join(f"\t{name}\n" for name in suggestions)
        super().__init__(text)


def execute(
    root: Command,
    console: Console,
    args: list[str],
    usage: Usage,
    runner: Runner,
    *,
    silent: bool = False,
    last_words: Callable[[Console, str], None] | None = None,
) -> int:
    """Find and run what `args` mean; gives the exit status. `usage` prints usage, to stderr if its flag is set.

    An error in the command line is said twice, before and after the usage, as
    etcdctl says it: once by cobra, once by etcdctl's main. With `silent` it is
    not said at all, only the usage is. `last_words` takes the place of etcdctl's main.
    """

    def say(text: str) -> None:
        if not silent:
            console.error(text)

    _add_help_command(root)
    try:
        command, rest = root.find(args)
    except UnknownCommandError as error:
        say(f"Error: {error}")
        say(f"Run '{error.command.path} --help' for usage.")
        say(f"Error: {error}")
        return EXIT_ERROR
    if command.deprecated:
        console.error(f"Command {quote_go(command.name)} is deprecated, {command.deprecated}")
    command.add_help_flag()
    flags = command.merged_flags
    try:
        flags.parse(rest)
        if flags.on("help"):
            usage(command, console, False)
            return EXIT_OK
        if command.name == "help" and command.parent is root:
            _help(root, console, flags.args, usage)
            return EXIT_OK
        if not command.run:
            usage(command, console, False)
            return EXIT_OK
        missing = [quote_go(flag.name) for flag in flags.in_order() if flag.required and not flag.changed]
        if missing:
            raise FlagError(f"required flag(s) {', '.join(missing)} not set")
    except FlagError as error:
        say(f"Error: {error}")
        usage(command, console, True)
        console.error("")
        if last_words is None:
            say(f"Error: {error}")
        else:
            last_words(console, str(error))
        return EXIT_ERROR
    runner(command, console, flags.args)
    return EXIT_OK


def _add_help_command(root: Command) -> None:
    root.add(
        Command(
            "help [command]",
            "Help about any command",
            long="Help provides help for any command in the application.\n"
            f"Simply type {root.name} help [path to command] for full details.",
            run="help",
        )
    )


def _help(root: Command, console: Console, args: list[str], usage: Usage) -> None:
    try:
        command, _rest = root.find(args)
    except UnknownCommandError:
        console.error(f"Unknown help topic [{' '.join(back_quote(arg) for arg in args)}]")
        usage(root, console, True)
        return
    command.add_help_flag()
    usage(command, console, False)


def _distance(left: str, right: str) -> int:
    """How many letters must be added, dropped or changed to get from one word to the other."""
    row = list(range(len(right) + 1))
    for number, letter in enumerate(left, 1):
        diagonal, row[0] = row[0], number
        for place, other in enumerate(right, 1):
            diagonal, row[place] = (
                row[place],
                min(row[place] + 1, row[place - 1] + 1, diagonal + (letter != other)),
            )
    return row[-1]
