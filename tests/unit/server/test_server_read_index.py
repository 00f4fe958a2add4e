"""Linearizable reads in rounds: who waits for which question, and what becomes of questions nobody answers."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from balsad.errors import LeaderChangedError, RequestError, RequestTimedOutError, StoppedError
from balsad.raft import ReadState
from balsad.server.read_index import RETRY_S, ReadIndex
from balsad.server.request_ids import RequestIds

TIMEOUT_S = 7.0


class FakeNode:
    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def read_index(self, context: bytes) -> None:
        self.asked.append(context)


class World:
    def __init__(self) -> None:
        self.node = FakeNode()
        self.woken = 0
        self.now = 100.0
        self.reads = ReadIndex(self.node, RequestIds(1, unix_ms=0), timeout_s=TIMEOUT_S, wake=self.wake)
        self.heard: list[tuple[str, RequestError | None]] = []

    def wake(self) -> None:
        self.woken += 1

    def read(self, name: str) -> None:
        self.reads.read(lambda error: self.heard.append((name, error)), self.now)

    def confirm(self, index: int, context: bytes | None = None) -> None:
        asked = self.node.asked[-1] if context is None else context
        self.reads.on_read_states([ReadState(index, asked)])

    def names(self) -> list[str]:
        return [name for name, _ in self.heard]


def test_a_read_waits_for_the_quorum_and_then_for_the_apply() -> None:
    world = World()
    world.read("a")
    assert (len(world.node.asked), world.woken) == (1, 1)

    world.confirm(5)
    assert world.heard == []
    world.reads.on_applied(4)
    assert world.heard == []
    world.reads.on_applied(5)

    assert world.heard == [("a", None)]
    assert world.reads.is_idle


class Insistent:
    """Reads again as soon as it is told, as a client does whose next request is here already."""

    def __init__(self, world: World, name: str, times: int = 1) -> None:
        self.world, self.name, self.left = world, name, times
        self.read()

    def read(self) -> None:
        self.world.reads.read(self.told, self.world.now)

    def told(self, error: RequestError | None) -> None:
        self.world.heard.append((self.name, error))
        if self.left:
            self.left -= 1
            self.read()


def test_those_who_read_again_at_once_are_all_told() -> None:
    world = World()
    world.reads.on_applied(9)
    world.read("first")
    for name in ("a", "b", "c"):
        Insistent(world, name)
    world.confirm(9)
    assert world.names() == ["first"]
    for _ in range(4):
        world.confirm(9)
    assert sorted(world.names()) == ["a", "a", "b", "b", "c", "c", "first"]
    assert world.reads.is_idle


def test_those_who_read_again_when_refused_are_told_once_each_time() -> None:
    world = World()
    for name in ("a", "b", "c"):
        Insistent(world, name)
    world.now += TIMEOUT_S
    world.reads.tick(world.now)
    assert world.names() == ["a", "b", "c"]
    world.reads.on_applied(9)
    for _ in range(3):
        world.confirm(9)
    assert sorted(world.names()) == ["a", "a", "b", "b", "c", "c"]
    assert world.reads.is_idle


def test_what_is_applied_already_is_read_at_once() -> None:
    world = World()
    world.reads.on_applied(9)
    world.read("a")
    world.confirm(9)
    assert world.heard == [("a", None)]


def test_reads_that_come_after_the_question_wait_for_the_next_one() -> None:
    """A write acknowledged between question and read need not be seen by the question's index."""
    world = World()
    world.read("a")
    world.read("b")
    world.read("c")
    assert len(world.node.asked) == 1

    world.reads.on_applied(10)
    world.confirm(5)

    assert world.names() == ["a"]
    assert len(world.node.asked) == 2
    assert world.node.asked[0] != world.node.asked[1]
    world.confirm(6)
    assert world.names() == ["a", "b", "c"]
    assert world.reads.is_idle


def test_rounds_are_answered_as_the_apply_reaches_them() -> None:
    world = World()
    for name, index in (("a", 5), ("b", 7), ("c", 7)):
        world.read(name)
        world.confirm(index)
    world.reads.on_applied(6)
    assert world.names() == ["a"]
    world.reads.on_applied(8)
    assert world.names() == ["a", "b", "c"]


def test_an_answer_to_another_question_is_none() -> None:
    world = World()
    world.reads.on_applied(100)
    world.read("a")
    world.confirm(5, b"somebody else")
    assert world.heard == []
    world.confirm(5)
    world.confirm(5)  # a late copy
    assert world.heard == [("a", None)]


def test_a_question_without_answer_is_asked_again() -> None:
    world = World()
    world.read("a")
    world.now += RETRY_S - 0.01
    world.reads.tick(world.now)
    assert len(world.node.asked) == 1
    world.now += 0.01
    world.reads.tick(world.now)
    world.reads.tick(world.now)
    assert world.node.asked == [world.node.asked[0]] * 2  # the same question: its answer may be on its way
    assert world.reads.slow == 1
    world.reads.on_applied(5)
    world.confirm(5)
    assert world.heard == [("a", None)]


def test_reads_time_out_wherever_they_wait() -> None:
    world = World()
    world.read("confirmed")
    world.confirm(50)
    world.read("asked")
    world.read("gathering")
    world.now += TIMEOUT_S - 0.1
    world.read("young")
    world.reads.tick(world.now)
    assert world.heard == []

    world.now += 0.1
    world.reads.tick(world.now)

    assert sorted(world.names()) == ["asked", "confirmed", "gathering"]
    assert {type(error) for _, error in world.heard} == {RequestTimedOutError}
    assert world.reads.failed == 3
    # The young one's question was not asked yet; now it is.
    world.reads.on_applied(60)
    world.confirm(60)
    assert world.heard[-1] == ("young", None)


def test_another_leader_never_answers_what_the_last_one_was_asked() -> None:
    world = World()
    world.read("asked")
    world.read("gathering")

    world.reads.on_leader_changed()

    assert [(name, type(error)) for name, error in world.heard] == [("asked", LeaderChangedError)]
    world.reads.tick(world.now)
    world.reads.on_applied(5)
    world.confirm(5)
    assert world.heard[-1] == ("gathering", None)


def test_a_leader_after_there_was_none_is_asked_at_once() -> None:
    world = World()
    world.reads.on_leader_found(world.now)
    assert world.node.asked == []
    world.read("a")
    world.read("b")
    world.now += RETRY_S - 0.1

    world.reads.on_leader_found(world.now)

    assert (len(world.node.asked), len(set(world.node.asked)), world.woken) == (2, 1, 2)
    world.now += RETRY_S - 0.1
    world.reads.tick(world.now)
    assert len(world.node.asked) == 2
    world.reads.on_applied(3)
    world.confirm(3)
    assert world.heard == [("a", None)]


def test_stopping_refuses_everybody() -> None:
    world = World()
    world.read("confirmed")
    world.confirm(50)
    world.read("asked")
    world.read("gathering")

    world.reads.stop()

    assert sorted(world.names()) == ["asked", "confirmed", "gathering"]
    assert {type(error) for _, error in world.heard} == {StoppedError}
    assert world.reads.is_idle


def test_a_reader_may_read_again_at_once() -> None:
    world = World()
    world.reads.on_applied(100)
    world.reads.read(lambda _: world.read("again"), world.now)
    world.confirm(3)
    world.confirm(4)
    assert world.names() == ["again"]


class ReadsMachine(RuleBasedStateMachine):
    """No read is answered before an index at least as high as what was committed when it came is applied."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.committed = 1
        self.applied = 1
        self.asked_at: dict[bytes, int] = {}
        self.open: dict[int, int] = {}
        self.next = 0

    @rule()
    def commit(self) -> None:
        self.committed += 1

    @rule(count=st.integers(1, 3))
    def read(self, count: int) -> None:
        for _ in range(count):
            number = self.next
            self.next += 1
            self.open[number] = self.committed
            self.world.reads.read(lambda error, number=number: self.done(number, error), self.world.now)
        self.note_questions()

    def done(self, number: int, error: RequestError | None) -> None:
        wanted = self.open.pop(number)
        if error is None:
            assert self.applied >= wanted

    def note_questions(self) -> None:
        for context in self.world.node.asked:
            # The leader answers with what is committed when the question reaches it.
            self.asked_at.setdefault(context, self.committed)

    @rule(data=st.data())
    def answer(self, data: Any) -> None:
        if self.world.node.asked:
            context = data.draw(st.sampled_from(self.world.node.asked))
            index = data.draw(st.integers(self.asked_at[context], self.committed))
            self.world.reads.on_read_states([ReadState(index, context)])
            self.note_questions()

    @rule(steps=st.integers(1, 3))
    def apply(self, steps: int) -> None:
        self.applied = min(self.committed, self.applied + steps)
        self.world.reads.on_applied(self.applied)
        self.note_questions()

    @rule(seconds=st.sampled_from([0.1, 0.5, 3.0]))
    def tick(self, seconds: float) -> None:
        self.world.now += seconds
        self.world.reads.tick(self.world.now)
        self.note_questions()

    @rule()
    def change_leader(self) -> None:
        self.world.reads.on_leader_changed()
        self.note_questions()

    @rule()
    def find_leader(self) -> None:
        self.world.reads.on_leader_found(self.world.now)
        self.note_questions()

    @invariant()
    def idle_means_nobody_waits(self) -> None:
        assert self.world.reads.is_idle == (not self.open)


TestReads = ReadsMachine.TestCase
TestReads.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
