"""Interprets `simple`, `enter-joint` and `leave-joint`: changes of a configuration, without a node."""

from __future__ import annotations

from balsad.raft import ConfChangeError, ConfChangeSingle
from balsad.raft.confchange import Changer
from balsad.raft.tracker import Tracker, describe_progress
from tests.scenarios.scenario_files import Command

COMMANDS = frozenset(("simple", "enter-joint", "leave-joint"))

LETTERS = {"v": 0, "r": 1, "u": 2, "l": 3}


def parse_changes(text: str) -> tuple[ConfChangeSingle, ...]:
    """`v1 l2 r3 u4`. Raises: ValueError."""
    changes: list[ConfChangeSingle] = []
    stripped = text.strip()
    for token in stripped.split(" ") if stripped else ():
        if len(token) < 2:
            raise ValueError(f"unknown token {token}")
        if token[0] not in LETTERS:
            raise ValueError(f"unknown input: {token}")
        changes.append(ConfChangeSingle(LETTERS[token[0]], parse_id(token[1:])))
    return tuple(changes)


def parse_id(text: str) -> int:
    """Raises: ValueError with Go's words."""
    if not text.isascii() or not text.isdigit():
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    number = int(text)
    if number >= 1 << 64:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return number


class ConfChangeWorld:
    def __init__(self) -> None:
        self.tracker = Tracker(10)
        self.last_index = 0

    def run(self, command: Command) -> str:
        changer = Changer(self.tracker, self.last_index)
        # Each command is a place in the log.
        self.last_index += 1
        try:
            changes = parse_changes(command.input)
        except ValueError as error:
            return str(error)
        try:
            if command.name == "simple":
                made = changer.simple(changes)
            elif command.name == "enter-joint":
                made = changer.enter_joint(command.value("autoleave") == "true", changes)
            elif command.name == "leave-joint":
                if changes:
                    return "this command takes no input\n"
                made = changer.leave_joint()
            else:
                return "unknown command"
        except ConfChangeError as error:
            return f"{error}\n"
        self.tracker.switch(*made)
        return f"{self.tracker.config!r}\n{describe_progress(self.tracker.progress)}"
