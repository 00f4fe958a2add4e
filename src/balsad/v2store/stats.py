"""What the v2 tree counted: `Stats` travels in snapshots, `Counters` are this process's own.

Source: etcd v2store/stats.go, metrics.go.
"""

from __future__ import annotations

from typing import Final

from balsad.v2store import events

# Attribute and JSON name, in the order in which Go writes them.
_FIELDS: Final[tuple[tuple[str, str], ...]] = (
    ("gets_success", "getsSuccess"),
    ("gets_fail", "getsFail"),
    ("sets_success", "setsSuccess"),
    ("sets_fail", "setsFail"),
    ("delete_success", "deleteSuccess"),
    ("delete_fail", "deleteFail"),
    ("update_success", "updateSuccess"),
    ("update_fail", "updateFail"),
    ("create_success", "createSuccess"),
    ("create_fail", "createFail"),
    ("compare_and_swap_success", "compareAndSwapSuccess"),
    ("compare_and_swap_fail", "compareAndSwapFail"),
    ("compare_and_delete_success", "compareAndDeleteSuccess"),
    ("compare_and_delete_fail", "compareAndDeleteFail"),
    ("expire_count", "expireCount"),
    ("watchers", "watchers"),
)


class Stats:
    """Successes and failures by operation, since the tree was first made."""

    __slots__ = tuple(name for name, _ in _FIELDS)

    compare_and_delete_fail: int
    compare_and_delete_success: int
    compare_and_swap_fail: int
    compare_and_swap_success: int
    create_fail: int
    create_success: int
    delete_fail: int
    delete_success: int
    expire_count: int
    gets_fail: int
    gets_success: int
    sets_fail: int
    sets_success: int
    update_fail: int
    update_success: int
    watchers: int

    def __init__(self) -> None:
        for name, _ in _FIELDS:
            setattr(self, name, 0)

    def encode(self) -> str:
        """The JSON object of /v2/stats/store and of snapshots."""
        return "{" + ",".join(f'"{json_name}":{getattr(self, name)}' for name, json_name in _FIELDS) + "}"

    @staticmethod
    def decode(fields: dict[str, object]) -> Stats:
        """The stats in a snapshot's JSON object. Raises ValueError."""
        stats = Stats()
        for name, json_name in _FIELDS:
            value = fields.get(json_name, 0)
            if not isinstance(value, int):
                raise ValueError(f"Stats.{json_name}: expected a number, found {value!r}")
            setattr(stats, name, value)
        return stats


class Counters:
    """Totals by action for etcd_debugging_store_*; failures count in the totals too."""

    __slots__ = ("expires", "reads", "reads_failed", "watch_requests", "writes", "writes_failed")

    def __init__(self) -> None:
        self.reads: dict[str, int] = {}
        self.reads_failed: dict[str, int] = {}
        self.writes: dict[str, int] = {}
        self.writes_failed: dict[str, int] = {}
        self.expires = 0
        self.watch_requests = 0

    def read(self, *, recursive: bool, ok: bool) -> None:
        action = "getRecursive" if recursive else events.GET
        self.reads[action] = self.reads.get(action, 0) + 1
        if not ok:
            self.reads_failed[action] = self.reads_failed.get(action, 0) + 1

    def write(self, action: str, *, ok: bool) -> None:
        self.writes[action] = self.writes.get(action, 0) + 1
        if not ok:
            self.writes_failed[action] = self.writes_failed.get(action, 0) + 1
