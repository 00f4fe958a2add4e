"""`etcdctl txn`: compares, a blank line, success requests, a blank line, failure requests, a blank line.

    mod("key1") > "0"

    put key1 "overwrote key1"

    put key1 created-key1
    get --prefix key

Source: etcdctl txn_command.go, util.go.
"""

from __future__ import annotations

import re
import sys
from typing import Final, NoReturn

from balsad.client.kv import Operation, compare
from balsad.client.messages import Compare
from balsad.ctl.command import Command, execute
from balsad.ctl.console import EXIT_BAD_ARGS, EXIT_BAD_CONNECTION, EXIT_INVALID_INPUT, EXIT_OK, Console, Failure
from balsad.ctl.context import Context
from balsad.ctl.go_text import bytes_of, parse_int, text_of, unquote
from balsad.go_quote import quote_go

_WORD: Final = re.compile(r""""(?:[^"\\]|\\.)*"|'[^']*'|[^'"\s]\S*[^'"\s]?""")
_TARGETS: Final = {
    "ver": "version",
    "version": "version",
    "c": "create_revision",
    "create": "create_revision",
    "m": "mod_revision",
    "mod": "mod_revision",
    "val": "value",
    "value": "value",
    "lease": "lease",
}


def run(context: Context, args: list[str]) -> None:
    if args:
        raise Failure(EXIT_BAD_ARGS, "txn command does not accept argument")
    client = context.client()
    interactive = context.flags.on("interactive")
    _prompt(context.console, interactive, "compares:")
    compares = [parse_compare(line) for line in _lines()]
    _prompt(context.console, interactive, "success requests (get, put, del):")
    success = [parse_request(context.console, line) for line in _lines()]
    _prompt(context.console, interactive, "failure requests (get, put, del):")
    failure = [parse_request(context.console, line) for line in _lines()]
    context.printer.txn(context.call(client.kv.txn(compares, success, failure)))


def _prompt(console: Console, interactive: bool, text: str) -> None:
    if interactive:
        console.print(text)
        console.flush()


def _lines() -> list[str]:
    """The lines up to the next blank one."""
    lines: list[str] = []
    while True:
        raw = sys.stdin.buffer.readline()
        if not raw.endswith(b"\n"):
            raise Failure(EXIT_INVALID_INPUT, "EOF")
        line = text_of(raw).strip()
        if not line:
            return lines
        lines.append(line)


def split_words(line: str) -> list[str]:
    """The words of a line; quotes of both kinds keep blanks together."""
    words: list[str] = _WORD.findall(line)
    for number, word in enumerate(words):
        if word[0] == "'":
            # etcdctl cuts the word at the number of words less one, not at its
            # last letter; here the quotes come off.
            words[number] = word[1:-1]
        elif word[0] == '"':
            try:
                words[number] = unquote(word)
            except ValueError as error:
                raise Failure(EXIT_INVALID_INPUT, error) from error
    return words


def parse_request(console: Console, line: str) -> Operation:
    """A line such as `put key value`. Raises Failure."""
    words = split_words(line)
    if len(words) < 2:
        raise Failure(EXIT_INVALID_INPUT, f"invalid txn compare request: {line}")
    from balsad.ctl.commands import delete, get, put
    from balsad.ctl.etcdctl_tree import del_command, get_command, put_command
    from balsad.ctl.usage import cobra_usage

    found: list[Operation] = []

    def take(command: Command, _console: Console, args: list[str]) -> None:
        module = {"put": put, "get": get, "del": delete}[command.name]
        found.append(module.request_of(command.merged_flags, args))

    root = Command("", commands=[put_command(), get_command(), del_command()])
    status = execute(root, console, words, cobra_usage, take, silent=True)
    if status != EXIT_OK or not found:
        raise Failure(EXIT_INVALID_INPUT, f"invalid txn request: {line}")
    return found[0]


def parse_compare(line: str) -> Compare:
    """A line such as `mod("key") > "0"`. Raises Failure."""
    target, parenthesis, rest = line.partition("(")
    if not parenthesis:
        raise Failure(EXIT_INVALID_INPUT, f"malformed comparison: {line}")
    scan = _Scan(rest)
    key, result, value = scan.compare_parts()
    if scan.found != 3:
        got = f"got {target}({quote_go(key)}) {result} {quote_go(value)}"
        raise Failure(EXIT_INVALID_INPUT, f"malformed comparison: {line}; {got}")
    name = _TARGETS.get(target)
    if name is None:
        raise Failure(EXIT_INVALID_INPUT, f"malformed comparison: {line} (unknown target {target})")
    if result not in ("=", "!=", ">", "<"):
        # Here etcdctl ends with a panic of this text.
        raise Failure(EXIT_BAD_CONNECTION, "Unknown result op")
    if name == "value":
        return compare(bytes_of(key), name, result, bytes_of(value))
    try:
        number = parse_int(value, 16 if name == "lease" else 10)
    except ValueError:
        raise Failure(EXIT_INVALID_INPUT, f"invalid txn compare request: {line}") from None
    return compare(bytes_of(key), name, result, number)


class _Scan:
    """Go's Sscanf of `%q) %s %q`: how many parts were found before the text went wrong."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.found = 0

    def compare_parts(self) -> tuple[str, str, str]:
        parts = ["", "", ""]
        try:
            parts[0] = self._quoted()
            self.found = 1
            if not self._text.startswith(")"):
                self._stop()
            self._text = self._text[1:]
            self._blank()
            parts[1] = self._word()
            self.found = 2
            self._blank()
            parts[2] = self._quoted()
            self.found = 3
        except ValueError:
            pass
        return parts[0], parts[1], parts[2]

    def _stop(self) -> NoReturn:
        raise ValueError("the input does not match")

    def _blank(self) -> None:
        if self._text and not self._text[0].isspace():
            self._stop()
        self._text = self._text.lstrip()

    def _word(self) -> str:
        size = next((number for number, char in enumerate(self._text) if char.isspace()), len(self._text))
        if not size:
            self._stop()
        word, self._text = self._text[:size], self._text[size:]
        return word

    def _quoted(self) -> str:
        text = self._text = self._text.lstrip()
        match = re.match(r'"(?:[^"\\]|\\.)*"|`[^`]*`', text, re.DOTALL)
        if match is None:
            self._stop()
        self._text = text[match.end() :]
        return unquote(match.group())
