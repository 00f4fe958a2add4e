from __future__ import annotations

import pytest

from balsad.raft import ConfState, Entry, HardState, Message, ReadState, Ready, Snapshot, SoftState
from balsad.raft.describe import describe_message, describe_ready, quote
from balsad.raft.kinds import APPEND_THREAD


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"foo", '"foo"'),
        (b"", '""'),
        (b'a"b\\c', '"a\\"b\\\\c"'),
        (b"\n\t\x00\x7f\xff", '"\\n\\t\\x00\\x7f\\xff"'),
        ("größe €".encode(), '"größe €"'),
        ("\u2028\U000e0001".encode(), '"\\u2028\\U000e0001"'),
    ],
)
def test_quoted_as_go_does(data: bytes, text: str) -> None:
    """Source: Go's strconv.Quote."""
    assert quote(data) == text


def test_a_message_with_all_its_parts() -> None:
    """Source: raft's DescribeMessage."""
    message = Message(
        19,
        APPEND_THREAD,
        1,
        term=2,
        index=5,
        log_term=1,
        commit=4,
        vote=3,
        reject=True,
        reject_hint=7,
        entries=[Entry(0, 2, 6, b"a"), Entry(2, 2, 7, b"")],
        snapshot=Snapshot(5, 1, ConfState((1, 2), (3,)), b""),
        responses=[Message(4, 1, 1, term=2, index=7)],
    )

    assert describe_message(message).split("\n") == [
        "1->AppendThread MsgStorageAppend Term:2 Log:1/5 Rejected (Hint: 7) Commit:4 Vote:3 Entries:[",
        '  2/6 EntryNormal "a"',
        "  2/7 EntryConfChangeV2",
        "]",
        "  Snapshot: Index:5 Term:1 ConfState:Voters:[1 2] VotersOutgoing:[] Learners:[3] LearnersNext:[] "
        "AutoLeave:false Responses:[",
        "  1->1 MsgAppResp Term:2 Log:0/7",
        "]",
    ]


def test_a_ready_with_all_its_parts() -> None:
    ready = Ready(
        SoftState(1, 2), HardState(2, 0, 5), [Entry(0, 2, 6, b"a")], [], None, [], [ReadState(5, b"\x01\x02")], True, []
    )

    assert describe_ready(ready).split("\n") == [
        "Ready MustSync=true:",
        "Lead:1 State:StateLeader",
        "HardState Term:2 Commit:5",
        "ReadStates [{5 [1 2]}]",
        "Entries:",
        '2/6 EntryNormal "a"',
        "",
    ]
    assert describe_ready(Ready(None, None, [], [], None, [], [], False, [])) == "<empty Ready>"
