"""A whole member, and clients that ask it for anything: calls of all its gRPC methods, requests for all its pages.

Each input is a history: a member is founded for it on a disk in memory, hears it from one client, and is gone. Nothing
may fail in it, every call that does not wait by its nature gets an answer, another client is served afterwards, and
who is started on the same files finds what it had: no request means one thing live and another in a replay.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

from google.protobuf.message import Message

from balsad.api.gateway.jsonpb import render
from balsad.api.gateway.routes import ROUTES
from balsad.errors import Code
from balsad.main import _mount
from balsad.proto import rpc_pb2 as rpc
from balsad.storage import schema
from balsad.transport import RpcServer
from balsad.v2store import V2Error, encode_event
from tests.fuzz.codec_targets import filled
from tests.fuzz.engine import Target
from tests.unit.server.server_kit import Running, config_of
from tests.unit.storage.bolt_disks import MappingDisk
from tests.unit.transport.wire_kit import DATA, END_STREAM, Answer, RawClient, RawHttp1, frame, message

_FOLDER: Final = "/node"
_CONFIG: Final[dict[str, Any]] = {"bcrypt_cost": 4, "enable_v2": True}
_ANSWER_S: Final = 60.0
_OPEN: Final = 0x80
"""With the number of a streaming method: more is said on this stream."""
_GROWN: Final = 0x40
"""With a method's number: the bytes are no message, but say how one grows."""

_METHODS: Final = {route.method: route for route in ROUTES.values()}
_NAMES: Final = sorted(_METHODS)
_MAY_WAIT: Final = ("/v3lockpb.Lock/Lock", "/v3electionpb.Election/Campaign")
_BUCKETS: Final = (schema.LEASE, schema.ALARM, schema.AUTH, schema.AUTH_USERS, schema.AUTH_ROLES)


class House:
    """A member and its API, without sockets, on a loop that turns when it is told to."""

    def __init__(self, disk: MappingDisk, folder: str = _FOLDER) -> None:
        """Raises: StartError, StorageError."""
        self.disk = disk
        self.folder = folder
        self.loop = asyncio.new_event_loop()
        self.complaints: list[str] = []
        self.loop.set_exception_handler(self._complain)
        self.loop.run_until_complete(self._found())

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.complaints.append(repr(context.get("exception") or context["message"]))

    async def _found(self) -> None:
        self.life = Running(config_of(self.folder, **_CONFIG), self.disk, None)
        self.member = self.life.member
        self.server = RpcServer(scheduler=self.loop)
        links: Any = SimpleNamespace(append_counts=lambda: (0, 0))
        _mount(self.member, self.server, self.server, RpcServer(scheduler=self.loop), links)
        self.life.start()

    def turn(self, event: Callable[[], Any] | None = None) -> None:
        """One turn of the loop, which brings this."""
        if event is not None:
            self.loop.call_soon(event)
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def turn_until(self, is_done: Any) -> bool:
        give_up = time.monotonic() + _ANSWER_S
        turns = 0
        while not is_done():
            if self.life.failures or self.complaints or time.monotonic() > give_up:
                return bool(is_done())
            turns += 1
            if turns > 50:
                time.sleep(0.001)  # threads are at work: a password, a backup
            self.turn()
        return True

    def is_well(self) -> None:
        assert not self.life.failures, self.life.failures
        assert not self.complaints, self.complaints

    @property
    def is_alone(self) -> bool:
        """Whether it needs nobody else, so that all that is asked comes to an end."""
        return bool(self.member.applier.conf_state.voters == (self.member.service.member_id,))

    @property
    def toy(self) -> Any:
        """As a RawClient wants it."""
        return SimpleNamespace(server=self.server, loop=self)

    def contents(self) -> dict[str, Any]:
        """What must outlive a restart."""
        store, tree = self.member.store, self.member.v2.tree
        backend = self.member.booted.backend
        try:
            v2: Any = encode_event(tree.get("/1", recursive=True, in_order=True))
        except V2Error as error:
            v2 = error.code
        return {
            "revisions": (store.current_revision, store.compact_revision),
            "keys": store.range(b"\0", b"\0").kvs,
            "v2": v2,
            **{bucket.decode(): backend.scan(bucket, b"", None) for bucket in _BUCKETS},
            "members": sorted(one.id for one in self.member.service.members()),
        }

    def close(self) -> None:
        self.loop.run_until_complete(self.member.abandon())
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.turn()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


class Caller(RawClient):
    """Its bytes come in a turn of the house's loop."""

    def __init__(self, house: House) -> None:
        super().__init__(house.toy)
        self.house = house
        self.open()

    def send(self, data: bytes) -> Caller:
        if not self.sink.over:
            self.house.turn(lambda: self.connection.data_received(data))
        return self

    def leave(self) -> None:
        self.house.turn(lambda: self.connection.connection_lost(None))


class Visitor(RawHttp1):
    def __init__(self, house: House, data: bytes) -> None:
        super().__init__(house.toy, secure=False)
        house.turn(lambda: self.connection.data_received(data))

        self.house = house

    def leave(self) -> None:
        self.house.turn(lambda: self.connection.connection_lost(None))


@contextlib.contextmanager
def _house(disk: MappingDisk) -> Iterator[House]:
    house = House(disk)
    try:
        assert house.turn_until(lambda: house.life.ready), "it did not start"
        yield house
    finally:
        house.close()


def _played(play: Callable[[House], list[str]]) -> str:
    """A member's life, how the others fared after it, and what another finds on its disk."""
    disk = MappingDisk()
    disk.makedirs(_FOLDER)
    disk.sync_dir("/")
    with _house(disk) as house:
        outcomes = play(house)
        house.is_well()
        is_whole = house.is_alone
        if is_whole:
            other = Caller(house)
            asked = other.call("/etcdserverpb.KV/Put", rpc.PutRequest(key=b"other").SerializeToString())
            assert house.turn_until(lambda: is_answered(other, asked)), "another client is not answered"
            # Compactions and the like come to their end.
            house.turn_until(lambda: not house.member.store.compactions)
            house.is_well()
            found = house.contents()
    if is_whole:
        with _house(disk) as again:
            again.turn_until(lambda: not again.member.store.compactions)
            again.is_well()
            after = again.contents()
            assert after == found, {name: (found[name], after[name]) for name in found if found[name] != after[name]}
    refused = all(outcome.startswith("refused") for outcome in outcomes)
    return f"{'refused: ' if refused else ''}{' '.join(outcomes[:3])}"


_NUMBERS: Final = (0, 1, 2, 3, 7, -1, 60, 1000, (1 << 31) - 1, 1 << 31, 1 << 62, (1 << 63) - 1, -(1 << 63))
_BYTES: Final = (b"", b"a", b"b", b"\0", b"a\0", b"ab", b"z", b"\xff\xff", b"k" * 300, b"v" * 5000, b"other", b"n/7")
_TEXTS: Final = (
    "",
    "root",
    "a",
    "r",
    "p",
    "\0",
    "\u20ac",
    "http://127.0.0.1:9",
    "http://",
    "x" * 80,
    "3.5.0",
    "1",
    "/",
)


def _grow(message: Message, data: bytes, at: int = 0, depth: int = 0) -> int:
    """Fill a message as the bytes say: which field, and which of the values that are worth a try. Where it ended."""
    fields = message.DESCRIPTOR.fields
    while at + 1 < len(data) and fields:
        which, choice = data[at], data[at + 1]
        at += 2
        if which == 255 and depth:
            break
        field = fields[which % len(fields)]
        if field.message_type is not None:
            if depth < 5:
                inner = getattr(message, field.name)
                if field.is_repeated:
                    if len(inner) > 150:
                        continue
                    inner = inner.add()
                else:
                    inner.SetInParent()
                at = _grow(inner, data, at, depth + 1)
            continue
        value: Any = _NUMBERS[choice % len(_NUMBERS)]
        if field.cpp_type == field.CPPTYPE_STRING:
            value = _BYTES[choice % len(_BYTES)] if field.type == field.TYPE_BYTES else _TEXTS[choice % len(_TEXTS)]
        elif field.cpp_type == field.CPPTYPE_BOOL:
            value = bool(choice & 1)
        elif field.cpp_type == field.CPPTYPE_ENUM:
            value = choice % 6
        elif field.cpp_type == field.CPPTYPE_UINT64:
            value %= 1 << 64
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    return at


def _calls(data: bytes) -> Iterator[tuple[int, bytes]]:
    """A method's number, two bytes of length, and the message; over and over."""
    at = 0
    for _ in range(12):
        if at >= len(data):
            return
        size = int.from_bytes(data[at + 1 : at + 3], "big")
        yield data[at], data[at + 3 : at + 3 + size]
        at += 3 + size


def _check_calls(data: bytes) -> str:
    def play(house: House) -> list[str]:
        client = Caller(house)
        streams: dict[str, int] = {}
        unary: dict[int, str] = {}
        watches: list[int] = []
        token: tuple[tuple[str, str], ...] = ()
        for number, body in _calls(data):
            name = _NAMES[(number & 0x3F) % len(_NAMES)]
            route = _METHODS[name]
            if number & _GROWN:
                grown = route.request()
                _grow(grown, body)
                body = grown.SerializeToString()
            if not route.has_many_requests and not route.has_many_answers:
                asked = client.call(name, body, extra=token)
                unary[asked] = name
                if name.endswith("Authenticate"):
                    # What it asks from now on it asks as whom it says it is.
                    house.turn_until(partial(is_answered, client, asked))
                    for told in client.answers.get(asked, Answer()).messages:
                        token = (("token", rpc.AuthenticateResponse.FromString(told).token),)
            elif name in streams:
                client.send(frame(DATA, 0 if number & _OPEN else END_STREAM, streams[name], message(body)))
                if not number & _OPEN:
                    del streams[name]
            else:
                stream_id = client.call(name, body, end=not number & _OPEN, extra=token)
                if name.endswith("/Watch"):
                    watches.append(stream_id)
                if number & _OPEN:
                    streams[name] = stream_id

        def all_answered() -> bool:
            answers = client.answers
            return all(answers.get(each, Answer()).ended for each, name in unary.items() if name not in _MAY_WAIT)

        answered = house.turn_until(lambda: not house.is_alone or all_answered())
        assert answered or client.sink.over, [name for each, name in unary.items() if each not in client.answers]
        assert client.goaway is None, client.goaway
        found = []
        for each, name in unary.items():
            answer = client.answers.get(each, Answer())
            if answer.ended:
                status = answer.status
                found.append(f"{'refused' if status else 'done'} {Code(status).name} by {name.rpartition('/')[2]}")
        hub = house.member.store.watchers
        for _ in range(50):
            # What is done every tenth of a second.
            if hub.wants_sync:
                house.turn(hub.sync_step)
        house.turn()
        for each in watches:
            _judge_watch([rpc.WatchResponse.FromString(told) for told in client.answers.get(each, Answer()).messages])
        client.leave()
        return found

    return _played(play)


def is_answered(client: RawClient, stream_id: int) -> bool:
    return stream_id in client.answers and client.answers[stream_id].ended


def _judge_watch(answers: list[rpc.WatchResponse]) -> None:
    """Each watcher is told of a key's change once, and of none after a later one."""
    told: dict[int, list[tuple[int, bytes]]] = {}
    for answer in answers:
        if answer.created:
            told[answer.watch_id] = []
        for event in answer.events:
            changes = told[answer.watch_id]
            change = (event.kv.mod_revision, event.kv.key)
            assert change not in changes, f"told twice: {change}"
            assert not changes or changes[-1][0] <= change[0], f"{change} after {changes[-1]}"
            changes.append(change)


def _call(method: str, request: Message, flag: int = 0) -> bytes:
    number = next(at for at, name in enumerate(_NAMES) if name.endswith(method))
    body = request.SerializeToString()
    return bytes((number | flag,)) + len(body).to_bytes(2, "big") + body


def _histories() -> list[bytes]:
    put = rpc.PutRequest(key=b"a", value=b"v")
    txn = rpc.TxnRequest()
    txn.compare.add(key=b"a", target=rpc.Compare.VERSION, result=rpc.Compare.GREATER)
    txn.success.add().request_put.CopyFrom(put)
    txn.success.add().request_range.CopyFrom(rpc.RangeRequest(key=b"a", range_end=b"z"))
    txn.failure.add().request_delete_range.CopyFrom(rpc.DeleteRangeRequest(key=b"a", prev_kv=True))
    nested = rpc.TxnRequest()
    nested.success.add().request_txn.CopyFrom(txn)
    watch = rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"a", range_end=b"\0", start_revision=1))
    cancel = rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=0))
    progress = rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())
    growing = [
        b"".join(bytes((_GROWN | (at + step) % 64, 0, 6, step, 1, step + 1, 2, step + 2, step)) for step in range(8))
        for at in range(0, 64, 2)
    ]
    everything = [_call("/Put", put) + _call(name, filled(_METHODS[name].request())) for name in _NAMES]
    return [
        *everything,
        *(_call("/Put", put) + history for history in growing),
        _call("LeaseGrant", rpc.LeaseGrantRequest(ID=7, TTL=60))
        + _call("/Put", rpc.PutRequest(key=b"a", lease=7))
        + _call("/Txn", txn)
        + _call("/Txn", nested)
        + _call("LeaseKeepAlive", rpc.LeaseKeepAliveRequest(ID=7), _OPEN)
        + _call("LeaseRevoke", rpc.LeaseRevokeRequest(ID=7)),
        _call("/Put", put) * 3
        + _call("/DeleteRange", rpc.DeleteRangeRequest(key=b"a"))
        + _call("/Watch", watch, _OPEN)
        + _call("/Watch", rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"a", prev_kv=True)), _OPEN)
        + _call("/Txn", txn),
        _call("/Put", put) * 3
        + _call("/DeleteRange", rpc.DeleteRangeRequest(key=b"a"))
        + _call("/Watch", watch, _OPEN)
        + _call("/Put", rpc.PutRequest(key=b"a"))
        + _call("/Compact", rpc.CompactionRequest(revision=2, physical=True))
        + _call("/Watch", progress, _OPEN)
        + _call("/Watch", cancel)
        + _call("/Range", rpc.RangeRequest(key=b"\0", range_end=b"\0", limit=1)),
        _call("RoleAdd", rpc.AuthRoleAddRequest(name="root"))
        + _call("UserAdd", rpc.AuthUserAddRequest(name="root", password="p"))
        + _call("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="root", role="root"))
        + _call("AuthEnable", rpc.AuthEnableRequest())
        + _call("Authenticate", rpc.AuthenticateRequest(name="root", password="p"))
        + _call("/Put", rpc.PutRequest(key=b"a")),
        _call("Alarm", rpc.AlarmRequest(action=rpc.AlarmRequest.ACTIVATE, alarm=rpc.NOSPACE))
        + _call("/Put", rpc.PutRequest(key=b"a")),
    ]


# Pages.


def _check_pages(data: bytes) -> str:
    """Requests with bytes of 0 between them: a line with method and path, then the body."""

    def play(house: House) -> list[str]:
        clients = []
        for text in data.split(b"\0")[:8]:
            line, _, body = text.partition(b"\n")
            is_form = line.startswith((b"PUT /v2/keys", b"POST /v2/keys"))
            kind = b"application/x-www-form-urlencoded" if is_form else b"application/json"
            head = b"%b HTTP/1.1\r\nHost: a\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (line, kind, len(body))
            clients.append((line, Visitor(house, head + body)))

        def all_answered() -> bool:
            return all(client.sink.written or client.sink.over for line, client in clients if not _waits(line))

        answered = house.turn_until(lambda: not house.is_alone or all_answered())
        assert answered, [line for line, client in clients if not client.sink.written]
        found = []
        for line, client in clients:
            written = bytes(client.sink.written)
            assert not written or written.startswith(b"HTTP/1."), written[:40]
            page = next((page for page in _PAGES if page in line), b"another").decode()
            code = re.search(rb'"(?:errorCode|code)":(\d+)', written)
            # In letters, as the engine takes numbers for alike.
            told = (written[9:12] + (code[1] if code else b"")).translate(_LETTERS).decode()
            found.append(f"{'' if written[9:10] in (b'1', b'2') else 'refused '}{told} {page}")
            client.leave()
        return found

    return _played(play)


_PAGES: Final = (
    *(b"keys", b"members", b"auth", b"stats", b"machines", b"health", b"metrics", b"version"),
    b"v3",
    b"v2",
)
_LETTERS: Final = bytes.maketrans(b"0123456789", b"abcdefghij")


def _waits(line: bytes) -> bool:
    return any(word in line for word in (b"wait", b"lock/lock", b"campaign", b"watch", b"observe", b"snapshot", b"%"))


def _requests() -> list[bytes]:
    put = b"PUT /v2/keys/a\nvalue=1\0"
    calls = []
    for path, route in sorted(ROUTES.items()):
        body = render(filled(route.request())).encode()
        calls.append(put + f"POST {path}\n".encode() + body)
    user = b'PUT /v2/auth/users/root\n{"user":"root","password":"p","roles":["root"]}\0'
    role = b'PUT /v2/auth/roles/r\n{"role":"r","permissions":{"kv":{"read":["/*"],"write":[]}}}\0'
    member = b'POST /v2/members\n{"peerURLs":["http://127.0.0.1:9"],"name":"x","clientURLs":[]}\0'
    return [
        *calls,
        b"PUT /v2/keys/a?prevExist=false\nvalue=x&ttl=5\0GET /v2/keys/?recursive=true&sorted=true&quorum=true\n",
        b"POST /v2/keys/q\nvalue=1\0PUT /v2/keys/d?dir=true\n\0DELETE /v2/keys/q?recursive=true&dir=true\n",
        put + b"PUT /v2/keys/a?prevValue=1&noValueOnSuccess=true\nvalue=2&refresh=false\0"
        b"GET /v2/keys/a?wait=true&waitIndex=1&stream=true\n",
        put + b"PUT /v2/keys/a?refresh=true&prevExist=true&ttl=10\n\0HEAD /v2/keys/a?prevIndex=3\n",
        b"GET /v2/members\n\0" + member + b"GET /v2/members\n",
        b"GET /v2/auth/enable\n\0" + user + b"PUT /v2/auth/enable\n",
        b"GET /v2/auth/users\n\0" + role + b"GET /v2/auth/roles\n",
        b"GET /v2/stats/self\n\0GET /v2/stats/store\n\0GET /v2/stats/leader\n\0GET /v2/machines\n",
        b"GET /health?serializable=true&exclude=NOSPACE\n\0GET /metrics\n\0GET /version\n\0PUT /config/local/log\n{}",
    ]


_FORM_WORDS: Final = (
    *(
        b"value=",
        b"ttl=",
        b"prevExist=true",
        b"prevIndex=",
        b"prevValue=",
        b"wait=true",
        b"recursive=true",
        b"dir=true",
    ),
    *(b"refresh=true", b"&", b";", b"%2e%2e/", b"%00", b"../", b"//", b"/_hidden", b"9" * 20),
    *(
        b"\0PUT /v2/keys/a/b?",
        b"\0POST /v2/keys/a?",
        b"\0GET /v2/keys/a?",
        b"\0DELETE /v2/keys/a?",
        b"\0POST /v3/kv/txn\n",
    ),
    *(b"\0DELETE /v2/keys/a?recursive=true\n", b"\xff", b"%zz", b"+", b"=", b"?", b"-1", b"18446744073709551615"),
)

MEMBER: Final = (
    Target("member_calls", _check_calls, _histories, (b"\0", b"\xff" * 8, b"\x80" * 9, b"\x0a\x01a", b"\x12\x01\0")),
    Target("member_pages", _check_pages, _requests, _FORM_WORDS),
)
