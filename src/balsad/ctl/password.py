"""Passwords, asked for on the terminal. Source: github.com/bgentry/speakeasy, etcdctl user_command.go."""

from __future__ import annotations

import os

from balsad.ctl.console import EXIT_BAD_ARGS, Console, Failure
from balsad.ctl.go_text import text_of


def ask(console: Console, prompt: str) -> str:
    """A line from standard input, not echoed if that is a terminal."""
    console.write(prompt.encode("utf-8", "surrogateescape"))
    console.flush()
    _stty("-echo")
    try:
        line = bytearray()
        # One byte at a time, so that what follows stays for others to read.
        while (byte := os.read(0, 1)) not in (b"", b"\n"):
            line += byte
    finally:
        _stty("echo")
    console.print("")
    return text_of(bytes(line)).strip()


def _stty(mode: str) -> None:
    try:
        os.waitpid(os.posix_spawnp("stty", ["stty", mode], os.environ), 0)
    except FileNotFoundError:
        return


def ask_twice(console: Console, name: str) -> str:
    """A new password for a user, typed twice."""
    first = ask(console, f"Password of {name}: ")
    if not first:
        raise Failure(EXIT_BAD_ARGS, "empty password")
    if ask(console, f"Type password of {name} again for confirmation: ") != first:
        raise Failure(EXIT_BAD_ARGS, "given passwords are different")
    return first


def scan_word() -> str:
    """The first word of a line of standard input, as Go's Scanf("%s") reads it."""
    word = bytearray()
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        if byte in b" \t\r":
            if word:
                break
        else:
            word += byte
    return text_of(bytes(word))
