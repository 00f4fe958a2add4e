"""What etcd promises who watches: every event, once, in order, whole revisions, and to be told when some are gone.

Ordered: by revision. Unique: none twice. Reliable: none left out between two that were told, nor below a revision
that a progress notification names. Atomic: a revision's events are in one response. Resumable: a watch that
starts in the past tells it all, or says which compaction took it. Truthful: each event is what happened.

Source: etcd, "KV API guarantees".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from balsad.sim.history import REFUSED, History, WatchEvent, WatchSession
from balsad.sim.requests import KeyValue, covers

if TYPE_CHECKING:
    from balsad.sim.checkers.linearizable import Truth

SHOWN_MAX = 5


def check_watches(history: History, truth: Truth) -> list[str]:
    wrong: list[str] = []
    judge = _Judge(history, truth)
    for watch in history.watches:
        for sentence in judge.judge(watch):
            if len(wrong) < SHOWN_MAX:
                wrong.append(f"{watch}: {sentence}")
    return wrong


class _Judge:
    def __init__(self, history: History, truth: Truth) -> None:
        self._history = history
        self._truth = truth
        # Per key, what it became at which revision.
        self._past: dict[bytes, list[tuple[int, KeyValue | None]]] = {}
        for revision in sorted(truth.events):
            for key, kv in truth.events[revision].items():
                self._past.setdefault(key, []).append((revision, kv))

    def judge(self, watch: WatchSession) -> Iterator[str]:
        if not watch.created_revision:
            if watch.messages:
                yield "events before it was created"
            return
        yield from self._judge_messages(watch)
        yield from self._judge_gaps(watch)
        yield from self._judge_end(watch)

    def _judge_messages(self, watch: WatchSession) -> Iterator[str]:
        last = watch.first_revision - 1
        here = 0  # a member that lags may be behind where the watch is to begin, but not behind what it told itself
        for message in watch.messages:
            if message.is_progress:
                if message.revision < here:
                    yield f"progress at {message.revision} after {here} was told"
                # What comes later is later than that.
                here = max(here, message.revision)
                last = max(last, message.revision)
                continue
            begins = message.events[0].kv.mod
            if begins <= last:
                yield f"an event of revision {begins} when {last} was told already"
            told: set[tuple[int, bytes]] = set()
            before = begins
            for event in message.events:
                kv = event.kv
                if kv.mod < before:
                    yield f"revision {kv.mod} behind {before}"
                if (kv.mod, kv.key) in told:
                    yield f"{kv.key!r} at {kv.mod} twice"
                told.add((kv.mod, kv.key))
                before = kv.mod
                yield from self._judge_event(watch, event, message.at)
            here = last = max(last, before)
            if message.revision < last:
                yield f"a header of revision {message.revision} over events of {last}"

    def _judge_event(self, watch: WatchSession, event: WatchEvent, at: float) -> Iterator[str]:
        kv = event.kv
        if not covers(watch.key, watch.end, kv.key):
            yield f"an event of {kv.key!r}"
        if kv.key not in self._truth.keys:
            return
        happened = self._truth.events.get(kv.mod, {})
        if kv.key not in happened:
            yield f"{event} never happened"
        elif happened[kv.key] != (None if event.is_delete else kv):
            yield f"{event} was told, {happened[kv.key]} happened"
        if not watch.wants_previous:
            if event.previous is not None:
                yield f"{event} with a previous value that nobody asked for"
            return
        previous = self._before(kv.key, kv.mod)
        if event.previous is None and self._may_be_compacted(kv.mod - 1, at):
            return
        if event.previous != previous:
            yield f"{event}, but it was {previous} before"

    def _before(self, key: bytes, revision: int) -> KeyValue | None:
        found: KeyValue | None = None
        for at, kv in self._past.get(key, ()):
            if at >= revision:
                break
            found = kv
        return found

    def _may_be_compacted(self, revision: int, at: float) -> bool:
        return any(
            compaction.revision > revision and compaction.outcome != REFUSED and compaction.invoked <= at
            for compaction in self._history.compactions
        )

    def _judge_gaps(self, watch: WatchSession) -> Iterator[str]:
        told = {(event.kv.mod, event.kv.key) for message in watch.messages for event in message.events}
        heard = watch.first_revision - 1
        for message in watch.messages:
            heard = max(heard, message.revision if message.is_progress else message.events[-1].kv.mod)
        if watch.ended == float("inf") and self._history.finals:
            # It was open when all was over: it must have been told everything.
            heard = max(heard, max(final.revision for final in self._history.finals))
        for revision in range(watch.first_revision, heard + 1):
            for key in self._truth.events.get(revision, ()):
                here = revision, key
                if here in self._truth.sure and covers(watch.key, watch.end, key) and here not in told:
                    yield f"{key!r} at {revision} was left out, though {heard} was heard of"
                    return

    def _judge_end(self, watch: WatchSession) -> Iterator[str]:
        if not watch.is_canceled:
            return
        if not watch.compact_revision:
            yield f"canceled: {watch.ended_why}"
            return
        next_revision = watch.first_revision
        for message in watch.messages:
            if message.events:
                next_revision = max(next_revision, message.events[-1].kv.mod + 1)
        if next_revision >= watch.compact_revision:
            yield f"canceled for a compaction at {watch.compact_revision}, but was at {next_revision}"
        asked = max(
            (
                compaction.revision
                for compaction in self._history.compactions
                if compaction.outcome != REFUSED and compaction.invoked <= watch.ended
            ),
            default=0,
        )
        if watch.compact_revision > asked:
            yield f"canceled for a compaction at {watch.compact_revision} that nobody asked for"
