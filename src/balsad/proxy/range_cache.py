"""Answers to ranges, to be given again to who asks for a serializable one: from memory, and so perhaps old.

    (token, request) -> answer          the 2,048 asked for last, at most 64 MiB
    [key, end) -> the requests          of ranges at the present revision: who writes there through this proxy,
                                        makes them forgotten; who writes elsewhere does not

Answers are kept apart by token, as nobody here can tell who may read what.
Source: etcd server/proxy/grpcproxy/cache/store.go.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from balsad.errors import CompactedError
from balsad.interval_tree import IntervalTree

ANSWERS_MAX: Final = 2048
BYTES_MAX: Final = 64 << 20
ENTRY_BYTES_MAX: Final = 1 << 20

Question = tuple[bytes, bytes]
"""Token and request."""


class _Kept(NamedTuple):
    answer: bytes
    key: bytes
    end: bytes
    is_present: bool
    size: int


class RangeCache:
    def __init__(self) -> None:
        self._kept: OrderedDict[Question, _Kept] = OrderedDict()
        self._bytes = 0
        self._ranges: IntervalTree[dict[Question, None]] = IntervalTree()
        self._compacted = -1

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, question: Question, revision: int) -> bytes | None:
        """Raises: CompactedError for a revision of which it is known that it is gone."""
        if 0 < revision < self._compacted:
            self._forget(question)
            raise CompactedError
        kept = self._kept.get(question)
        if kept is None:
            return None
        self._kept.move_to_end(question)
        return kept.answer

    def add(self, question: Question, key: bytes, end: bytes, revision: int, answer: bytes) -> None:
        """Keep an answer; `revision` is the one that was asked for, 0 for the present."""
        size = len(answer) + len(question[0]) + len(question[1])
        if (0 < revision <= self._compacted) or size > ENTRY_BYTES_MAX:
            return
        self._forget(question)
        self._kept[question] = _Kept(answer, key, end, not revision, size)
        self._bytes += size
        if not revision:
            questions = self._ranges.get(key, end)
            if questions is None:
                self._ranges.insert(key, end, {question: None})
            else:
                questions[question] = None
        while len(self._kept) > ANSWERS_MAX or self._bytes > BYTES_MAX:
            self._forget(next(iter(self._kept)))

    def invalidate(self, key: bytes, end: bytes) -> None:
        """Somebody wrote there."""
        for questions in self._ranges.intersect(key, end):
            for question in list(questions):
                self._forget(question)

    def compact(self, revision: int) -> None:
        self._compacted = max(self._compacted, revision)

    def _forget(self, question: Question) -> None:
        kept = self._kept.pop(question, None)
        if kept is None:
            return
        self._bytes -= kept.size
        if kept.is_present:
            questions = self._ranges.get(kept.key, kept.end)
            if questions is not None:
                questions.pop(question, None)
                if not questions:
                    self._ranges.remove(kept.key, kept.end)
