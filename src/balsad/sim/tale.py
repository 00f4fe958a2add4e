"""All that happens in a world, line by line, for whoever looks for the reason of a violation."""

from __future__ import annotations

import logging
from asyncio import events
from types import TracebackType
from typing import TYPE_CHECKING, Final, TextIO

from balsad.sim.loop import Process

if TYPE_CHECKING:
    from balsad.sim.world import World

_PLAIN: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "fields"}


class Tale(logging.Handler):
    """Writes to a file what the world notes and what members log."""

    def __init__(self, world: World, file: TextIO, level: int) -> None:
        super().__init__(level)
        self._world = world
        self._file = file
        self._logger = logging.getLogger("balsad")
        self._was = self._logger.level, self._logger.propagate

    def __enter__(self) -> Tale:
        self._world.listeners.append(self._write)
        self._was = self._logger.level, self._logger.propagate
        self._logger.setLevel(self.level)
        self._logger.propagate = False
        self._logger.addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._was[0])
        self._logger.propagate = self._was[1]
        self._world.listeners.remove(self._write)

    def _write(self, line: str) -> None:
        self._file.write(line + "\n")

    def emit(self, record: logging.LogRecord) -> None:
        process = events._get_running_loop()
        who = process.name if isinstance(process, Process) else "-"
        facts = getattr(record, "fields", None)
        if facts is None:
            facts = {name: value for name, value in record.__dict__.items() if name not in _PLAIN}
        self._write(f"{self._world.timeline.now:.9f} {who} {record.levelname.lower()}: {record.getMessage()} {facts}")
