"""Which reads wait for which heartbeats.

A read is safe at the commit index of its arrival once a quorum, asked after that, still takes us
for the leader. Each heartbeat carries how many reads were waiting when it left, counted from the
start of the term; an answer brings the number back and thereby confirms all reads up to it:

    reads     1  2  3  4  5          confirmed = 2: reads 1 and 2 have left
    acks      self 5, node 2: 4, node 3: 2     -> a quorum has acked 4: reads 3 and 4 go

Source: raft's readOnly; Raft thesis 6.4.
"""

from __future__ import annotations

from balsad.raft.messages import Message
from balsad.raft.quorum import joint_committed
from balsad.raft.tracker import Configuration


class ReadState:
    """The answer to a read_index: the read may be served once `index` is applied."""

    __slots__ = ("context", "index")

    def __init__(self, index: int, context: bytes) -> None:
        self.index = index
        self.context = context

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReadState) and (self.index, self.context) == (other.index, other.context)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ReadState({self.index}, {self.context!r})"


class PendingRead:
    __slots__ = ("index", "request")

    def __init__(self, index: int, request: Message) -> None:
        self.index = index
        self.request = request


class ReadOnly:
    __slots__ = ("_acks", "_confirmed", "_waiting", "lease_based")

    def __init__(self, lease_based: bool) -> None:
        self.lease_based = lease_based
        self._acks: dict[int, int] = {}
        self._waiting: list[PendingRead] = []
        self._confirmed = 0

    def reset(self) -> None:
        """Forget all waiting reads: who asked must ask again."""
        self._acks = {}
        self._waiting = []
        self._confirmed = 0

    def add(self, index: int, request: Message) -> None:
        """A read arrived when `index` was committed."""
        self._waiting.append(PendingRead(index, request))

    def heartbeat_context(self) -> bytes:
        """What a heartbeat must carry to confirm all reads that wait now; empty if none does."""
        if not self._waiting:
            return b""
        return (self._confirmed + len(self._waiting)).to_bytes(8, "little")

    def ack(self, node_id: int, context: bytes) -> None:
        """A node answered a heartbeat that carried `context`. One of another length is not ours."""
        if len(context) != 8:
            return
        position = int.from_bytes(context, "little")
        if position > self._acks.get(node_id, 0):
            self._acks[node_id] = position

    def _acked(self, node_id: int) -> int:
        return self._acks.get(node_id, 0)

    def advance(self, config: Configuration) -> list[PendingRead]:
        """The reads that are confirmed now, in the order of their arrival."""
        confirmed = joint_committed(config.incoming, config.outgoing, self._acked)
        count = min(confirmed - self._confirmed, len(self._waiting))
        if count <= 0:
            return []
        reads = self._waiting[:count]
        del self._waiting[:count]
        self._confirmed += count
        return reads
