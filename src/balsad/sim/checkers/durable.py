"""What was acknowledged is there, whatever went down in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balsad.sim.checkers.keyspace import is_write
from balsad.sim.history import DONE, FinalState, History
from balsad.sim.requests import Put, Txn, TxnResult

if TYPE_CHECKING:
    from balsad.sim.checkers.linearizable import Truth

SHOWN_MAX = 5


def check_durable(history: History, truth: Truth) -> list[str]:
    acknowledged = _acknowledged(history)
    newest = max(
        (
            operation.revision
            for operation in history.operations
            if operation.outcome == DONE
            and operation.result is not None
            and is_write(operation.request, operation.result)
        ),
        default=1,
    )
    wrong: list[str] = []
    for final in history.finals:
        if final.revision < newest:
            wrong.append(f"{final.machine} ended at revision {final.revision}, {newest} was acknowledged")
        wrong += _missing(final, acknowledged, truth)
    return wrong[:SHOWN_MAX]


def _acknowledged(history: History) -> dict[bytes, tuple[int, bytes]]:
    """Of every key the newest put that was acknowledged: its revision and value."""
    found: dict[bytes, tuple[int, bytes]] = {}
    for operation in history.operations:
        if operation.outcome != DONE:
            continue
        request, result = operation.request, operation.result
        puts: list[Put] = []
        if isinstance(request, Put):
            puts = [request]
        elif isinstance(request, Txn) and isinstance(result, TxnResult):
            branch = request.success if result.succeeded else request.failure
            puts = [each for each in branch if isinstance(each, Put)]
        for put in puts:
            if operation.revision > found.get(put.key, (0, b""))[0]:
                found[put.key] = operation.revision, put.value
    return found


def _missing(final: FinalState, acknowledged: dict[bytes, tuple[int, bytes]], truth: Truth) -> list[str]:
    there = {kv.key: kv for kv in final.kvs}
    deleted: dict[bytes, int] = {}
    for revision, events in truth.events.items():
        for key, kv in events.items():
            if kv is None:
                deleted[key] = max(deleted.get(key, 0), revision)
    wrong: list[str] = []
    for key, (revision, value) in acknowledged.items():
        kv = there.get(key)
        if kv is None:
            if deleted.get(key, 0) < revision:
                wrong.append(f"{final.machine} lost {key!r} of revision {revision}")
        elif kv.mod < revision:
            wrong.append(f"{final.machine} has {key!r} of revision {kv.mod}, {revision} was acknowledged")
        elif kv.mod == revision and kv.value != value:
            wrong.append(f"{final.machine} has another value for {key!r} of revision {revision}")
    return wrong
