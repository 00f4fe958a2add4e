"""What other members' raft asks of the peer port: /raft, its streams, its snapshots, and whether anybody is there.

Source: etcd rafthttp http.go, xiang90/probing server.go.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from balsad.config.versions import ETCD_VERSION
from balsad.errors import RequestError
from balsad.membership import format_id, parse_id
from balsad.observe.logs import get_logger
from balsad.peer.exchange import BodyReader, PeerAnswer, PeerRequest, Route
from balsad.peer.greeting import (
    CLUSTER_ID,
    RAFT_TO,
    SERVER_VERSION,
    BadGreetingError,
    Refusal,
    check_greeting,
    sender_of,
)
from balsad.peer.snapshot_receiver import SnapshotReceiver
from balsad.peer.stream_kind import MESSAGE, MSGAPP
from balsad.raft.codec import decode_message
from balsad.raft.messages import Message
from balsad.wire import WireError

if TYPE_CHECKING:
    from balsad.env import Disk
    from balsad.peer.transport import PeerTransport
    from balsad.storage import Snapshotter

log = get_logger(__name__)

POST_BYTES_MAX: Final = 64 << 20
"""The largest message that is taken outside of the streams."""

_KINDS: Final = {kind.path: kind for kind in (MSGAPP, MESSAGE)}


class RaftPages:
    """The handlers under /raft."""

    def __init__(self, transport: PeerTransport, *, disk: Disk, snapshotter: Snapshotter) -> None:
        self._transport = transport
        self._identity = transport.identity
        self._disk = disk
        self._snapshotter = snapshotter

    def routes(self) -> dict[str, Route]:
        """By path; those that end in a slash are for all below it."""
        return {
            "/raft": Route(self._post, body_bytes_max=POST_BYTES_MAX),
            "/raft/stream/": Route(self._stream),
            "/raft/snapshot": Route(begin=self._snapshot),
            "/raft/probing": Route(self._probe),
        }

    # One message.

    def _post(self, request: PeerRequest, body: bytes, answer: PeerAnswer) -> None:
        if not answer.allows(request, "POST"):
            return
        answer.headers[CLUSTER_ID] = self._identity.cluster_id_text
        if not self._greets_well(request, answer):
            return
        self._meet(request)
        fields = {"local-member-id": self._identity.member_id_text}
        try:
            message = decode_message(body)
        except (WireError, RecursionError) as error:
            log.warning("failed to unmarshal Raft message", extra={**fields, "error": error})
            self._transport.count_receive_failure(request.remote_address)
            answer.fail(400, "error unmarshalling raft message")
            return
        self._transport.counts_of(message.from_).bytes_received += len(body)
        if self._process(message, answer, "error processing raft message"):
            answer.respond(204)

    # Streams.

    def _stream(self, request: PeerRequest, _body: bytes, answer: PeerAnswer) -> None:
        if not answer.allows(request, "GET"):
            return
        identity = self._identity
        answer.headers[SERVER_VERSION] = ETCD_VERSION
        answer.headers[CLUSTER_ID] = identity.cluster_id_text
        if not self._greets_well(request, answer):
            return
        folder, _, name = request.path.rpartition("/")
        kind = _KINDS.get(folder)
        fields = {"local-member-id": identity.member_id_text, "remote-peer-id-stream-handler": identity.member_id_text}
        if kind is None:
            log.debug("ignored unexpected streaming request path", extra={**fields, "path": request.path})
            answer.fail(404, "invalid path")
            return
        try:
            sender = parse_id(name)
        except ValueError as error:
            log.warning("failed to parse path into ID", extra={**fields, "path": name, "error": error})
            answer.fail(404, "invalid from")
            return
        fields["remote-peer-id-from"] = format_id(sender)
        if self._transport.is_removed(sender):
            log.warning("rejected stream from remote peer because it was removed", extra=fields)
            answer.fail(410, "removed member")
            return
        if not self._transport.has_peer(sender):
            # It may have joined after what this member knows of the cluster: learn where it is, to catch up.
            urls = request.headers.get("x-peerurls", "")
            if urls:
                self._transport.add_remote(sender, urls.split(","))
            fields["cluster-id"] = identity.cluster_id_text
            log.warning("failed to find remote peer in cluster", extra=fields)
            answer.fail(404, "error sender not found")
            return
        meant = request.headers.get(RAFT_TO.lower(), "")
        if meant != identity.member_id_text:
            fields["remote-peer-id-header"] = meant
            fields["cluster-id"] = identity.cluster_id_text
            log.warning("ignored streaming request; ID mismatch", extra=fields)
            answer.fail(412, "to field mismatch")
            return
        stream = answer.start_stream()
        if stream is not None:
            self._transport.attach(sender, kind, stream)

    # A database.

    def _snapshot(self, request: PeerRequest, answer: PeerAnswer) -> BodyReader | None:
        if not answer.allows(request, "POST"):
            return None
        answer.headers[CLUSTER_ID] = self._identity.cluster_id_text
        if not self._greets_well(request, answer):
            return None
        self._meet(request)
        transport = self._transport
        return SnapshotReceiver(
            answer=answer,
            local_id=self._identity.member_id,
            disk=self._disk,
            snapshotter=self._snapshotter,
            counts_of=transport.counts_of,
            process=lambda message: self._take_in(message, answer),
            start=lambda receiver: transport.errands.start(receiver.finish(), "received snapshot"),
            observe_s=transport.observe_snapshot_receive,
            clock=transport.clock.monotonic,
        )

    # All of them.

    async def _take_in(self, message: Message, answer: PeerAnswer) -> bool:
        """Hand a snapshot whose database is there to the member; when that goes wrong it is answered here."""
        if self._is_from_removed(message, answer):
            return False
        heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def answered(problem: str) -> None:
            if not heard.done():
                heard.set_result(problem)

        self._transport.deliver_snapshot(message, answered)
        problem = await heard
        if problem:
            self._fail_to_process(answer, f"failed to process raft message ({problem})", problem)
        return not problem

    def _process(self, message: Message, answer: PeerAnswer, wording: str) -> bool:
        """Hand a message to raft; when that goes wrong it is answered here."""
        if self._is_from_removed(message, answer):
            return False
        if not self._transport.is_welcome(message):
            return True  # taken, like etcd does, and forgotten
        try:
            self._transport.deliver([message])
        except RequestError as error:
            self._fail_to_process(answer, wording.format(error.text), error.text)
            return False
        return True

    def _is_from_removed(self, message: Message, answer: PeerAnswer) -> bool:
        is_removed = self._transport.is_removed(message.from_)
        if is_removed:
            fields = {
                "local-member-id": self._identity.member_id_text,
                "removed-member-id": format_id(message.from_),
            }
            log.warning("rejected Raft message from removed member", extra=fields)
            answer.fail_as_json(403, "cannot process message from removed member")
        return is_removed

    def _fail_to_process(self, answer: PeerAnswer, text: str, problem: str) -> None:
        fields = {"local-member-id": self._identity.member_id_text, "error": problem}
        log.warning("failed to process Raft message", extra=fields)
        # The sender shall not believe that this member is well.
        answer.keep = False
        answer.fail(500, text)

    def _greets_well(self, request: PeerRequest, answer: PeerAnswer) -> bool:
        try:
            check_greeting(self._identity, request.headers)
        except Refusal as refusal:
            answer.fail(refusal.status, refusal.text)
        except BadGreetingError:
            answer.break_off()
        else:
            return True
        return False

    def _meet(self, request: PeerRequest) -> None:
        """Learn where the sender can be reached."""
        sender = sender_of(request.headers)
        if sender is not None:
            self._transport.add_remote(*sender)

    def _probe(self, _request: PeerRequest, _body: bytes, answer: PeerAnswer) -> None:
        now = go_time(int(self._transport.clock.time() * 1e9))
        answer.respond(200, b'{"OK":true,"Now":"%b"}\n' % now.encode())


def go_time(unix_ns: int) -> str:
    """A moment as Go's JSON has it, in UTC: `2026-11-22T10:42:25.476945921Z`."""
    seconds, nanoseconds = divmod(unix_ns, 1_000_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    fraction = f"{nanoseconds:09d}".rstrip("0")
    return f"{text}.{fraction}Z" if fraction else f"{text}Z"
