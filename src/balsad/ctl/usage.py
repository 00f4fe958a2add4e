"""Help texts: etcdctl's own layout, and cobra's for etcdutl."""

from __future__ import annotations

from typing import Final

from balsad.ctl.command import Command
from balsad.ctl.console import Console
from balsad.ctl.flags import BOOL, INT64, STRING, STRINGS, Flag, FlagSet
from balsad.ctl.tabwriter import align
from balsad.ctl.versions import API_VERSION, VERSION
from balsad.go_quote import quote_go

_VALUE_NAMES: Final = {STRINGS: "strings", INT64: "int"}


def etcdctl_usage(command: Command, console: Console, is_error: bool) -> None:
    """Source: etcd pkg/cobrautl/help.go. Goes to standard output even after an error."""
    del is_error
    name = _name_below_root(command)
    out = ["NAME:", f"\t{name} - {command.short}", "", "USAGE:", f"\t{command.use_line}"]
    if command.parent is None:
        out += ["", "VERSION:", f"\t{VERSION}"]
    if command.commands:
        out += ["", "API VERSION:", f"\t{API_VERSION}", "", "", "COMMANDS:"]
        out += [f"\t{_name_below(below, command)}\t{below.short}" for below in _all_below(command) if below.run]
    if command.long:
        out += ["", "DESCRIPTION:"]
        out += [f"\t{line}" for line in command.long.strip("\n\t ").split("\n")]
    local = command.local_flags
    if local.flags:
        out += ["", "OPTIONS:", *_etcdctl_flags(local)]
    inherited = command.inherited_flags
    if inherited.flags:
        out += ["", "GLOBAL OPTIONS:", *_etcdctl_flags(inherited)]
    console.write(align("\n".join(out) + "\n\n").encode())


def _name_below_root(command: Command) -> str:
    return command.name if command.parent is None else _name_below(command, command.root)


def _name_below(command: Command, above: Command) -> str:
    names = [command.name]
    while command.parent is not None and command.parent is not above:
        command = command.parent
        names.insert(0, command.name)
    return " ".join(names)


def _all_below(command: Command) -> list[Command]:
    found: list[Command] = []
    for below in command.sorted_commands:
        if not below.hidden:
            found += [below, *_all_below(below)]
    return found


def _etcdctl_flags(flags: FlagSet) -> list[str]:
    lines = []
    for flag in _listed(flags):
        line = f"  -{flag.shorthand}, --{flag.name}" if flag.shorthand else f"      --{flag.name}"
        value = quote_go(flag.default) if flag.kind == STRING else flag.default
        line += f"[={value}]" if flag.kind == BOOL else f"={value}"
        lines.append(f"{line}\t{flag.usage}")
    return lines


def _listed(flags: FlagSet) -> list[Flag]:
    return [flag for flag in flags.in_order() if not flag.hidden]


def cobra_usage(command: Command, console: Console, is_error: bool) -> None:
    """cobra's default layout; to standard error after an error."""
    out = ["Usage:"]
    available = [below for below in command.sorted_commands if below.is_available or below.name == "help"]
    groups = any(below.is_available for below in command.commands)
    if command.run:
        out.append(f"  {command.use_line}")
    if groups:
        out += [f"  {command.path} [command]", "", "Available Commands:"]
        padding = max([11, *(len(below.name) for below in command.commands)])
        out += [f"  {below.name:<{padding}} {below.short}" for below in available]
    local = command.local_flags
    if local.flags:
        out += ["", "Flags:", *_cobra_flags(local)]
    inherited = command.inherited_flags
    if inherited.flags:
        out += ["", "Global Flags:", *_cobra_flags(inherited)]
    if groups:
        out += ["", f'Use "{command.path} [command] --help" for more information about a command.']
    text = "\n".join(out)
    if is_error:
        console.error(text)
    else:
        console.print(text)


def _cobra_flags(flags: FlagSet) -> list[str]:
    left = []
    right = []
    for flag in _listed(flags):
        line = f"  -{flag.shorthand}, --{flag.name}" if flag.shorthand else f"      --{flag.name}"
        if flag.kind != BOOL:
            line += f" {_VALUE_NAMES.get(flag.kind, flag.kind)}"
        left.append(line)
        right.append(flag.usage + _default_text(flag))
    width = max(len(line) for line in left)
    return [f"{line:<{width}}   {usage}".rstrip() for line, usage in zip(left, right, strict=True)]


def _default_text(flag: Flag) -> str:
    if flag.default in ("", "false", "0", "0s", "[]"):
        return ""
    return f" (default {quote_go(flag.default) if flag.kind == STRING else flag.default})"
