"""What the server needs of the links to other members; `peer` has the real ones, a simulator its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from balsad.raft import Message
    from balsad.storage import BackendSnapshot


class PeerLinks(Protocol):
    def add_peer(self, member_id: int, urls: Iterable[str]) -> None: ...

    def update_peer(self, member_id: int, urls: Iterable[str]) -> None: ...

    def remove_peer(self, member_id: int) -> None: ...

    def send(self, messages: list[Message]) -> None:
        """Send each to its `to`, or lose it; messages to one member keep their order most of the time."""

    def send_snapshot(self, message: Message, db: BackendSnapshot) -> None:
        """Send a MsgSnap and the db that belongs to it, then close `db` and report how it went."""

    def active_since(self, member_id: int) -> float:
        """Monotonic seconds since when a member is connected, 0 while it is not."""

    def stop(self) -> None: ...


class NoPeers:
    """The links of a member that is alone."""

    def add_peer(self, member_id: int, urls: Iterable[str]) -> None:
        pass

    def update_peer(self, member_id: int, urls: Iterable[str]) -> None:
        pass

    def remove_peer(self, member_id: int) -> None:
        pass

    def send(self, messages: list[Message]) -> None:
        pass

    def send_snapshot(self, message: Message, db: BackendSnapshot) -> None:
        db.close()

    def active_since(self, member_id: int) -> float:
        return 0.0

    def stop(self) -> None:
        pass
