"""A client's machine: its calls to members, each over a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from balsad.errors import AuthOldRevisionError, InvalidAuthTokenError, UserEmptyError
from balsad.proto import rpc_pb2
from balsad.sim.loop import Process
from balsad.sim.rpc import LOST, OK, REFUSED, Answers, Front, SimCall

if TYPE_CHECKING:
    from balsad.sim.loop import Timeline
    from balsad.sim.network import Network

BROKEN_AFTER_S: Final = 1.0
"""How long it takes to notice that a connection does not work any more."""
_WHO: Final = frozenset(
    (
        UserEmptyError.message,
        InvalidAuthTokenError.message,
        AuthOldRevisionError.message,
        # In the words of the Maintenance service.
        "auth: user name is empty",
        "auth: invalid auth token",
    )
)
"""What members say that want to know, perhaps once more, who asks."""


class Answer(NamedTuple):
    code: int  # gRPC's, or LOST, or REFUSED
    text: str
    message: bytes


class Target(Protocol):
    """A machine that serves clients now and then."""

    name: str
    front: Front | None


class Connection:
    """One call's way there and back."""

    def __init__(self, client: Client, target: Target, answers: Answers) -> None:
        self._client = client
        self._target = target
        self._answers = answers
        self._call: SimCall | None = None
        self._front: Front | None = None
        self._arrives_last = 0.0
        self._is_broken = False
        self.is_over = False

    # To the member.

    def open(self, path: str, message: bytes, token: bytes) -> None:
        self._go(lambda: self._begin(path, message, token))

    def send(self, message: bytes) -> None:
        self._go(lambda: self._at_member(lambda call: call.on_message(message)))

    def close_sending(self) -> None:
        self._go(lambda: self._at_member(lambda call: call.on_half_close()))

    def stop_reading(self) -> None:
        self._go(lambda: self._at_member(lambda call: call.stop_reading()))

    def read_on(self) -> None:
        self._go(lambda: self._at_member(lambda call: call.read_on()))

    def hang_up(self) -> None:
        """Be done with the call; nothing more is heard of it."""
        self.is_over = True
        self._go(lambda: self._at_member(lambda call: call.hang_up()))

    def _go(self, action: Callable[[], None]) -> None:
        client, network = self._client, self._client.network
        if self._is_broken or network.is_lost(client.name, self._target.name):
            self._break()
            return
        now = client.process.now
        self._arrives_last = max(self._arrives_last, now + network.delay())
        client.timeline.at(self._arrives_last, action)

    def _begin(self, path: str, message: bytes, token: bytes) -> None:
        """At the member's machine."""
        front = self._target.front
        if front is None or front.process.is_dead:
            self._end_later(self._client.network.delay(), REFUSED, "connection refused")
            return
        self._front = front

        def opened(call: SimCall) -> None:
            self._call = call

        process = front.process
        process.timeline.put(
            process.timeline.now, process, front.begin, (path, message, token, self._answers, self, opened), None
        )

    def _at_member(self, action: Callable[[SimCall], None]) -> None:
        front = self._front
        if front is not None and not front.process.is_dead:
            front.process.timeline.put(front.process.timeline.now, front.process, self._act, (action,), None)

    def _act(self, action: Callable[[SimCall], None]) -> None:
        """In the member's process."""
        call = self._call
        if call is not None and call in call.front.calls:
            action(call)

    # To the client.

    def carry(self, call: SimCall, action: Callable[[], None]) -> None:
        process = call.front.process
        if process.is_dead:
            return
        client, network = self._client, self._client.network
        if self._is_broken or network.is_lost(self._target.name, client.name):
            self._break()
            return
        call.arrives_last = max(call.arrives_last, process.now + network.delay())
        client.timeline.put(call.arrives_last, client.process, self._hear, (action,), None)

    def _hear(self, action: Callable[[], None]) -> None:
        if not self.is_over:
            action()

    def break_off(self) -> None:
        """The member's process is no more."""
        call = self._call
        last = 0.0 if call is None else call.arrives_last
        network = self._client.network
        if network.reaches(self._target.name, self._client.name):
            self._end_later(max(0.0, last - self._client.timeline.now) + network.delay(), LOST, "connection lost")
        else:
            self._break()

    def _break(self) -> None:
        """A packet was lost, so nothing after it arrives either; sooner or later both sides notice."""
        if self._is_broken:
            return
        self._is_broken = True
        self._end_later(BROKEN_AFTER_S, LOST, "connection lost")
        self._client.timeline.at(self._client.process.now + BROKEN_AFTER_S, self._at_member, _hang_up)

    def _end_later(self, seconds: float, code: int, text: str) -> None:
        client = self._client
        client.timeline.put(client.timeline.now + seconds, client.process, self._end, (code, text), None)

    def _end(self, code: int, text: str) -> None:
        if not self.is_over:
            self.is_over = True
            self._answers.on_end(code, text)


def _hang_up(call: SimCall) -> None:
    call.hang_up()


class _Unary:
    """Waits for the one answer."""

    def __init__(self, future: asyncio.Future[Answer]) -> None:
        self._future = future
        self._message = b""

    def on_message(self, message: bytes) -> None:
        self._message = message

    def on_end(self, code: int, text: str) -> None:
        if not self._future.done():
            self._future.set_result(Answer(code, text, self._message))


class Client:
    """Asks members; a process of its own, with the world's clock."""

    def __init__(self, name: str, timeline: Timeline, network: Network) -> None:
        self.name = name
        self.timeline = timeline
        self.network = network
        self.process = Process(timeline, name)
        self.user = ("", "")  # name and password, should a member ask
        self.token = b""

    @property
    def now(self) -> float:
        return self.process.now

    async def ask(self, target: Target, path: str, message: bytes, timeout_s: float) -> Answer:
        """Make a unary call."""
        return await self._call(target, path, message, timeout_s, False)

    async def converse(self, target: Target, path: str, message: bytes, timeout_s: float) -> Answer:
        """Send one message on a stream, and say no more: the last message that came back."""
        return await self._call(target, path, message, timeout_s, True)

    async def _call(self, target: Target, path: str, message: bytes, timeout_s: float, is_stream: bool) -> Answer:
        """Once more if the member wants to know who asks; it has done nothing then."""
        answer = await self._call_once(target, path, message, timeout_s, is_stream)
        if self.user[0] and answer.text in _WHO and await self.log_in(target, timeout_s):
            return await self._call_once(target, path, message, timeout_s, is_stream)
        return answer

    async def log_in(self, target: Target, timeout_s: float) -> bool:
        """Get a token for the user that this client is."""
        name, password = self.user
        request = rpc_pb2.AuthenticateRequest(name=name, password=password).SerializeToString()
        self.token = b""
        answer = await self._call_once(target, "/etcdserverpb.Auth/Authenticate", request, timeout_s, False)
        if answer.code != OK:
            return False
        self.token = rpc_pb2.AuthenticateResponse.FromString(answer.message).token.encode()
        return True

    async def _call_once(self, target: Target, path: str, message: bytes, timeout_s: float, is_stream: bool) -> Answer:
        future: asyncio.Future[Answer] = self.process.create_future()
        connection = Connection(self, target, _Unary(future))
        connection.open(path, message, self.token)
        if is_stream:
            connection.close_sending()

        def give_up() -> None:
            if not future.done():
                connection.hang_up()
                future.set_result(Answer(LOST, "deadline exceeded", b""))

        timer = self.process.call_later(timeout_s, give_up)
        answer = await future
        timer.cancel()
        connection.is_over = True
        return answer

    def stream(self, target: Target, path: str, message: bytes, answers: Answers) -> Connection:
        connection = Connection(self, target, answers)
        connection.open(path, message, self.token)
        return connection

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
