"""What the server's parts ask of their neighbours, where something else may stand in for one of them."""

from __future__ import annotations

from typing import Protocol


class QuorumAsker(Protocol):
    """Raft, as far as linearizable reads need it: asked once for all reads that wait."""

    def read_index(self, context: bytes) -> None:
        """Ask a quorum who leads; the answer is a ReadState with this context."""
