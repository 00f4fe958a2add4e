"""What raft does stands in the log in the real one's sentences, so that whoever searches for them finds them."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from tests.interop.clusters import cluster
from tests.interop.servers import Member, balsad, program, programs, real, start

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

_ID = re.compile(r"\b[0-9a-f]{14,16}\b|\b[0-9]{17,20}\b")


def raft_lines(member: Member) -> list[str]:
    lines = [
        json.loads(line)
        for line in member.log_path.read_text("utf-8", "replace").splitlines()
        if '"logger":"raft"' in line
    ]
    return [_ID.sub("ID", line["msg"]) for line in lines]


def test_a_single_member_tells_of_its_election_as_the_real_one_does(tmp_path: Path) -> None:
    told = []
    for name, who in (("ours", balsad()), ("theirs", real())):
        with start(who, tmp_path / name) as member:
            lines = raft_lines(member)
        told.append(lines[lines.index("ID is starting a new election at term 1") :][:7])
    assert told[0] == told[1]
    assert told[0][-1] == "raft.node: ID elected leader ID at term 2"


@pytest.mark.parametrize("who", programs())
def test_a_leader_that_is_gone_is_told_of(who: str, tmp_path: Path) -> None:
    patterns = [
        r"ID \[term: \d+\] received a Msg(Pre)?Vote message with higher term from ID \[term: \d+\]",
        r"ID \[logterm: \d+, index: \d+, vote: (ID|0)\] cast MsgVote for ID \[logterm: \d+, index: \d+\] at term \d+",
        r"ID \[logterm: \d+, index: \d+\] sent MsgVote request to ID at term \d+",
        r"ID received MsgVoteResp from ID at term \d+",
        r"ID has received 2 MsgVoteResp votes and 0 vote rejections",
        r"ID became leader at term \d+",
        r"raft.node: ID lost leader ID at term \d+",
        r"raft.node: ID elected leader ID at term \d+",
    ]
    with cluster(tmp_path, dict.fromkeys(("m0", "m1", "m2"), program(who)), "--log-level=info") as one:
        leader = one.members.pop(one.leader())
        others = list(one.members.values())
        before = {id(member): len(raft_lines(member)) for member in others}
        leader.kill()

        deadline = time.monotonic() + 40
        missing = patterns
        while missing:
            said = [line for member in others for line in raft_lines(member)[before[id(member)] :]]
            missing = [pattern for pattern in patterns if not any(re.fullmatch(pattern, line) for line in said)]
            assert time.monotonic() < deadline, (missing, said)
            time.sleep(0.2)
