"""What configuration has to say before a logger stands: log lines as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["debug", "info", "warn", "error", "fatal"]


@dataclass(frozen=True, slots=True)
class Note:
    level: Level
    message: str
    fields: Mapping[str, object] = field(default_factory=dict)
