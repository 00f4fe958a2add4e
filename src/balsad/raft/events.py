"""What happened inside raft that an operator or a simulator wants to know.

Raft does not log. Events gather here and leave with the next Ready; the
driver logs them, the simulator compares them. They never make a Ready by
themselves.
"""

from __future__ import annotations

from typing import Final

DEBUG: Final = 10
INFO: Final = 20
WARNING: Final = 30
ERROR: Final = 40

# A node that nobody asks for its Ready must not hoard events.
EVENTS_MAX: Final = 1000

Fact = int | str | bool


class Event:
    """One thing that happened: a constant sentence, and its facts as fields. `level` is a logging level."""

    __slots__ = ("facts", "level", "message")

    def __init__(self, level: int, message: str, facts: dict[str, Fact]) -> None:
        self.level = level
        self.message = message
        self.facts = facts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and (self.level, self.message, self.facts) == (
            other.level,
            other.message,
            other.facts,
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Event({self.message!r}, {self.facts})"
