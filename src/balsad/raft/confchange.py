"""Changes of who votes and who learns: one voter at a time, or any number through a joint configuration.

    (1 2 3)  --enter_joint: add 4, remove 1-->  (2 3 4)&&(1 2 3)  --leave_joint-->  (2 3 4)

A Changer looks at a tracker and gives the configuration and progress that would be, all new;
the tracker stays as it is. Source: raft's confchange; Raft thesis 4.3.
"""

from __future__ import annotations

from balsad.raft.errors import ConfChangeError
from balsad.raft.messages import ConfChangeSingle, ConfChangeType, ConfState
from balsad.raft.quorum import Voters
from balsad.raft.tracker import Configuration, Inflights, Progress, Tracker


class _Draft:
    """A configuration while it is being changed."""

    __slots__ = ("auto_leave", "incoming", "learners", "learners_next", "outgoing", "progress")

    def __init__(self, tracker: Tracker) -> None:
        config = tracker.config
        self.incoming = set(config.incoming)
        self.outgoing = set(config.outgoing)
        self.learners = set(config.learners)
        self.learners_next = set(config.learners_next)
        # Not copied: each change that ends in a joint configuration says it anew.
        self.auto_leave = False
        self.progress = {node_id: tracker.progress[node_id].copy() for node_id in tracker.ids}

    def finish(self) -> tuple[Configuration, dict[int, Progress]]:
        config = Configuration(
            _ascending(self.incoming),
            _ascending(self.outgoing),
            _ascending(self.learners),
            _ascending(self.learners_next),
            self.auto_leave,
        )
        _check(config, self.progress)
        return config, self.progress


def _ascending(ids: set[int]) -> Voters:
    return tuple(sorted(ids))


def _check(config: Configuration, progress: dict[int, Progress]) -> None:
    """Everyone has progress; nobody votes and learns at once; only a joint configuration has its extra parts."""
    for ids in (config.voters(), config.learners, config.learners_next):
        for node_id in ids:
            if node_id not in progress:
                raise ConfChangeError(f"no progress for {node_id}")
    for node_id in config.learners_next:
        if node_id not in config.outgoing:
            raise ConfChangeError(f"{node_id} is in LearnersNext, but not Voters[1]")
        if progress[node_id].is_learner:
            raise ConfChangeError(f"{node_id} is in LearnersNext, but is already marked as learner")
    for node_id in config.learners:
        if node_id in config.outgoing:
            raise ConfChangeError(f"{node_id} is in Learners and Voters[1]")
        if node_id in config.incoming:
            raise ConfChangeError(f"{node_id} is in Learners and Voters[0]")
        if not progress[node_id].is_learner:
            raise ConfChangeError(f"{node_id} is in Learners, but is not marked as learner")
    if not config.is_joint():
        if config.learners_next:
            raise ConfChangeError("cfg.LearnersNext must be nil when not joint")
        if config.auto_leave:
            raise ConfChangeError("AutoLeave must be false when not joint")


class Changer:
    __slots__ = ("last_index", "tracker")

    def __init__(self, tracker: Tracker, last_index: int) -> None:
        self.tracker = tracker
        self.last_index = last_index

    def enter_joint(
        self, auto_leave: bool, changes: tuple[ConfChangeSingle, ...]
    ) -> tuple[Configuration, dict[int, Progress]]:
        """Keep the voters of now as the outgoing half and change the incoming one. Raises: ConfChangeError."""
        draft = self._draft()
        if draft.outgoing:
            raise ConfChangeError("config is already joint")
        if not draft.incoming:
            # Voters may be added to nothing, to begin with, but nothing cannot be left jointly.
            raise ConfChangeError("can't make a zero-voter config joint")
        draft.outgoing = set(draft.incoming)
        self._apply(draft, changes)
        draft.auto_leave = auto_leave
        return draft.finish()

    def leave_joint(self) -> tuple[Configuration, dict[int, Progress]]:
        """Let the incoming half decide alone; who waited to learn now does. Raises: ConfChangeError."""
        draft = self._draft()
        if not draft.outgoing:
            raise ConfChangeError("can't leave a non-joint config")
        for node_id in sorted(draft.learners_next):
            draft.learners.add(node_id)
            draft.progress[node_id].is_learner = True
        draft.learners_next = set()
        for node_id in sorted(draft.outgoing):
            if node_id not in draft.incoming and node_id not in draft.learners:
                del draft.progress[node_id]
        draft.outgoing = set()
        return draft.finish()

    def simple(self, changes: tuple[ConfChangeSingle, ...]) -> tuple[Configuration, dict[int, Progress]]:
        """Change one voter at most, so that old and new majorities overlap. Raises: ConfChangeError."""
        draft = self._draft()
        if draft.outgoing:
            raise ConfChangeError("can't apply simple config change in joint config")
        self._apply(draft, changes)
        if len(draft.incoming.symmetric_difference(self.tracker.config.incoming)) > 1:
            raise ConfChangeError("more than one voter changed without entering joint config")
        return draft.finish()

    def _draft(self) -> _Draft:
        _check(self.tracker.config, self.tracker.progress)
        return _Draft(self.tracker)

    def _apply(self, draft: _Draft, changes: tuple[ConfChangeSingle, ...]) -> None:
        for change in changes:
            # The application sets the id to zero when it decides not to make a change.
            if change.node_id == 0:
                continue
            if change.type == ConfChangeType.ADD_NODE:
                self._make_voter(draft, change.node_id)
            elif change.type == ConfChangeType.ADD_LEARNER_NODE:
                self._make_learner(draft, change.node_id)
            elif change.type == ConfChangeType.REMOVE_NODE:
                self._remove(draft, change.node_id)
            elif change.type != ConfChangeType.UPDATE_NODE:
                raise ConfChangeError(f"unexpected conf type {int(change.type)}")
        if not draft.incoming:
            raise ConfChangeError("removed all voters")

    def _make_voter(self, draft: _Draft, node_id: int) -> None:
        draft.incoming.add(node_id)
        progress = draft.progress.get(node_id)
        if progress is None:
            self._start(draft, node_id, False)
            return
        progress.is_learner = False
        draft.learners.discard(node_id)
        draft.learners_next.discard(node_id)

    def _make_learner(self, draft: _Draft, node_id: int) -> None:
        progress = draft.progress.get(node_id)
        if progress is None:
            draft.learners.add(node_id)
            self._start(draft, node_id, True)
            return
        if progress.is_learner:
            return
        self._remove(draft, node_id)
        draft.progress[node_id] = progress
        if node_id in draft.outgoing:
            # Still a voter of the outgoing half: it becomes a learner when that half is left.
            draft.learners_next.add(node_id)
        else:
            progress.is_learner = True
            draft.learners.add(node_id)

    def _remove(self, draft: _Draft, node_id: int) -> None:
        if node_id not in draft.progress:
            return
        draft.incoming.discard(node_id)
        draft.learners.discard(node_id)
        draft.learners_next.discard(node_id)
        if node_id not in draft.outgoing:
            del draft.progress[node_id]

    def _start(self, draft: _Draft, node_id: int, is_learner: bool) -> None:
        # Probed from our last index: optimistic, a new node has more likely nothing at all. It
        # counts as heard of, or CheckQuorum might step down before it had the chance to speak.
        inflights = Inflights(self.tracker.inflight_max, self.tracker.inflight_bytes_max)
        draft.progress[node_id] = Progress(0, max(self.last_index, 1), inflights, is_learner, True)


def restore(tracker: Tracker, last_index: int, state: ConfState) -> None:
    """Bring an empty tracker to the configuration of a ConfState.

    Example: voters 1 2 3, outgoing 1 2 4 6, learners 5, learners_next 4. First 1, 2, 4 and 6 are
    made voters, one by one; then a joint configuration is entered that removes them all and adds
    voters 1 2 3 and learners 5 and 4, of which 4, an outgoing voter, ends up in learners_next.

    Raises: ConfChangeError.
    """
    incoming = [ConfChangeSingle(ConfChangeType.REMOVE_NODE, node_id) for node_id in state.voters_outgoing]
    incoming += [ConfChangeSingle(ConfChangeType.ADD_NODE, node_id) for node_id in state.voters]
    incoming += [ConfChangeSingle(ConfChangeType.ADD_LEARNER_NODE, node_id) for node_id in state.learners]
    incoming += [ConfChangeSingle(ConfChangeType.ADD_LEARNER_NODE, node_id) for node_id in state.learners_next]
    changer = Changer(tracker, last_index)
    if not state.voters_outgoing:
        for change in incoming:
            tracker.switch(*changer.simple((change,)))
        return
    for node_id in state.voters_outgoing:
        tracker.switch(*changer.simple((ConfChangeSingle(ConfChangeType.ADD_NODE, node_id),)))
    tracker.switch(*changer.enter_joint(state.auto_leave, tuple(incoming)))
