"""Clients that watch everything, and after each break go on where they were."""

from __future__ import annotations

import threading
import time

import grpc

from balsad.proto import kv_pb2
from balsad.proto import rpc_pb2 as rpc
from balsad.sim.history import History, WatchEvent, WatchMessage, WatchSession
from balsad.sim.requests import key_value
from tests.interop.v3 import Watch, connect

EVERYTHING = b"\0"
CATCH_UP_S = 20.0


def create_request(session: WatchSession) -> rpc.WatchCreateRequest:
    return rpc.WatchCreateRequest(
        key=session.key, range_end=session.end, start_revision=session.start_revision, prev_kv=session.wants_previous
    )


def note(session: WatchSession, answer: rpc.WatchResponse) -> int:
    """Write down what came; gives the revision of the last event, or 0."""
    if answer.created:
        session.created_revision = answer.header.revision
    if answer.canceled:
        session.is_canceled = True
        session.compact_revision = answer.compact_revision
        session.ended_why = answer.cancel_reason
    if not answer.events:
        return 0
    events = tuple(_event(event) for event in answer.events)
    session.messages.append(WatchMessage(time.monotonic(), answer.header.revision, events))
    return events[-1].kv.mod


def _event(event: kv_pb2.Event) -> WatchEvent:
    previous = key_value(event.prev_kv) if event.HasField("prev_kv") else None
    return WatchEvent(event.type == kv_pb2.Event.DELETE, key_value(event.kv), previous)


class Watcher:
    """Watches one member from the first revision on, in as many sessions as it takes."""

    def __init__(self, history: History, machine: str, address: str) -> None:
        self._history = history
        self._machine = machine
        self._address = address
        self._told = 0
        self._stopping = False
        self._watch: Watch | None = None
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._session()
        except BaseException as error:
            self.failure = error

    def _session(self) -> None:
        session = WatchSession(
            f"watcher-{self._machine}",
            self._machine,
            EVERYTHING,
            EVERYTHING,
            self._told + 1,
            time.monotonic(),
            wants_previous=True,
        )
        self._history.watches.append(session)
        try:
            with connect(self._address) as v3:
                self._watch = v3.watch(create_request(session))
                try:
                    while not session.is_canceled and not self._stopping:
                        self._told = note(session, self._watch.next()) or self._told
                finally:
                    self._watch.close()
        except grpc.RpcError as error:
            session.ended_why = f"{error.code().name}: {error.details()}"
        session.ended = time.monotonic()
        if not self._stopping:
            time.sleep(0.2)

    def stop(self, revision: int) -> None:
        """End once everything up to `revision` was told. Raises: AssertionError when it is not."""
        deadline = time.monotonic() + CATCH_UP_S
        while self._told < revision and self.failure is None and time.monotonic() < deadline:
            time.sleep(0.02)
        self._stopping = True
        if self._watch is not None:
            self._watch.close()
        self._thread.join(CATCH_UP_S)
        if self.failure is not None:
            raise self.failure
        assert self._told >= revision, f"the watcher of {self._machine} heard of {self._told}, not of {revision}"
