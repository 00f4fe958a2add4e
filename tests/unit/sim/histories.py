"""Histories written by hand: what clients asked, when, and what they say they were told."""

from __future__ import annotations

from balsad.sim.history import (
    DONE,
    REFUSED,
    UNKNOWN,
    FinalState,
    History,
    LeaseStep,
    Operation,
    WatchEvent,
    WatchMessage,
    WatchSession,
)
from balsad.sim.requests import (
    Delete,
    DeleteResult,
    KeyValue,
    Put,
    PutResult,
    Range,
    RangeResult,
    Request,
    Result,
    Txn,
    TxnResult,
)

NEVER = float("inf")


class Book:
    """A history in the making; times are seconds of the world."""

    def __init__(self) -> None:
        self.history = History(ended=100.0, quiet_since=50.0)

    def op(
        self,
        when: tuple[float, float],
        request: Request,
        revision: int,
        result: Result | None,
        outcome: str = DONE,
        machine: str = "m1",
    ) -> Operation:
        operations = self.history.operations
        made = Operation(len(operations), "c1", machine, request, when[0], when[1], outcome, revision, result, "")
        operations.append(made)
        return made

    def put(self, when: tuple[float, float], key: bytes, value: bytes, revision: int, *, lease: int = 0) -> None:
        self.op(when, Put(key, value, lease), revision, PutResult())

    def lost_put(self, began: float, key: bytes, value: bytes) -> None:
        self.op((began, NEVER), Put(key, value), 0, None, UNKNOWN)

    def refused_put(self, when: tuple[float, float], key: bytes, value: bytes) -> None:
        self.op(when, Put(key, value), 0, None, REFUSED)

    def delete(self, when: tuple[float, float], key: bytes, revision: int, deleted: int) -> None:
        self.op(when, Delete(key), revision, DeleteResult(deleted))

    def get(
        self,
        when: tuple[float, float],
        key: bytes,
        revision: int,
        found: KeyValue | None,
        *,
        serializable: bool = False,
        at: int = 0,
    ) -> None:
        kvs = () if found is None else (found,)
        self.op(when, Range(key, revision=at, serializable=serializable), revision, RangeResult(kvs, len(kvs)))

    def txn(self, when: tuple[float, float], txn: Txn, revision: int, result: TxnResult) -> None:
        self.op(when, txn, revision, result)

    def watch(self, *messages: WatchMessage, start: int = 1, ended: float = NEVER, key: bytes = b"\0") -> WatchSession:
        end = b"\0" if key == b"\0" else b""
        made = WatchSession("w1", "m1", key, end, start, 0.5, created_revision=1, messages=list(messages), ended=ended)
        self.history.watches.append(made)
        return made

    def lease(
        self, kind: str, when: tuple[float, float], lease: int = 7, *, ttl: int = 0, told: int = 0, revision: int = 1
    ) -> LeaseStep:
        made = LeaseStep(kind, lease, "t1", "m1", when[0], ttl, when[1], DONE, told, keys=(), revision=revision)
        self.history.leases.append(made)
        return made

    def final(self, machine: str, revision: int, *kvs: KeyValue, hash: int = 1, leases: tuple[int, ...] = ()) -> None:
        self.history.finals.append(FinalState(machine, revision, -1, revision, hash, revision + 5, kvs, leases))


def kv(key: bytes, value: bytes, mod: int, create: int = 0, version: int = 1, lease: int = 0) -> KeyValue:
    return KeyValue(key, value, create or mod, mod, version, lease)


def told(at: float, *events: WatchEvent, revision: int = 0) -> WatchMessage:
    return WatchMessage(at, revision or max(event.kv.mod for event in events), events)


def progress(at: float, revision: int) -> WatchMessage:
    return WatchMessage(at, revision, (), True)


def was_put(found: KeyValue) -> WatchEvent:
    return WatchEvent(False, found, None)


def was_deleted(key: bytes, mod: int) -> WatchEvent:
    return WatchEvent(True, KeyValue(key, b"", 0, mod, 0, 0), None)
