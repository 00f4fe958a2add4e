"""Linearizable reads, many at a time: one question to the quorum answers all reads that waited when it was asked.

    read(done) --> gathering --ask--> asked (a context) --ReadState--> confirmed (an index)
               --applied >= index--> done(None)

A question that got no answer is asked again every 500 ms, and when there is a leader after there was none.

Source: etcd server/etcdserver/v3_server.go (linearizableReadLoop).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from balsad.errors import LeaderChangedError, RequestError, RequestTimedOutError, StoppedError

if TYPE_CHECKING:
    from balsad.raft import ReadState
    from balsad.server.faces import QuorumAsker
    from balsad.server.request_ids import RequestIds

log = logging.getLogger(__name__)

RETRY_S: Final = 0.5

ReadDone = Callable[[RequestError | None], None]


class _Round:
    __slots__ = ("asked_at", "context", "readers")

    def __init__(self, context: bytes, readers: list[tuple[float, ReadDone]], asked_at: float) -> None:
        self.context = context
        self.readers = readers
        self.asked_at = asked_at


class ReadIndex:
    def __init__(
        self, node: QuorumAsker, request_ids: RequestIds, *, timeout_s: float, wake: Callable[[], None]
    ) -> None:
        self._node = node
        self._ids = request_ids
        self._timeout_s = timeout_s
        self._wake = wake
        self._gathering: list[tuple[float, ReadDone]] = []
        self._round: _Round | None = None
        self._confirmed: list[tuple[int, list[tuple[float, ReadDone]]]] = []
        self._applied_index = 0
        self.slow = 0
        self.failed = 0

    @property
    def is_idle(self) -> bool:
        return self._round is None and not self._gathering and not self._confirmed

    def read(self, done: ReadDone, now: float) -> None:
        """Call `done(None)` once a read here sees every write acknowledged before this call."""
        self._gathering.append((now + self._timeout_s, done))
        if self._round is None:
            self._ask(now)

    def _ask(self, now: float) -> None:
        readers, self._gathering = self._gathering, []
        self._round = _Round(self._ids.next().to_bytes(8, "big"), readers, now)
        self._node.read_index(self._round.context)
        self._wake()

    def on_read_states(self, states: list[ReadState]) -> None:
        for state in states:
            current = self._round
            if current is None or state.context != current.context:
                continue  # an answer to an older asking
            self._round = None
            if self._applied_index >= state.index:
                _finish(current.readers, None)
            else:
                self._confirmed.append((state.index, current.readers))
            # Whoever was answered may have asked already.
            if self._gathering and not self._is_asking():
                self._ask(current.asked_at)

    def _is_asking(self) -> bool:
        # Asked in a call: the compiled form holds `_round` for None where it was set to that, whoever was called since.
        return self._round is not None

    def on_applied(self, index: int) -> None:
        self._applied_index = index
        while self._confirmed and self._confirmed[0][0] <= index:
            _finish(self._confirmed.pop(0)[1], None)

    def on_leader_changed(self) -> None:
        """Another leader took over: what was asked of the one before will not be answered."""
        readers = self._round.readers if self._round is not None else []
        self._round = None
        self.failed += len(readers)
        _finish(readers, LeaderChangedError())

    def on_leader_found(self, now: float) -> None:
        """There was none for a while: what was asked of the one before need not wait for the next try."""
        if self._round is not None:
            self._ask_again(self._round, now)

    def _ask_again(self, current: _Round, now: float) -> None:
        current.asked_at = now
        self._node.read_index(current.context)
        self._wake()

    def tick(self, now: float) -> None:
        """Ask again what was not answered, and refuse what has waited too long."""
        current = self._round
        if current is not None and now - current.asked_at >= RETRY_S:
            self.slow += 1
            # The context is the request's id.
            log.warning(
                "waiting for ReadIndex response took too long, retrying",
                extra={"sent-request-id": int.from_bytes(current.context, "big"), "retry-timeout": "500ms"},
            )
            self._ask_again(current, now)
        late: list[tuple[float, ReadDone]] = []
        if current is not None:
            current.readers = _without_late(current.readers, now, late)
            if not current.readers:
                self._round = None
        self._gathering = _without_late(self._gathering, now, late)
        self._confirmed = [
            (index, left) for index, readers in self._confirmed if (left := _without_late(readers, now, late))
        ]
        if self._round is None and self._gathering:
            self._ask(now)
        self.failed += len(late)
        if late:
            log.warning(
                "timed out waiting for read index response (local node might have slow network)",
                extra={"timeout": f"{self._timeout_s:g}s"},
            )
        # Not before all is as it shall be: whoever is refused may ask again at once.
        _finish(late, RequestTimedOutError())

    def stop(self) -> None:
        everyone = self._gathering + (self._round.readers if self._round else [])
        for _, readers in self._confirmed:
            everyone += readers
        self._gathering, self._round, self._confirmed = [], None, []
        _finish(everyone, StoppedError())


def _without_late(
    readers: list[tuple[float, ReadDone]], now: float, late: list[tuple[float, ReadDone]]
) -> list[tuple[float, ReadDone]]:
    """Those who need not be refused yet; the others join `late`."""
    late += [reader for reader in readers if reader[0] <= now]
    return [reader for reader in readers if reader[0] > now]


def _finish(readers: list[tuple[float, ReadDone]], error: RequestError | None) -> None:
    for _, done in readers:
        done(error)
