"""Interprets `committed` and `vote`: what a majority, or two of them, make of indexes and votes."""

from __future__ import annotations

from balsad.raft.quorum import (
    INFINITE,
    VOTE_NAMES,
    Voters,
    joint_committed,
    joint_vote,
    majority_committed,
    majority_vote,
    union,
)
from tests.scenarios.scenario_files import Command

COMMANDS = frozenset(("committed", "vote"))


class QuorumWorld:
    def run(self, command: Command) -> str:
        incoming: list[int] = []
        outgoing: list[int] = []
        joint = False
        given: list[int] = []
        for argument in command.arguments:
            for value in argument.values:
                if argument.key == "cfg":
                    incoming.append(int(value))
                elif argument.key == "cfgj":
                    joint = True
                    if value != "zero":
                        outgoing.append(int(value))
                elif argument.key == "idx":
                    given.append(0 if value == "_" else int(value))
                elif argument.key == "votes":
                    given.append({"y": 2, "n": 1, "_": 0}[value])
                else:
                    raise ValueError(f"unknown arg {argument.key}")
        one: Voters = tuple(sorted(set(incoming)))
        other: Voters = tuple(sorted(set(outgoing)))
        voters = union(one, other)
        if len(voters) != len(given):
            shown = " ".join(f"{voter}:{{}}" for voter in voters)
            values = " ".join(_index(value) for value in given)
            return f"error: mismatched input (explicit or _) for voters map[{shown}]: [{values}]"
        # In the order in which the voters were first named.
        order = list(dict.fromkeys(incoming + outgoing))
        known = {voter: value for voter, value in zip(order, given, strict=True) if value}
        if command.name == "committed":
            return _committed(one, other, joint, known)
        if command.name == "vote":
            return _vote(one, other, joint, {voter: value != 1 for voter, value in known.items()})
        raise ValueError(f"unknown command: {command.name}")


def _index(index: int) -> str:
    return "∞" if index == INFINITE else str(index)


def _committed(one: Voters, other: Voters, joint: bool, acks: dict[int, int]) -> str:
    def acked(voter: int) -> int:
        return acks.get(voter, 0)

    text = _describe(union(one, other), acks)
    index = joint_committed(one, other, acked)
    # Laws that hold for every case; a line of output tells if one does not.
    if joint:
        if joint_committed(other, one, acked) != index:
            text += "<-- via symmetry\n"
        return f"{text}{_index(index)}\n"
    if majority_committed(one, acked) != index:
        text += "<-- via zero-joint quorum\n"
    if joint_committed(one, one, acked) != index:
        text += "<-- via self-joint quorum\n"
    for voter in one:
        for lower in (acked(voter) - 1, 0):
            if index > acked(voter) > 0:
                changed = {**acks, voter: lower}
                if majority_committed(one, lambda who, changed=changed: changed.get(who, 0)) != index:  # type: ignore[misc]
                    text += f"<-- overlaying {voter}->{lower}"
    return f"{text}{_index(index)}\n"


def _vote(one: Voters, other: Voters, joint: bool, votes: dict[int, bool]) -> str:
    if not joint:
        return VOTE_NAMES[majority_vote(one, votes)] + "\n"
    result = joint_vote(one, other, votes)
    text = ""
    if joint_vote(other, one, votes) != result:
        text += f"{VOTE_NAMES[joint_vote(other, one, votes)]} <-- via symmetry\n"
    return text + VOTE_NAMES[result] + "\n"


def _describe(voters: Voters, acks: dict[int, int]) -> str:
    """A bar for each voter, the longer the more voters are behind it."""
    if not voters:
        return "<empty majority quorum>"
    count = len(voters)
    by_index = sorted(voters, key=lambda voter: (acks.get(voter, 0), voter))
    bars: dict[int, int] = {}
    for place, voter in enumerate(by_index):
        if place and acks.get(by_index[place - 1], 0) == acks.get(voter, 0):
            bars[voter] = bars[by_index[place - 1]]
        else:
            bars[voter] = place
    text = " " * count + "    idx\n"
    for voter in voters:
        bar = bars[voter]
        drawn = "x" * bar + ">" + " " * (count - bar) if voter in acks else "?" + " " * count
        text += f"{drawn} {acks.get(voter, 0):5d}    (id={voter:x})\n"
    return text
