from __future__ import annotations

from balsad.raft import Configuration, Message
from balsad.raft.read_only import ReadOnly

THREE = Configuration((1, 2, 3))


def test_a_quorum_of_acks_confirms_all_reads_that_waited_when_it_was_asked() -> None:
    """The example of the module's text."""
    reads = ReadOnly(False)
    requests = [Message(15, index=number) for number in range(1, 6)]
    contexts = []
    for request in requests:
        reads.add(request.index * 10, request)
        contexts.append(reads.heartbeat_context())
    reads.ack(1, contexts[4])

    reads.ack(3, contexts[1])
    assert [read.index for read in reads.advance(THREE)] == [10, 20]
    reads.ack(2, contexts[3])
    assert [read.request for read in reads.advance(THREE)] == requests[2:4]
    assert reads.advance(THREE) == []
    assert reads.heartbeat_context() == (5).to_bytes(8, "little")


def test_nothing_waits_nothing_is_asked() -> None:
    reads = ReadOnly(False)
    assert reads.heartbeat_context() == b""

    reads.add(1, Message(15))
    reads.reset()
    assert reads.heartbeat_context() == b""


def test_an_old_ack_does_not_take_back_a_newer_one_and_a_strange_one_is_no_ack() -> None:
    reads = ReadOnly(False)
    reads.add(1, Message(15))
    reads.add(2, Message(15))
    reads.ack(1, (2).to_bytes(8, "little"))
    reads.ack(2, b"another's context")
    assert reads.advance(THREE) == []

    reads.ack(2, (2).to_bytes(8, "little"))
    reads.ack(2, (1).to_bytes(8, "little"))
    assert [read.index for read in reads.advance(THREE)] == [1, 2]


def test_a_joint_configuration_must_confirm_with_both_halves() -> None:
    reads = ReadOnly(False)
    reads.add(1, Message(15))
    joint = Configuration((1, 2), (1, 3))
    for node_id in (1, 2):
        reads.ack(node_id, (1).to_bytes(8, "little"))
    assert reads.advance(joint) == []

    reads.ack(3, (1).to_bytes(8, "little"))
    assert len(reads.advance(joint)) == 1
