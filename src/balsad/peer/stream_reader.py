"""The receiver's end of a stream: dials the other member and reads what it writes, for as long as both live.

    wait ──(100 ms since the last try)──> dial ──200──> read ──(end, silence, nonsense)──> wait
      <──────────(refused, nobody there)───┘

Source: etcd rafthttp stream.go (streamReader).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from balsad.membership import format_id
from balsad.observe.logs import get_logger
from balsad.peer.codec import AppDecoder, FrameError, MessageDecoder
from balsad.peer.greeting import (
    CLUSTER_ID_MISMATCH,
    INCOMPATIBLE_VERSION,
    BadGreetingError,
    Identity,
    speaks_streams,
)
from balsad.peer.http_answer import AnswerReader, BrokenAnswerError
from balsad.peer.http_client import Dialer, DialError, dial_error, go_error, keep_alive, request_head
from balsad.peer.stream_kind import MSGAPP, StreamKind
from balsad.raft.messages import Message

if TYPE_CHECKING:
    from balsad.config import Url
    from balsad.peer.counts import PeerCounts
    from balsad.peer.status import PeerStatus
    from balsad.peer.url_picker import UrlPicker

log = get_logger(__name__)

REDIAL_S: Final = 0.1
SILENCE_S_MAX: Final = 5.0
REFUSAL_BYTES_MAX: Final = 64 << 10

REMOVED: Final = "the member has been permanently removed from the cluster"
UNSUPPORTED: Final = "unsupported stream type"


class StreamRefusedError(Exception):
    """The other member does not open the stream."""


class _Incoming(asyncio.Protocol):
    """One connection: the answer's head, then frames in chunks."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        request: bytes,
        decoder: MessageDecoder | AppDecoder,
        deliver: Callable[[list[Message], int], None],
        check: Callable[[asyncio.BaseTransport], None],
    ) -> None:
        self._loop = loop
        self._check = check
        self._request = request
        self._decoder = decoder
        self._deliver = deliver
        self._transport: Any = None
        self._answer = AnswerReader()
        self._refusal = b""
        self._is_open = False
        self._is_closed = False
        self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.opened: asyncio.Future[AnswerReader] = loop.create_future()
        self.ended: asyncio.Future[str] = loop.create_future()
        """Why it ended; nothing for an end in order."""

    @property
    def refusal(self) -> str:
        return self._refusal.decode("utf-8", "replace").removesuffix("\n")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        try:
            self._check(transport)
        except DialError as error:
            self.close(str(error))
            return
        keep_alive(transport)
        self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(SILENCE_S_MAX, self._check_silence)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._is_closed:
            return
        self._heard_at = self._loop.time()
        try:
            body = self._answer.feed(data)
            if not self._is_open:
                body = self._read_head(body)
            if body:
                messages = self._decoder.feed(body)
                if self._is_open:
                    self._deliver(messages, len(body))
            if self._answer.is_complete:
                self.close("")
        except (BrokenAnswerError, FrameError) as error:
            self.close(str(error))

    def eof_received(self) -> bool:
        try:
            self._answer.feed_eof()
        except BrokenAnswerError as error:
            self.close(str(error))
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.close("" if error is None else f"read: {go_error(error)}")

    def close(self, why: str) -> None:
        """End it, once."""
        if self._is_closed:
            return
        self._is_closed = True
        if not self.ended.done():  # whoever waits may have been cancelled, and the future with it
            self.ended.set_result(why)
        if not self.opened.done():
            self.opened.set_exception(DialError(why or "EOF"))
            self.opened.exception()  # whoever wants it still gets it
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _read_head(self, body: bytes) -> bytes:
        """Tell of the answer's head; gives what of the body belongs to frames."""
        answer = self._answer
        if not answer.status:
            return b""
        if answer.status == 200:
            self._is_open = True
            self._tell(answer)
            return body
        self._refusal = (self._refusal + body)[:REFUSAL_BYTES_MAX]
        if answer.is_complete or len(self._refusal) == REFUSAL_BYTES_MAX:
            self._tell(answer)
        return b""

    def _tell(self, answer: AnswerReader) -> None:
        if not self.opened.done():
            self.opened.set_result(answer)

    def _check_silence(self) -> None:
        left = self._heard_at + SILENCE_S_MAX - self._loop.time()
        if left <= 0:
            self.close("read: i/o timeout")
        else:
            self._timer = self._loop.call_later(left, self._check_silence)


class StreamReader:
    """One of the two streams from one member. `run` ends when it is cancelled."""

    def __init__(
        self,
        kind: StreamKind,
        *,
        peer_id: int,
        identity: Identity,
        dialer: Dialer,
        picker: UrlPicker,
        status: PeerStatus,
        counts: PeerCounts,
        deliver: Callable[[list[Message]], None],
        on_removed: Callable[[], None],
        on_dialled: Callable[[Url, bool], None],
    ) -> None:
        """`on_dialled` hears of every try, and whether it was refused."""
        self.is_open = False
        self._on_dialled = on_dialled
        self._kind = kind
        self._peer_id = peer_id
        self._identity = identity
        self._dialer = dialer
        self._picker = picker
        self._status = status
        self._counts = counts
        self._deliver_on = deliver
        self._on_removed = on_removed
        self._headers = identity.stream_headers(peer_id)
        self._fields: dict[str, object] = {
            "stream-reader-type": kind.name,
            "local-member-id": identity.member_id_text,
            "remote-peer-id": format_id(peer_id),
        }

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        log.info("started stream reader with remote peer", extra=self._fields)
        try:
            while True:
                begun = loop.time()
                await self._dial_and_read(loop)
                await asyncio.sleep(max(0.0, begun + REDIAL_S - loop.time()))
        finally:
            log.info("stopped stream reader with remote peer", extra=self._fields)

    async def _dial_and_read(self, loop: asyncio.AbstractEventLoop) -> None:
        url = self._picker.pick()
        try:
            incoming = await self._dial(loop, url)
        except (DialError, StreamRefusedError) as error:
            self._picker.unreachable(url)
            if str(error) != UNSUPPORTED:
                self._status.deactivate(self._kind.name, "dial", str(error))
            self._on_dialled(url, isinstance(error, DialError) and error.is_refused)
            return
        self._on_dialled(url, False)
        self.is_open = True
        try:
            why = await incoming.ended
        finally:
            self.is_open = False
            incoming.close("")
        log.warning("lost TCP streaming connection with remote peer", extra={**self._fields, "error": why or "EOF"})
        if why:
            self._status.deactivate(self._kind.name, "read", why)

    async def _dial(self, loop: asyncio.AbstractEventLoop, url: Url) -> _Incoming:
        """An open stream. Raises: DialError, StreamRefusedError."""
        path = f"{self._kind.path}/{self._identity.member_id_text}"
        request = request_head("GET", path, url.address, self._headers, 0)
        decoder = AppDecoder(self._identity.member_id, self._peer_id) if self._kind is MSGAPP else MessageDecoder()
        incoming = _Incoming(loop, request, decoder, self._deliver, self._dialer.check)
        arguments = self._dialer.arguments(url)
        log.debug(
            "dial stream reader",
            extra={
                "from": self._identity.member_id_text,
                "to": self._fields["remote-peer-id"],
                "address": f"{url}{path}",
            },
        )
        try:
            try:
                async with asyncio.timeout(self._dialer.timeout_s):
                    if url.is_unix:
                        await loop.create_unix_connection(lambda: incoming, url.address, **arguments)
                    else:
                        await loop.create_connection(lambda: incoming, url.host, url.port_number, **arguments)
            except OSError as error:
                raise dial_error(url, error) from error
            answer = await incoming.opened
            self._judge(answer, incoming.refusal)
        except BaseException:
            incoming.close("")
            raise
        self._status.activate()
        log.info("established TCP streaming connection with remote peer", extra=self._fields)
        return incoming

    def _judge(self, answer: AnswerReader, text: str) -> None:
        """Whether the stream is open. Raises: StreamRefusedError."""
        try:
            if not speaks_streams(answer.headers):
                raise StreamRefusedError(UNSUPPORTED)
        except BadGreetingError as error:
            raise StreamRefusedError(str(error)) from error
        status = answer.status
        if status == 200:
            return
        if status == 410:
            self._on_removed()
            raise StreamRefusedError(REMOVED)
        if status == 404:
            raise StreamRefusedError(
                f"peer {format_id(self._peer_id)} failed to find local node {self._identity.member_id_text}"
            )
        if status != 412:
            raise StreamRefusedError(f"unhandled http status {status}")
        if text == INCOMPATIBLE_VERSION:
            log.warning(
                "request sent was ignored by remote peer due to server version incompatibility",
                extra={
                    "local-member-id": self._identity.member_id_text,
                    "remote-peer-id": self._fields["remote-peer-id"],
                    "error": text,
                },
            )
        elif text == CLUSTER_ID_MISMATCH:
            log.warning(
                "request sent was ignored by remote peer due to cluster ID mismatch",
                extra={
                    "remote-peer-id": self._fields["remote-peer-id"],
                    "remote-peer-cluster-id": answer.headers.get("x-etcd-cluster-id", ""),
                    "local-member-id": self._identity.member_id_text,
                    "local-member-cluster-id": self._identity.cluster_id_text,
                    "error": text,
                },
            )
        else:
            text = f'unhandled error "{text}" when precondition failed'
        raise StreamRefusedError(text)

    def _deliver(self, messages: list[Message], size: int) -> None:
        self._counts.bytes_received += size
        if messages:
            self._deliver_on(messages)
