"""What every cell is given: who is measured, how often, how long, with what, where; and rounds in turn."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

from bench.bars import Bars
from bench.contenders import FLAGS, Contender
from bench.cpu import Meter
from bench.figures import Sample, Samples
from bench.load import Load, Request, Target
from bench.report import Progress
from tests.interop.servers import Member

T = TypeVar("T")

Generate = Callable[[Request, Sequence[Target], float, Meter], Load]


@dataclass(slots=True)
class Setting:
    """`contenders` has the real etcd first, our forms behind; `shared` ends what `once` has `made`."""

    contenders: list[Contender]
    pairs: int
    seconds: float
    keys: int
    is_quick: bool
    generate: Generate
    folder: Path
    keep: Path | None
    progress: Progress
    shared: contextlib.ExitStack
    made: dict[str, object] = field(default_factory=dict)

    def in_turn(self, measure: Callable[[Contender], Sample], rounds_max: int = 1 << 30) -> Samples:
        """`measure` of each contender in each round: there and back again, so that what drifts hits all."""
        rounds = min(self.pairs, rounds_max)
        samples: dict[str, list[Sample]] = {contender.form: [] for contender in self.contenders}
        for number in range(rounds):
            for contender in self.contenders if number % 2 == 0 else self.contenders[::-1]:
                self.progress.say(f"round {number + 1} of {rounds}: {contender.form}")
                samples[contender.form].append(measure(contender))
        return samples

    def once(self, name: str, make: Callable[[], contextlib.AbstractContextManager[T]]) -> T:
        """What several cells share: made when the first asks for it, ended with the run."""
        if name not in self.made:
            self.made[name] = self.shared.enter_context(make())
        return cast(T, self.made[name])

    @contextlib.contextmanager
    def new_folder(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self.folder, ignore_cleanup_errors=True) as name:
            yield Path(name)

    @contextlib.contextmanager
    def members(self, *flags: str) -> Iterator[dict[str, Member]]:
        """A new member of each contender, by form, all up at once; killed, their data removed, at the end."""
        with self.new_folder() as folder:
            started: dict[str, Member] = {}
            try:
                for one in self.contenders:
                    started[one.form] = Member(one.program, folder / one.form, (*FLAGS, *flags), None)
                for member in started.values():
                    member.wait_healthy()
                yield started
            finally:
                for member in started.values():
                    member.kill()

    @contextlib.contextmanager
    def member(self, contender: Contender, *flags: str) -> Iterator[Member]:
        """A new member of one contender alone."""
        alone = dataclasses.replace(self, contenders=[contender])
        with alone.members(*flags) as members:
            yield members[contender.form]


@dataclass(frozen=True, slots=True)
class Cell:
    """One thing that is measured; its name tells what is done."""

    group: str
    name: str
    bars: Bars
    run: Callable[[Setting], Samples]
