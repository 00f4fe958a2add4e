"""Virtual time: what simulated processes are promised by their event loop."""

from __future__ import annotations

import random

from balsad.sim.loop import Process, Timeline


def make_process() -> tuple[Timeline, Process]:
    timeline = Timeline(random.Random(1))
    return timeline, Process(timeline, "m1.1")


def test_what_was_readable_before_somebody_waited_is_told() -> None:
    """As with epoll, which tells of a level and not of an edge."""
    timeline, process = make_process()
    heard: list[str] = []
    process.make_readable(7)

    process.add_reader(7, heard.append, "seven")
    timeline.run(1.0)
    assert heard == ["seven"]

    process.make_readable(7)
    assert heard == ["seven", "seven"]


def test_a_dead_process_does_nothing_more() -> None:
    timeline, process = make_process()
    heard: list[str] = []
    process.call_later(1.0, heard.append, "in time")
    process.call_later(3.0, heard.append, "too late")
    timeline.run(2.0)
    process.kill()
    timeline.run(9.0)
    assert heard == ["in time"]


def test_a_clock_that_runs_fast_rings_early() -> None:
    timeline, process = make_process()
    process.drift(2.0)
    rang: list[float] = []
    process.call_later(1.0, lambda: rang.append(timeline.now))
    timeline.run(5.0)
    assert rang == [0.5]
    assert process.world_time(process.time()) == process.now


def test_a_frozen_process_does_it_all_afterwards_in_order() -> None:
    timeline, process = make_process()
    heard: list[tuple[float, str]] = []

    def hear(what: str) -> None:
        heard.append((timeline.now, what))

    process.call_later(1.0, hear, "a")
    process.call_later(2.0, hear, "b")
    process.call_later(6.0, hear, "c")
    timeline.run(0.5)
    process.freeze(4.0)
    timeline.run(9.0)
    assert [what for _, what in heard] == ["a", "b", "c"]
    assert heard[0][0] >= 4.0
    assert heard[2][0] == 6.0
