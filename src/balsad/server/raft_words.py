"""What raft's events are called in the log: etcd's sentences, in which ids are hexadecimal as everywhere else.

Operators search for these ("became leader at term", "lost leader"); raft itself leaves values and writes nothing.
Source: etcd raft/raft.go, raft/node.go.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from balsad.raft import Event

_VOTER: Final = re.compile(r"(?<=[( ])[0-9a-f]+(?=[ )])")

# For each event the sentence, in which {node}, {from} and the like are ids.
_SENTENCES: Final = {
    "became follower": "{node} became follower at term {term}",
    "became candidate": "{node} became candidate at term {term}",
    "became pre-candidate": "{node} became pre-candidate at term {term}",
    "became leader": "{node} became leader at term {term}",
    "is starting a new election": "{node} is starting a new election at term {term}",
    "switched to configuration": "{node} switched to configuration {config}",
    "initiating automatic transition out of joint configuration": (
        "initiating automatic transition out of joint configuration {config}"
    ),
    "cannot campaign: not promotable": "{node} is unpromotable and can not campaign",
    "sent vote request": ("{node} [logterm: {log_term}, index: {index}] sent {kind} request to {to} at term {term}"),
    "cast vote": (
        "{node} [logterm: {own_log_term}, index: {own_index}, vote: {vote}] cast {kind} for {from} "
        "[logterm: {log_term}, index: {index}] at term {term}"
    ),
    "rejected vote request": (
        "{node} [logterm: {own_log_term}, index: {own_index}, vote: {vote}] rejected {kind} from {from} "
        "[logterm: {log_term}, index: {index}] at term {term}"
    ),
    "received a message with higher term": (
        "{node} [term: {term}] received a {kind} message with higher term from {from} [term: {message_term}]"
    ),
    "ignored a message with lower term": (
        "{node} [term: {term}] ignored a {kind} message with lower term from {from} [term: {message_term}]"
    ),
    "stepped down to follower since quorum is not active": (
        "{node} stepped down to follower since quorum is not active"
    ),
}
_IDS: Final = frozenset(("from", "lead", "node", "to", "vote"))


def tell(log: logging.Logger, event: Event) -> None:
    for sentence in sentences(event.message, event.facts):
        log.log(event.level, sentence)


def sentences(message: str, facts: Mapping[str, Any]) -> list[str]:
    """The lines that an event makes; without a sentence of its own it is told with its facts behind it."""
    shown = {name: f"{fact:x}" if name in _IDS else fact for name, fact in facts.items()}
    if message == "received vote":
        what = "" if shown["granted"] else " rejection"
        lines = [f"{shown['node']} received {shown['kind']}{what} from {shown['from']} at term {shown['term']}"]
        if facts["from"] != facts["node"]:
            lines.append(
                f"{shown['node']} has received {shown['votes']} {shown['kind']} votes and "
                f"{shown['rejections']} vote rejections"
            )
        return lines
    if "config" in shown:
        shown["config"] = _VOTER.sub(lambda found: str(int(found[0], 16)), str(shown["config"]))
    sentence = _SENTENCES.get(message)
    if sentence is not None:
        try:
            return [sentence.format_map(shown)]
        except KeyError:
            pass
    others = ", ".join([f"{name}: {fact}" for name, fact in shown.items() if name not in ("node", "term")])
    return [f"{shown.get('node', '')} {message} at term {shown.get('term', '')}" + (f" [{others}]" if others else "")]


def leader_sentence(node_id: int, old: int, new: int, term: int) -> str:
    """What is said when another leader is known, or none any more."""
    if not new:
        return f"raft.node: {node_id:x} lost leader {old:x} at term {term}"
    if not old:
        return f"raft.node: {node_id:x} elected leader {new:x} at term {term}"
    return f"raft.node: {node_id:x} changed leader from {old:x} to {new:x} at term {term}"
