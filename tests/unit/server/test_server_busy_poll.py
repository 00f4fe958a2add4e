"""Who is waited for awake, and how soon a wait that does not pay is given up."""

from __future__ import annotations

from dataclasses import dataclass, field

from balsad.server.busy_poll import CREDIT_WANTED, LOST_S, WINDOW_S, BusyPoll

US = 1e-6
TURN_S = 2 * US
WAKE_UP_S = 25 * US
PUT_S = 120 * US


@dataclass
class Loop:
    """What an event loop does between requests; `awake_s` is what the waits took of the core."""

    poll: BusyPoll = field(default_factory=BusyPoll)
    now: float = 1_000.0
    awake_s: float = 0.0
    waits: int = 0
    hits: int = 0

    def serve(self, think_s: float, *, waits_for_sleep: bool = False) -> None:
        """Answer one request; the next comes `think_s` later, or so long after the loop has gone to sleep."""
        self.now += PUT_S
        idle_at = self.now
        due = idle_at + think_s
        awake = self.poll.idle(self.now)
        self.waits += awake
        while awake and (waits_for_sleep or self.now + TURN_S < due):
            self.now += TURN_S
            awake = self.poll.look(self.now)
        self.awake_s += self.now - idle_at
        self.hits += awake
        if waits_for_sleep:
            due = self.now + think_s
        self.now = due if awake else due + WAKE_UP_S
        self.poll.request(self.now)
        assert not self.poll.look(self.now)


def test_a_client_that_asks_again_at_once_is_waited_for() -> None:
    loop = Loop()
    for _ in range(1000):
        loop.serve(15 * US)
    assert loop.waits == loop.hits == 1000 - CREDIT_WANTED


def test_a_client_that_thinks_is_not() -> None:
    for think_s in (WINDOW_S, 1e-3, 1.0):
        loop = Loop()
        for _ in range(1000):
            loop.serve(think_s)
        assert loop.waits == 0


def test_a_client_that_begins_to_think_is_left_within_a_few_requests() -> None:
    loop = Loop()
    for _ in range(1000):
        loop.serve(15 * US)
    loop.waits = 0
    for _ in range(10_000):
        loop.serve(200 * US)
    assert loop.waits <= 4


def test_who_stops_asking_is_waited_for_once() -> None:
    loop = Loop()
    for _ in range(1000):
        loop.serve(15 * US)
    assert loop.poll.idle(loop.now)
    began = loop.now
    while loop.poll.look(loop.now):
        loop.now += TURN_S
    assert loop.now - began < WINDOW_S + 2 * TURN_S
    assert not loop.poll.look(loop.now + 1.0)


def test_a_pause_now_and_then_does_not_end_it() -> None:
    loop = Loop()
    for number in range(1000):
        loop.serve(1e-3 if number % 25 == 0 else 15 * US)
    assert loop.hits > 900


def test_pauses_that_cost_more_than_is_gained_do() -> None:
    loop = Loop()
    for number in range(10_000):
        loop.serve(1e-3 if number % 3 == 0 else 15 * US)
    assert loop.waits < 500


def test_where_the_wait_keeps_the_client_from_its_core_it_is_tried_seldom() -> None:
    loop = Loop()
    for _ in range(100_000):
        loop.serve(20 * US, waits_for_sleep=True)
    assert loop.hits == 0
    assert 1 < loop.waits < 50
    assert loop.awake_s < 0.001 * loop.now


def test_it_begins_again_where_it_pays_again() -> None:
    loop = Loop()
    for _ in range(100_000):
        loop.serve(20 * US, waits_for_sleep=True)
    for _ in range(20_000):
        loop.serve(20 * US)
    loop.hits = 0
    for _ in range(1000):
        loop.serve(20 * US)
    assert loop.hits == 1000


def test_a_request_that_came_while_the_core_was_lost_is_no_hit() -> None:
    poll = BusyPoll()
    now = 1_000.0
    waits = 0
    for _ in range(10_000):
        now += PUT_S
        if poll.idle(now):
            waits += 1
            now += LOST_S
        now += 5 * US
        poll.request(now)
    assert 0 < waits < 20


def test_a_core_lost_between_two_looks_ends_the_wait() -> None:
    poll = BusyPoll()
    now = 1_000.0
    for _ in range(CREDIT_WANTED):
        assert not poll.idle(now)
        now += TURN_S
        poll.request(now)
    assert poll.idle(now)
    assert poll.look(now + TURN_S)
    assert not poll.look(now + 2 * TURN_S + LOST_S)
    poll.request(now + WINDOW_S)
    assert not poll.idle(now + WINDOW_S)
