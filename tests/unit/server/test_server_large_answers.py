"""Large answers are shared by those who ask the same, and by nobody after anything has changed."""

from __future__ import annotations

import os

import pytest

from balsad.errors import CompactedError
from balsad.proto import rpc_pb2 as rpc
from balsad.server.answers import HeaderBytes
from balsad.server.ranges import ANSWER_KEPT_MIN, ANSWERS_KEPT_MAX, LargeAnswers, answer_range
from tests.unit.server.test_server_ranges import new_store

KEY_BYTES = ANSWER_KEPT_MIN // 4


class Asked:
    """A store with eight keys whose values are long, and its large answers."""

    def __init__(self) -> None:
        self.store = new_store()
        self.header = HeaderBytes(cluster_id=1, member_id=2)
        self.header.set_term(3)
        self.large = LargeAnswers(self.store, self.header)
        for number in range(8):
            self.put(b"k%d" % number, os.urandom(KEY_BYTES))

    def put(self, key: bytes, value: bytes) -> None:
        txn = self.store.write()
        txn.put(key, value, 0)
        txn.end()

    def ask(self, request: rpc.RangeRequest) -> bytes:
        """The answer as it should be, having been found right."""
        answer = self.large.answer(request.SerializeToString(), request)
        assert answer == answer_range(self.store, request, self.header.at)
        return answer


ALL = rpc.RangeRequest(key=b"k", range_end=b"l")


def test_who_asks_the_same_gets_the_same_bytes() -> None:
    asked = Asked()
    first = asked.ask(ALL)
    assert asked.ask(ALL) is first
    assert asked.large.find(ALL.SerializeToString()) is first
    part = asked.ask(rpc.RangeRequest(key=b"k", range_end=b"l", limit=6))
    assert part != first
    assert asked.ask(ALL) is first


@pytest.mark.parametrize("change", ["put", "delete", "term", "backend"])
def test_nobody_gets_what_is_no_longer_so(change: str) -> None:
    asked = Asked()
    before = asked.ask(ALL)
    if change == "put":
        asked.put(b"elsewhere", b"")  # the header's revision is a part of the answer
    elif change == "delete":
        txn = asked.store.write()
        txn.delete_range(b"k3", b"")
        txn.end()
    elif change == "term":
        asked.header.set_term(4)
    else:
        asked.store.replace_backend(asked.store.backend.__class__())
    assert asked.large.find(ALL.SerializeToString()) is None
    assert asked.ask(ALL) != before


def test_a_past_revision_is_asked_of_the_store_each_time() -> None:
    """It may be compacted, which does not move the revision."""
    asked = Asked()
    past = rpc.RangeRequest(key=b"k", range_end=b"l", revision=asked.store.current_revision - 1)
    asked.put(b"k1", b"")
    asked.ask(past)
    asked.store.compact(asked.store.current_revision)
    with pytest.raises(CompactedError):
        asked.large.answer(past.SerializeToString(), past)


def test_what_is_kept_has_a_bound_and_short_answers_are_not_worth_it() -> None:
    asked = Asked()
    short = rpc.RangeRequest(key=b"k1")
    asked.ask(short)
    assert asked.large.find(short.SerializeToString()) is None
    raws = []
    size = 0
    for limit in range(5, 5 + 2 * ANSWERS_KEPT_MAX // (8 * KEY_BYTES)):
        request = rpc.RangeRequest(key=b"k", range_end=b"l", limit=limit)
        size += len(asked.ask(request))
        raws.append(request.SerializeToString())
    kept = [answer for answer in map(asked.large.find, raws) if answer is not None]
    assert size > ANSWERS_KEPT_MAX > sum(map(len, kept)) > 0
    assert asked.large.find(raws[-1]) is not None
