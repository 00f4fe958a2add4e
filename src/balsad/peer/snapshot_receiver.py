"""A database comes in: message first, then the file, straight to the disk.

    length ──> message ──> db, into tmp-... ──(body ends)──> fsync, rename to %016x.snap.db ──> prepared, raft, 204
       └──────────┴──────────┴──(nonsense, connection lost, disk full)──> the temporary file is removed

The file is there for good before raft hears of the snapshot. Only the message
is ever held in memory.

Source: etcd rafthttp http.go (snapshotHandler), snap/db.go (SaveDBFrom).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING, Final

from balsad.durations import format_seconds
from balsad.membership import format_id
from balsad.observe.logs import get_logger
from balsad.peer.sizes import human_bytes
from balsad.raft.codec import decode_message
from balsad.raft.kinds import MESSAGE_NAMES, MSG_SNAP
from balsad.raft.messages import Message, Snapshot
from balsad.wire import WireError

if TYPE_CHECKING:
    from balsad.env import Disk
    from balsad.peer.counts import PeerCounts
    from balsad.peer.exchange import PeerAnswer
    from balsad.storage import Snapshotter

log = get_logger(__name__)

MESSAGE_BYTES_MAX: Final = 64 << 20
"""The largest message in front of a database: it holds the membership and the v2 tree."""

_NUMBERS: Final[Iterator[int]] = count()

_AT_LENGTH: Final = 0
_AT_MESSAGE: Final = 1
_AT_DB: Final = 2
_ENDED: Final = 3


class SnapshotReceiver:
    """Reads the body of one POST (a BodyReader)."""

    def __init__(
        self,
        *,
        answer: PeerAnswer,
        local_id: int,
        disk: Disk,
        snapshotter: Snapshotter,
        counts_of: Callable[[int], PeerCounts],
        process: Callable[[Message], Awaitable[bool]],
        start: Callable[[SnapshotReceiver], None],
        observe_s: Callable[[int, float], None],
        clock: Callable[[], float],
    ) -> None:
        """`process` hands the message to raft and tells whether that went well, else it has answered.

        `start` runs `finish` once the body is there.
        """
        self._answer = answer
        self._local_id = local_id
        self._disk = disk
        self._snapshotter = snapshotter
        self._counts_of = counts_of
        self._process = process
        self._start = start
        self._observe_s = observe_s
        self._clock = clock
        self._begun = clock()
        self._state = _AT_LENGTH
        self._parts: list[bytes] = []
        self._have = 0
        self._need = 8
        self._message: Message | None = None
        self._fields: dict[str, object] = {}
        self._counts: PeerCounts | None = None
        self._fd = -1
        self._aside = ""
        self._size = 0

    def feed(self, data: bytes) -> None:
        if self._state == _AT_DB:
            self._write(data)
            return
        if self._state == _ENDED:
            return
        self._parts.append(data)
        self._have += len(data)
        while self._have >= self._need and self._state in (_AT_LENGTH, _AT_MESSAGE):
            data = b"".join(self._parts)
            head, rest = data[: self._need], data[self._need :]
            self._parts = [rest]
            self._have = len(rest)
            if self._state == _AT_LENGTH:
                self._read_length(int.from_bytes(head, "big"))
            else:
                self._read_message(head)
        if self._state == _AT_DB and self._parts:
            rest = b"".join(self._parts)
            self._parts = []
            self._write(rest)

    def end(self) -> None:
        if self._state == _AT_DB:
            self._start(self)
        elif self._state != _ENDED:
            self._refuse_message("unexpected EOF" if self._have else "EOF")

    def lost(self) -> None:
        """The sender went away."""
        if self._state == _AT_DB:
            self._fail_db("unexpected EOF")
        self._state = _ENDED

    async def finish(self) -> None:
        """Make the file durable, hand the message to raft, answer."""
        message = self._message
        counts = self._counts
        assert message is not None
        assert message.snapshot is not None
        assert counts is not None
        loop = asyncio.get_running_loop()
        path = self._snapshotter.db_path(message.snapshot.index)
        self._state = _ENDED
        try:
            try:
                # A large file: in a thread, while raft goes on.
                began = self._clock()
                await loop.run_in_executor(None, self._disk.fsync, self._fd)
                self._snapshotter.on_db_fsync(self._clock() - began)
            finally:
                self._close()
            if self._disk.exists(path):
                self._disk.unlink(self._aside)
            else:
                self._disk.rename(self._aside, path)
                self._disk.sync_dir(os.path.dirname(path))
        except OSError as error:
            self._fail_db(error.strerror or str(error))
            return
        except BaseException:
            self._discard()
            raise
        took = self._clock() - self._begun
        self._snapshotter.on_db_save(took)
        log.info("saved database snapshot to disk", extra={"path": path, **self._size_fields("bytes", "size")})
        log.info(
            "received and saved database snapshot",
            extra={
                **self._fields,
                **self._size_fields("incoming-snapshot-size-bytes", "incoming-snapshot-size"),
                "download-took": format_seconds(took),
            },
        )
        counts.bytes_received += self._size
        counts.snapshot_receives_in_flight -= 1
        if not await self._process(message):
            counts.snapshot_receive_failures += 1
            return
        self._answer.respond(204)
        counts.snapshot_receives += 1
        self._observe_s(message.from_, self._clock() - self._begun)

    def _read_length(self, length: int) -> None:
        if length > MESSAGE_BYTES_MAX:
            self._refuse_message("rafthttp: error limit exceeded")
            return
        self._need = length
        self._state = _AT_MESSAGE

    def _read_message(self, data: bytes) -> None:
        try:
            message = decode_message(data)
        except (WireError, RecursionError) as error:
            self._refuse_message(str(error))
            return
        sender = format_id(message.from_)
        counts = self._counts_of(message.from_)
        counts.bytes_received += len(data)
        self._fields = {"local-member-id": format_id(self._local_id), "remote-snapshot-sender-id": sender}
        if message.type != MSG_SNAP:
            kind = MESSAGE_NAMES[message.type] if message.type < len(MESSAGE_NAMES) else str(message.type)
            log.warning("unexpected Raft message type", extra={**self._fields, "message-type": kind})
            counts.snapshot_receive_failures += 1
            self._state = _ENDED
            self._answer.fail(400, "wrong raft message type")
            return
        if message.snapshot is None:
            message.snapshot = Snapshot()
        index = message.snapshot.index
        self._fields["incoming-snapshot-index"] = index
        log.info(
            "receiving database snapshot",
            extra={
                **self._fields,
                "incoming-snapshot-message-size-bytes": len(data),
                "incoming-snapshot-message-size": human_bytes(len(data)),
            },
        )
        self._message = message
        self._counts = counts
        counts.snapshot_receives_in_flight += 1
        self._state = _AT_DB
        # As `Snapshotter.clean_up` looks for after a crash.
        self._aside = os.path.join(self._snapshotter.path, f"tmp-{index:016x}-{next(_NUMBERS)}")
        try:
            self._fd = self._disk.open(self._aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            self._fail_db(error.strerror or str(error))

    def _write(self, data: bytes) -> None:
        try:
            written = 0
            while written < len(data):
                written += self._disk.write(self._fd, data[written:] if written else data)
        except OSError as error:
            self._fail_db(error.strerror or str(error))
            return
        self._size += len(data)

    def _refuse_message(self, problem: str) -> None:
        sender = "0"
        log.warning(
            "failed to decode Raft message",
            extra={
                "local-member-id": format_id(self._local_id),
                "remote-snapshot-sender-id": sender,
                "error": problem,
            },
        )
        self._state = _ENDED
        self._parts = []
        self._answer.fail(400, f"failed to decode raft message ({problem})")

    def _fail_db(self, problem: str) -> None:
        self._state = _ENDED
        self._discard()
        counts = self._counts
        assert counts is not None
        counts.snapshot_receives_in_flight -= 1
        counts.snapshot_receive_failures += 1
        log.warning("failed to save incoming database snapshot", extra={**self._fields, "error": problem})
        self._answer.fail(500, f"failed to save KV snapshot ({problem})")

    def _close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._disk.close(fd)

    def _discard(self) -> None:
        try:
            self._close()
            self._disk.unlink(self._aside)
        except OSError:
            pass

    def _size_fields(self, bytes_name: str, text_name: str) -> dict[str, object]:
        return {bytes_name: self._size, text_name: human_bytes(self._size)}
