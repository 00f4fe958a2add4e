"""The one right order: saved, then applied, then answered; and what happens when a save takes long, or fails."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, cast

import pytest

from balsad.errors import (
    NotLeaderError,
    RequestError,
    RequestTimedOutError,
    RequestTooLargeError,
    StoppedError,
    TooManyRequestsError,
)
from balsad.raft import Config, ConfState, Entry, HardState, MemoryLog, Message, MessageType, RawNode, Snapshot
from balsad.server.apply.dispatch import Applier
from balsad.server.busy_poll import CREDIT_WANTED, WINDOW_S, BusyPoll
from balsad.server.driver import INBOX_BYTES_MAX, UNAPPLIED_MAX, Driver
from balsad.server.group_commit import AT_ONCE_S, CLIENTS_MAX, WAIT_S, GroupCommit
from balsad.server.peer_links import NoPeers, PeerLinks
from balsad.server.propose import Pending, Result
from balsad.storage import Snapshotter, StorageError
from balsad.storage.wal import Wal
from tests.unit.server.server_kit import Clock, NoChance, in_loop


class FakeWal(Wal):
    """A log whose disk takes as long as the test wants."""

    def __init__(self, told: list[tuple[Any, ...]]) -> None:
        # A Wal by its type alone: it has no disk and no files.
        self.told = told
        self.slow = False
        self.is_quick = False
        self.sync_error: StorageError | None = None
        self.error: StorageError | None = None
        self.done: Callable[[], None] | None = None
        self.state: HardState | None = None

    def save(
        self,
        hard_state: HardState | None,
        entries: list[Entry],
        must_sync: bool = True,
        done: Callable[[], None] | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        assert self.done is None, "the save before this one is not done"
        if self.error is not None:
            raise self.error
        if hard_state is not None:
            self.state = HardState(hard_state.term, hard_state.vote, hard_state.commit)
        self.told.append(("save", [entry.data for entry in entries]))
        if done is None:
            return
        if self.is_quick:
            if meanwhile is not None:
                meanwhile()
            self.told.append(("sync",))
            if self.sync_error is not None:
                raise self.sync_error
        if self.slow:
            self.done = done
        else:
            done()

    def finish(self) -> None:
        """The disk is through with the save."""
        done, self.done = self.done, None
        assert done is not None
        done()


class FakeApplier(Applier):
    """Answers every entry with its data."""

    def __init__(self, told: list[tuple[Any, ...]]) -> None:
        self.told = told
        self.applied_index = 1
        self.stuck = False
        self.error: Exception | None = None

    @property
    def is_long(self) -> bool:
        return False

    def finish(self, waiting: dict[int, Pending]) -> None:
        pass

    def set_term(self, term: int) -> None:
        pass

    def apply(
        self,
        entries: list[Entry],
        waiting: dict[int, Pending],
        *,
        only_requests: bool = False,
        only_plain: bool = False,
    ) -> None:
        if self.error is not None:
            raise self.error
        if only_plain:
            entries = list(
                itertools.takewhile(lambda entry: entry.context is not None and entry.context.field == "plain", entries)
            )
            if not entries:
                return
        if only_requests:
            entries = list(itertools.takewhile(lambda entry: entry.context is not None, entries))
            if not entries:
                return
        self.told.append(("apply", [entry.data for entry in entries]))
        if not self.stuck:
            self.applied_index = entries[-1].index
        for entry in entries:
            if entry.context is not None:
                pending = waiting.pop(entry.context.id, None)
                if pending is not None:
                    pending.resolve(entry.data)


class World:
    """A driver alone, with a leader's election behind it."""

    def __init__(
        self, voters: tuple[int, ...] = (1,), links: PeerLinks | None = None, clock: Clock | None = None
    ) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.failures: list[BaseException] = []
        self.answers: dict[int, list[Result]] = {}
        self.clock = clock or Clock()
        self.wal = FakeWal(self.told)
        self.applier = FakeApplier(self.told)
        log = MemoryLog()
        log.apply_snapshot(Snapshot(1, 1, ConfState(voters), b""))
        self.log = log
        hard_state = HardState(1, 0, 1)
        log.set_hard_state(hard_state)
        self.node = RawNode(
            Config(
                id=1,
                storage=log,
                random=NoChance().randrange,
                election_tick=10,
                heartbeat_tick=1,
                max_size_per_msg=1 << 20,
                max_inflight_msgs=512,
                applied=1,
                pre_vote=len(voters) > 1,
                check_quorum=len(voters) > 1,
            )
        )
        self.driver = Driver(
            member_id=1,
            node=self.node,
            log_storage=log,
            wal=self.wal,
            snapshotter=cast(Snapshotter, None),
            applier=self.applier,
            clock=self.clock,
            flush=lambda: self.told.append(("flush",)),
            failed=self.failures.append,
            request_bytes_max=1000,
            request_timeout_s=7.0,
            hard_state=hard_state,
            links=links or NoPeers(),
            election_timeout_s=1.0,
            tick_s=0.1,
        )

    def elect(self) -> None:
        self.node.campaign()
        self.driver.drain()
        assert self.driver.is_leader
        self.told.clear()

    def propose(self, number: int, data: bytes = b"", *, field: str = "put") -> None:
        heard = self.answers.setdefault(number, [])
        self.driver.propose(data or b"entry %d" % number, Pending(number, None, heard.append, field))

    def steps(self, kind: str) -> list[Any]:
        return [step[1] for step in self.told if step[0] == kind]


def in_world(scenario: Callable[[World], Any], *, elected: bool = True) -> None:
    async def run() -> None:
        world = World()
        if elected:
            world.elect()
        await scenario(world)

    in_loop(run())


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# The order


def test_what_one_turn_brought_is_one_batch() -> None:
    async def scenario(world: World) -> None:
        for number in range(3):
            world.propose(number)
        assert world.told == []  # the turn is not over

        await turns()

        batch = [b"entry 0", b"entry 1", b"entry 2"]
        assert world.told[:3] == [("save", batch), ("apply", batch), ("flush",)]
        assert set(world.told[3:]) <= {("flush",)}
        assert world.answers == {number: [b"entry %d" % number] for number in range(3)}
        assert not world.driver.waiting

    in_world(scenario)


def test_what_is_plain_is_applied_while_the_disk_writes_and_told_when_it_has() -> None:
    async def scenario(world: World) -> None:
        world.wal.is_quick = True
        for number, field in enumerate(("plain", "plain", "put", "plain")):
            world.propose(number, field=field)

        await turns()

        batch = [b"entry %d" % number for number in range(4)]
        steps = [("save", batch), ("apply", batch[:2]), ("sync",), ("apply", batch), ("flush",)]
        assert [step for step in world.told if step[0] != "apply"][:3] == [steps[0], steps[2], steps[4]]
        assert world.told[:5] == steps
        assert world.answers == {number: [batch[number]] for number in range(4)}
        assert world.log.last_index() == world.driver.committed_index == world.applier.applied_index

    in_world(scenario)


def test_who_does_not_agree_alone_applies_nothing_ahead() -> None:
    async def run() -> None:
        world = leader_of_two()
        world.wal.is_quick = True
        world.told.clear()
        world.propose(1, field="plain")
        await turns()
        assert world.steps("save") == [[b"entry 1"]]
        assert world.steps("apply") == []

    in_loop(run())


def append_of(leader: int, after: int, data: list[bytes], commit: int, *, log_term: int = 2) -> Message:
    entries = [Entry(0, 2, after + 1 + at, one) for at, one in enumerate(data)]
    return Message(MessageType.APP, 1, leader, 2, log_term=log_term, index=after, entries=entries, commit=commit)


def test_what_was_on_disk_before_is_applied_while_the_disk_takes_what_is_new() -> None:
    """A follower: what the same append brings is applied when it is saved, though it is committed already."""

    async def run() -> None:
        world = World((1, 2, 3))
        world.driver.step([append_of(2, 1, [b"one", b"two"], 1, log_term=1)])
        world.driver.drain()
        world.wal.slow = True
        world.told.clear()
        world.driver.step([append_of(2, 3, [b"three"], 4)])
        await turns()
        assert world.told == [("save", [b"three"]), ("apply", [b"one", b"two"]), ("flush",)]

        world.wal.finish()

        assert world.steps("apply")[1:] == [[b"three"]]
        assert world.applier.applied_index == 4
        assert not world.failures

    in_loop(run())


def test_what_is_committed_goes_out_with_what_comes_next_where_saving_takes_time() -> None:
    """One Ready for both: the disk is asked sooner, and whoever waits is answered while it works."""

    async def run() -> None:
        world = leader_of_two()
        world.wal.slow = True
        world.propose(1)
        await turns()
        world.wal.finish()
        index = world.log.last_index()
        world.told.clear()
        world.driver.step([Message(MessageType.APP_RESP, 1, 2, world.driver.hard_state.term, index=index)])
        world.propose(2)
        await turns()
        assert world.told == [("save", [b"entry 2"]), ("apply", [b"entry 1"]), ("flush",)]
        assert world.answers == {1: [b"entry 1"], 2: []}

    in_loop(run())


def test_where_it_does_not_what_is_committed_is_answered_first() -> None:
    async def run() -> None:
        world = leader_of_two()
        world.propose(1)
        await turns()
        index = world.log.last_index()
        world.told.clear()
        world.driver.step([Message(MessageType.APP_RESP, 1, 2, world.driver.hard_state.term, index=index)])
        world.propose(2)
        await turns()
        assert world.told[:3] == [("apply", [b"entry 1"]), ("flush",), ("save", [b"entry 2"])]

    in_loop(run())


def test_what_takes_the_place_of_something_on_disk_was_not_there_before() -> None:
    async def run() -> None:
        world = World((1, 2, 3))
        world.driver.step([append_of(2, 1, [b"old"], 1, log_term=1)])
        world.driver.drain()
        world.wal.slow = True
        world.told.clear()
        new = Message(MessageType.APP, 1, 3, 3, log_term=1, index=1, entries=[Entry(0, 3, 2, b"new")], commit=2)
        world.driver.step([new])
        await turns()
        assert world.told == [("save", [b"new"])]

        world.wal.finish()

        assert world.steps("apply") == [[b"new"]]

    in_loop(run())


def test_after_a_failed_sync_all_are_hung_up_on_before_anybody_can_be_told() -> None:
    async def scenario(world: World) -> None:
        world.wal.is_quick = True
        world.wal.sync_error = StorageError("/wal", "fdatasync: input/output error")
        world.driver.hang_up = lambda error: world.told.append(("hang up", error, len(world.failures)))
        world.propose(1, field="plain")

        await turns()

        assert world.told == [
            ("save", [b"entry 1"]),
            ("apply", [b"entry 1"]),
            ("sync",),
            ("hang up", world.wal.sync_error, 0),
        ]
        assert world.failures == [world.wal.sync_error]
        with pytest.raises(StoppedError):
            world.propose(2)

    in_world(scenario)


def test_nothing_is_applied_or_answered_before_it_is_saved() -> None:
    """While the disk works on one batch the next one gathers."""

    async def scenario(world: World) -> None:
        world.wal.slow = True
        world.propose(1)
        await turns()
        world.propose(2)
        world.propose(3)
        await turns()
        assert world.told == [("save", [b"entry 1"])]
        assert world.answers[1] == []
        assert world.log.last_index() == world.driver.committed_index  # not stable for raft either

        world.wal.finish()

        assert world.steps("apply") == [[b"entry 1"]]
        assert world.answers == {1: [b"entry 1"], 2: [], 3: []}
        assert world.steps("save") == [[b"entry 1"], [b"entry 2", b"entry 3"]]
        world.wal.finish()
        assert world.steps("apply")[1:] == [[b"entry 2", b"entry 3"]]
        assert world.answers[2] == [b"entry 2"]
        assert world.told[-1] == ("flush",)

    in_world(scenario)


def test_proposals_without_a_leader_wait_for_one() -> None:
    async def scenario(world: World) -> None:
        world.propose(1)
        await turns()
        assert world.answers[1] == []

        world.node.campaign()
        world.driver.wake()
        await turns()

        assert world.answers[1] == [b"entry 1"]
        # The new leader's own empty entry goes first.
        assert [data for batch in world.steps("apply") for data in batch] == [b"", b"entry 1"]

    in_world(scenario, elected=False)


def test_the_only_voters_commit_index_is_written_with_its_entries() -> None:
    """They are answered once they are on disk: killed right then, the log must call them committed."""

    async def scenario(world: World) -> None:
        world.told.clear()
        world.propose(1)
        await turns()

        assert world.wal.state is not None
        assert world.wal.state.commit == world.driver.committed_index
        world.driver.write_hard_state()
        world.driver.tick()
        assert world.steps("save") == [[b"entry 1"]]

    in_world(scenario)


def test_a_commit_index_alone_is_not_written_by_itself() -> None:
    """Among others it goes with the next batch, with the next tick, or when the backend is about to commit."""

    async def scenario() -> None:
        world = leader_of_two()
        world.propose(1)
        await turns()
        other_has_all(world)
        assert world.answers[1] == [b"entry 1"]
        committed = world.driver.committed_index
        assert world.wal.state is None or world.wal.state.commit < committed

        world.driver.write_hard_state()

        assert world.wal.state is not None
        assert world.wal.state.commit == committed
        world.told.clear()
        world.driver.write_hard_state()
        assert world.told == []

    in_loop(scenario())


def leader_of_two() -> World:
    world = World((1, 2))
    world.node.raft.become_follower(1, 0)
    world.node.raft.become_candidate()
    world.node.raft.become_leader()
    world.driver.drain()
    other_has_all(world)
    assert world.driver.is_leader
    return world


def other_has_all(world: World) -> None:
    """The other voter has written all there is, so that it is committed."""
    index = world.log.last_index()
    world.driver.step([Message(MessageType.APP_RESP, 1, 2, world.driver.hard_state.term, index=index)])
    world.driver.drain()
    assert world.driver.committed_index == index


def test_a_tick_writes_the_commit_index_that_is_due() -> None:
    """An offline backup beside the running member reads the log: what was answered must be committed there."""

    async def scenario() -> None:
        world = leader_of_two()
        world.propose(1)
        await turns()
        other_has_all(world)
        assert world.wal.state is None or world.wal.state.commit < world.driver.committed_index

        world.driver.tick()

        assert world.wal.state is not None
        assert world.wal.state.commit == world.driver.committed_index

    in_loop(scenario())


def test_the_hard_state_is_left_alone_while_a_save_is_under_way() -> None:
    async def scenario(world: World) -> None:
        world.propose(1)
        await turns()
        world.wal.slow = True
        world.propose(2)
        await turns()
        assert world.wal.done is not None

        world.driver.write_hard_state()  # would be refused: one save at a time

        world.wal.finish()
        assert world.answers[2] == [b"entry 2"]

    in_world(scenario)


# Refusals


def test_too_large() -> None:
    async def scenario(world: World) -> None:
        world.propose(1, bytes(1000))
        with pytest.raises(RequestTooLargeError):
            world.propose(2, bytes(1001))
        world.propose(3, bytes(1001), field="")  # of v2
        await turns()
        assert len(world.answers[1]) == len(world.answers[3]) == 1
        assert world.answers[2] == []

    in_world(scenario)


def test_too_many_when_apply_falls_behind() -> None:
    """Source: etcd maxGapBetweenApplyAndCommitIndex."""

    async def scenario(world: World) -> None:
        world.driver.committed_index = world.applier.applied_index + UNAPPLIED_MAX
        world.propose(1)
        world.driver.committed_index += 1
        with pytest.raises(TooManyRequestsError):
            world.propose(2)

    in_world(scenario)


def test_too_many_when_too_much_waits_to_be_proposed() -> None:
    """What times out, or is proposed at last, makes room."""
    half = bytes(INBOX_BYTES_MAX // 2 + 1)

    async def scenario(world: World) -> None:
        for number in range(2):
            world.propose(number, half, field="")
        await turns()
        with pytest.raises(TooManyRequestsError):
            world.propose(2)

        world.clock.now += 8
        world.driver.tick()
        assert words(world.answers[0] + world.answers[1]) == [RequestTimedOutError().text] * 2
        for number in range(3, 5):
            world.propose(number, half, field="")
        with pytest.raises(TooManyRequestsError):
            world.propose(5)

        world.elect()
        await turns()
        assert [len(world.answers[number]) for number in (3, 4)] == [1, 1]
        assert world.answers[3] + world.answers[4] == [half] * 2
        world.propose(6)

    in_world(scenario, elected=False)


def words(results: list[Result]) -> list[str]:
    return [result.text for result in results if isinstance(result, RequestError)]


def test_what_takes_too_long_is_refused_once() -> None:
    """In the order asked; the younger ones stay. The entry may be applied yet: nobody hears of it then."""

    async def scenario(world: World) -> None:
        world.wal.slow = True
        world.propose(1)
        await turns()
        world.clock.now += 3
        world.propose(2)
        world.clock.now += 4.0
        world.driver.tick()
        assert words(world.answers[1]) == [RequestTimedOutError.message]
        assert world.answers[2] == []
        assert world.driver.proposals_failed == 1
        assert ("flush",) in world.told

        world.wal.finish()
        await turns()

        assert [b"entry 1"] in world.steps("apply")
        assert words(world.answers[1]) == [RequestTimedOutError.message]
        world.wal.finish()
        assert world.answers[2] == [b"entry 2"]

    in_world(scenario)


def test_what_was_refused_before_it_was_proposed_is_not_proposed() -> None:
    async def scenario(world: World) -> None:
        world.propose(1)
        await turns()
        world.clock.now += 100
        world.propose(2)
        world.driver.tick()
        assert len(words(world.answers[1])) == 1

        world.node.campaign()
        world.driver.wake()
        await turns()

        assert world.answers[2] == [b"entry 2"]
        assert [b"entry 1"] not in world.steps("apply")
        assert b"entry 1" not in [data for batch in world.steps("save") for data in batch]

    in_world(scenario, elected=False)


# Failures


def failure() -> StorageError:
    return StorageError("/data/member/wal/0.wal", "fdatasync: input/output error", offset=8)


def test_a_save_that_fails_stops_everything() -> None:
    async def scenario(world: World) -> None:
        error = world.wal.error = failure()
        world.propose(1)
        world.propose(2)
        await turns()

        assert world.failures == [error]
        assert world.told == []
        assert world.answers == {1: [], 2: []}
        with pytest.raises(StoppedError):
            world.propose(3)
        world.wal.error = None
        world.driver.tick()
        world.driver.wake()
        await turns()
        world.driver.write_hard_state()
        assert world.told == []

    in_world(scenario)


def test_a_save_that_fails_after_the_one_before_it_took_long() -> None:
    """What was on disk is answered; what was not is not."""

    async def scenario(world: World) -> None:
        world.wal.slow = True
        world.propose(1)
        await turns()
        world.propose(2)
        await turns()
        world.wal.error = failure()

        world.wal.finish()
        await turns()

        assert world.answers == {1: [b"entry 1"], 2: []}
        assert world.failures == [world.wal.error]

    in_world(scenario)


def test_an_apply_that_fails_answers_nobody_after_it() -> None:
    async def scenario(world: World) -> None:
        world.applier.error = AssertionError("broken invariant")
        world.propose(1)
        await turns()
        assert world.failures == [world.applier.error]
        assert world.answers[1] == []
        assert ("flush",) not in world.told
        world.applier.error = None
        world.driver.wake()
        await turns()
        assert world.answers[1] == []

    in_world(scenario)


# The end


def test_stopping_refuses_all_that_waits_and_writes_what_is_known() -> None:
    async def scenario(world: World) -> None:
        world.propose(1)
        await turns()
        world.propose(2)

        world.driver.stop()
        world.driver.stop()
        await turns()

        assert words(world.answers[2]) == [StoppedError.message]
        assert world.wal.state is not None
        assert world.wal.state.commit == world.driver.committed_index
        with pytest.raises(StoppedError):
            world.propose(3)

    in_world(scenario)


def test_stopping_while_the_disk_is_at_work() -> None:
    """Its end comes late and moves nothing any more."""

    async def scenario(world: World) -> None:
        world.wal.slow = True
        world.propose(1)
        await turns()

        world.driver.stop()
        assert words(world.answers[1]) == [StoppedError.message]
        world.wal.finish()
        await turns()

        assert world.steps("apply") == []
        assert len(world.answers[1]) == 1

    in_world(scenario)


# Who leads


def test_what_only_a_leader_may_propose_is_not_forwarded_by_one_deposed_meanwhile() -> None:
    """It woke up to find another leader: what it decided before may be wrong by now. Others' requests go on."""

    async def scenario(world: World) -> None:
        heard: list[Result] = []
        world.driver.propose(b"revoke", Pending(7, None, heard.append), only_as_leader=True)
        world.propose(1)
        world.driver.step([Message(MessageType.HEARTBEAT, 1, 2, world.driver.hard_state.term + 1)])
        world.driver.drain()

        assert not world.driver.is_leader
        assert words(heard) == [NotLeaderError.message]
        assert list(world.driver.waiting) == [1]
        assert world.steps("apply") == []

    in_world(scenario)


def test_a_leader_proposes_what_only_it_may() -> None:
    async def scenario(world: World) -> None:
        heard: list[Result] = []
        world.driver.propose(b"revoke", Pending(7, None, heard.append), only_as_leader=True)
        await turns()

        assert heard == [b"revoke"]

    in_world(scenario)


def test_a_leader_that_slept_is_not_sure_to_lead_for_a_while() -> None:
    """Source: etcd ensureLeadership. One tick after the sleep proves nothing: until then it has asked nobody."""

    async def scenario(world: World) -> None:
        def tick(seconds: float) -> bool:
            world.clock.now += seconds
            world.driver.tick()
            world.driver.drain()
            return world.driver.leads_surely

        assert all(tick(0.1) for _ in range(3))
        world.clock.now += 0.5
        assert not world.driver.leads_surely
        assert not tick(0.1)
        assert not any(tick(0.1) for _ in range(19))
        assert all(tick(0.1) for _ in range(1, 4))

    in_world(scenario)


# Others that are gone


class Links(NoPeers):
    """Says who is connected, and keeps what is sent."""

    def __init__(self) -> None:
        self.connected: set[int] = set()
        self.sent: list[Message] = []

    def send(self, messages: list[Message]) -> None:
        self.sent += messages

    def active_since(self, member_id: int) -> float:
        return 1.0 if member_id in self.connected else 0.0


def test_a_leader_that_is_not_connected_with_a_quorum_is_not_sure_to_lead() -> None:
    """The others may have taken it for gone, and followed another before their election timeout."""

    async def scenario() -> None:
        links = Links()
        world = World((1, 2, 3), links)
        world.node.raft.become_follower(1, 0)
        world.node.raft.become_candidate()
        world.node.raft.become_leader()
        world.driver.drain()
        assert world.driver.is_leader

        assert not world.driver.leads_surely
        links.connected = {3}
        assert world.driver.leads_surely

    in_loop(scenario())


@pytest.mark.parametrize("gone", [2, 3])
def test_a_leader_whose_process_is_gone_is_followed_and_no_other(gone: int) -> None:
    async def scenario() -> None:
        links = Links()
        world = World((1, 2, 3), links)
        world.driver.step([Message(MessageType.HEARTBEAT, 1, 2, term=1)])
        world.driver.drain()
        world.clock.now += 0.1
        world.driver.tick()
        world.driver.drain()
        links.sent.clear()
        assert world.driver.leader == 2

        world.driver.on_gone(gone)
        await turns()

        asked = [message.to for message in links.sent if message.type == MessageType.PRE_VOTE]
        assert (world.driver.leader, asked) == ((0, [2, 3]) if gone == 2 else (2, []))

    in_loop(scenario())


# Awake between requests


class Watch(Clock):
    """Counts who looks at it."""

    looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return super().monotonic()


def in_polled_world(scenario: Callable[[World, Watch], Any]) -> None:
    """A driver that has learnt that the next request comes at once."""

    async def run() -> None:
        watch = Watch()
        world = World(clock=watch)
        world.elect()
        world.driver.busy_poll = BusyPoll()
        for number in range(CREDIT_WANTED):
            world.propose(1000 + number)
            await turns()
            looks = watch.looks
            await turns()
            assert watch.looks == looks  # it sleeps
        await scenario(world, watch)

    in_loop(run())


def test_between_lone_requests_it_stays_awake_for_a_moment() -> None:
    async def scenario(world: World, watch: Watch) -> None:
        world.propose(1)
        await turns()
        looks = watch.looks
        await turns(10)
        assert watch.looks >= looks + 9

        watch.now += WINDOW_S
        await turns()
        looks = watch.looks
        await turns(10)
        assert watch.looks == looks

    in_polled_world(scenario)


def test_a_request_ends_the_moment() -> None:
    async def scenario(world: World, watch: Watch) -> None:
        world.wal.slow = True
        world.propose(1)
        await turns()
        world.wal.finish()
        await turns()
        world.propose(2)
        await turns()
        looks = watch.looks
        await turns(10)
        assert watch.looks == looks
        world.wal.finish()
        assert world.answers == {**world.answers, 1: [b"entry 1"], 2: [b"entry 2"]}

    in_polled_world(scenario)


def test_it_does_not_stay_awake_for_a_crowd() -> None:
    async def scenario(world: World, watch: Watch) -> None:
        for number in range(CLIENTS_MAX + 1):
            world.propose(number)
        await turns()
        looks = watch.looks
        await turns(10)
        assert watch.looks == looks

    in_polled_world(scenario)


def test_nothing_but_a_request_keeps_it_awake() -> None:
    async def scenario(world: World, watch: Watch) -> None:
        world.driver.tick()
        world.driver.wake()
        await turns()
        looks = watch.looks
        await turns(10)
        assert watch.looks == looks

    in_polled_world(scenario)


# Together


def in_grouping_world(scenario: Callable[[World], Any]) -> None:
    """A put is written and answered; another came meanwhile."""

    async def run() -> None:
        world = World()
        world.elect()
        world.driver.group_commit = GroupCommit()
        world.propose(1)
        await turns()
        world.clock.now += AT_ONCE_S / 2
        world.propose(2)
        await turns()
        assert world.steps("save") == [[b"entry 1"]]
        await scenario(world)

    in_loop(run())


def test_who_came_meanwhile_waits_for_who_was_answered() -> None:
    async def scenario(world: World) -> None:
        world.clock.now += WAIT_S / 2
        world.propose(3)
        await turns()
        assert world.steps("save") == [[b"entry 1"], [b"entry 2", b"entry 3"]]
        assert world.answers == {number: [b"entry %d" % number] for number in (1, 2, 3)}

    in_grouping_world(scenario)


def test_but_not_for_long() -> None:
    async def scenario(world: World) -> None:
        world.clock.now += WAIT_S * 1.01
        await turns()
        assert world.steps("save") == [[b"entry 1"], [b"entry 2"]]
        assert world.answers[2] == [b"entry 2"]

    in_grouping_world(scenario)


def test_those_who_gathered_behind_a_slow_disk_wait_too() -> None:
    async def scenario(world: World) -> None:
        world.propose(3)
        world.wal.slow = True
        await turns()
        world.propose(4)
        await turns()
        world.told.clear()
        world.wal.finish()
        await turns()
        assert world.steps("save") == []
        for number in (5, 6):
            world.propose(number)
        await turns()
        assert world.steps("save") == [[b"entry 4", b"entry 5", b"entry 6"]]
        world.wal.finish()
        assert world.answers[6] == [b"entry 6"]

    in_grouping_world(scenario)


def test_who_waits_is_answered_when_the_member_stops() -> None:
    async def scenario(world: World) -> None:
        world.driver.stop()
        await turns()
        assert [type(answer) for answer in world.answers[2]] == [StoppedError]
        assert [b"entry 2"] not in world.steps("save")

    in_grouping_world(scenario)
