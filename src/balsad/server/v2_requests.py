"""Requests of the v2 API: writes and quorum reads go through the log, other reads and watches ask the tree here.

    write ──> log ──> applied to the tree, which gives an event or a refusal ──> done

While keys may expire the leader puts its clock into the log (SYNC), twice a second: what has run out by then is
deleted by every member alike.

Source: etcd server/etcdserver/v2_server.go, server.go (sync).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from balsad.errors import RequestError
from balsad.v2store import Event, Outcome, Request, V2Error, Watcher, encode_request

if TYPE_CHECKING:
    from balsad.server.propose import Result
    from balsad.server.service import Service
    from balsad.v2store import Store as V2Store

SYNC_INTERVAL_S: Final = 0.5

V2Answer: TypeAlias = Event | V2Error | RequestError


class V2Requests:
    def __init__(self, service: Service, tree: V2Store) -> None:
        self._service = service
        self.tree = tree
        self._asked: dict[int, V2Answer | None] = {}

    def submit(self, request: Request, done: Callable[[V2Answer], None]) -> None:
        """Carry out a PUT, POST, DELETE or QGET through the log. Raises RequestError when it cannot be proposed."""
        request_id = request.id = self._service.next_id()
        self._asked[request_id] = None

        def finish(result: Result) -> None:
            answer = self._asked.pop(request_id)
            if isinstance(result, RequestError):
                done(result)
            else:
                assert answer is not None, "a v2 request was applied without an outcome"
                done(answer)

        try:
            self._service.propose_raw(encode_request(request), request_id, finish)
        except RequestError:
            del self._asked[request_id]
            raise

    def on_outcome(self, request_id: int, outcome: Outcome) -> None:
        """What the tree said to an entry; somebody here may have asked for it."""
        if request_id in self._asked and isinstance(outcome, (Event, V2Error)):
            self._asked[request_id] = outcome

    def read(self, request: Request) -> Event:
        """What this member has of it. Raises V2Error."""
        return self.tree.get(request.path, recursive=request.recursive, in_order=request.sorted, now_ns=self.now_ns())

    def watch(self, request: Request, wake: Callable[[], None]) -> Watcher:
        """Raises V2Error when the history does not reach back that far."""
        return self.tree.watch(
            request.path,
            recursive=request.recursive,
            stream=request.stream,
            since_index=request.since,
            wake=wake,
        )

    def now_ns(self) -> int:
        return int(self._service.env.clock.time() * 1e9)

    def monotonic(self) -> float:
        """Seconds, to tell how long something took."""
        return self._service.env.clock.monotonic()

    @property
    def raft_index(self) -> int:
        return self._service.driver.committed_index

    @property
    def raft_term(self) -> int:
        return self._service.term

    def sync(self) -> None:
        """A leader tells all what time it is, if that may end the life of a key."""
        service = self._service
        if not service.driver.is_leader or not self.tree.has_ttl_keys():
            return
        request = Request(id=service.next_id(), method="SYNC", time=self.now_ns())
        try:
            service.propose_raw(encode_request(request), request.id, _nobody_waits)
        except RequestError:
            pass  # too much to do: the next time will do


def _nobody_waits(_: Result) -> None:
    pass
