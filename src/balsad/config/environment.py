"""`ETCD_*` variables, which stand for flags that the command line does not give.

Source: etcd pkg/flags/flag.go SetFlagsFromEnv.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from balsad.config.flag_table import FLAGS, VERSION
from balsad.config.notes import Note
from balsad.go_quote import quote_go

PREFIX = "ETCD_"


@dataclass(slots=True)
class EnvironmentFlags:
    flags: list[tuple[str, str]] = field(default_factory=list)  # name and text, by name
    notes: list[Note] = field(default_factory=list)
    problem: str = ""  # a value that does not parse
    conflict: bool = False  # a variable beside its flag, which ends the start at once


def read_environment(environ: Mapping[str, str], given: set[str]) -> EnvironmentFlags:
    """The flags that `environ` sets, where `given` names those on the command line."""
    found = EnvironmentFlags()
    shadowed = {FLAGS[name].variable for name in given}
    used: set[str] = set()
    version = environ.get(VERSION.variable, "")
    if version:
        found.notes.append(
            Note("warn", "cannot set special environment variable", {"key": VERSION.variable, "value": version})
        )
    for name in sorted(FLAGS):
        flag = FLAGS[name]
        text = environ.get(flag.variable, "")
        if not text or flag is VERSION or flag.variable in shadowed:
            continue
        used.add(flag.variable)
        try:
            flag.kind.parse(text)
        except ValueError as problem:
            found.problem = f"invalid value {quote_go(text)} for {flag.variable}: {problem}"
            continue
        found.flags.append((name, text))
        found.notes.append(
            Note(
                "info",
                "recognized and used environment variable",
                {"variable-name": flag.variable, "variable-value": text},
            )
        )
    for variable, text in environ.items():
        if variable in used or (variable == VERSION.variable and version):
            continue
        if variable in shadowed:
            found.notes.append(
                Note(
                    "fatal",
                    "conflicting environment variable is shadowed by corresponding command-line flag "
                    "(either unset environment variable or disable flag))",
                    {"environment-variable": variable},
                )
            )
            found.conflict = True
            return found
        if variable.startswith(PREFIX):
            found.notes.append(
                Note("warn", "unrecognized environment variable", {"environment-variable": f"{variable}={text}"})
            )
    return found
