"""Watchers by the thousand, told of puts: one key that all of them watch, a key for each, a prefix that many watch.

A load keeps a number of puts in flight whose events have not all arrived. The
watching connections count events by a mark in every value, whatever the frames
around them, so that counting takes little of the machine; set-up is decoded.
No event may be missing at the end, and none may come twice.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from balsad.proto import rpc_pb2 as rpc
from bench import bars
from bench.connection import (
    FRAME_HEAD_BYTES,
    GRPC_PREFIX,
    WINDOW_UPDATE,
    Connection,
    LoadError,
    connect_all,
    frame,
    grpc_message,
    run_loop,
)
from bench.cpu import Meter
from bench.figures import Sample, Samples
from bench.load import Load, percentile
from bench.setting import Cell, Setting
from bench.single import sample_of
from bench.workloads import PUT, put_request
from tests.interop.servers import Member

GROUP: Final = "watch"
WATCH: Final = "/etcdserverpb.Watch/Watch"
MARK: Final = b"<~an event~>"
VALUE: Final = MARK + b"v" * (256 - len(MARK))
_CUT_MARK: Final = re.compile(
    b"|".join(
        re.escape(MARK[:cut]) + b"...\\x00[\\x00\\x01]...." + re.escape(MARK[cut:]) for cut in range(1, len(MARK))
    ),
    re.DOTALL,
)
"""A mark that lies in two DATA frames, the head of the second in between."""
_CUT_BYTES_MAX: Final = len(MARK) + FRAME_HEAD_BYTES - 1
SETTLE_S: Final = 0.3
"""How long events too many are waited for."""
LONGEST_S: Final = 60.0
GRANTED_AT_ONCE: Final = 1 << 28


@dataclass(frozen=True, slots=True)
class Watches:
    """`connections` with a stream each and `each` watchers on it; who watches what is `keys`, again from its start."""

    connections: int
    each: int
    keys: Sequence[tuple[bytes, bytes]]
    """Key and range end."""

    @property
    def watchers(self) -> int:
        return self.connections * self.each


def count_marks(data: bytes) -> tuple[int, bytes]:
    """How many marks lie in bytes of a connection, and the beginning of one at their end, to go before what comes next.

    Frames are not looked at: a mark is found wherever it is, also where a frame ends in it.
    """
    found = data.count(MARK)
    if data.count(MARK[:1]) != found:
        found += len(_CUT_MARK.findall(data))
    begun = data.rfind(MARK[:1], -_CUT_BYTES_MAX) if data else -1
    if begun < 0 or data.startswith(MARK, begun) or _CUT_MARK.match(data, begun):
        return found, b""
    return found, data[begun:]


class _Watching(Connection):
    """A stream of watchers; once `counting`, every event is told to `counted`."""

    takes_data = True

    def __init__(self, authority: str, keys: Sequence[tuple[bytes, bytes]], tally: _Tally) -> None:
        super().__init__(WATCH, authority)
        self.created = 0
        self._keys = keys
        self._tally = tally
        self._stream = 0
        self._partial = b""
        self._is_counting = False
        self._tail = b""
        self._raw = 0

    def begin(self) -> None:
        self._stream = self.open_stream(time.perf_counter())
        for key, end in self._keys:
            create = rpc.WatchCreateRequest(key=key, range_end=end)
            self.send_on(self._stream, grpc_message(rpc.WatchRequest(create_request=create).SerializeToString()))
        self.flush()

    def received(self, stream: int, data: bytes) -> None:
        data = self._partial + data
        pos = 0
        while len(data) - pos >= GRPC_PREFIX:
            end = pos + GRPC_PREFIX + int.from_bytes(data[pos + 1 : pos + GRPC_PREFIX], "big")
            if end > len(data):
                break
            answer = rpc.WatchResponse.FromString(data[pos + GRPC_PREFIX : end])
            if answer.canceled:
                self.failed_whole(answer.cancel_reason or "a watch was cancelled")
            self.created += answer.created
            pos = end
        self._partial = data[pos:]
        if self.created == len(self._keys):
            self._is_counting = True
            self._tally.on_created()

    def data_received(self, data: bytes) -> None:
        if not self._is_counting:
            super().data_received(data)
            return
        found, self._tail = count_marks(self._tail + data)
        self._raw += len(data)
        if self._raw >= GRANTED_AT_ONCE:
            more = self._raw.to_bytes(4, "big")
            self._raw = 0
            assert self._transport is not None
            self._transport.write(frame(WINDOW_UPDATE, 0, 0, more) + frame(WINDOW_UPDATE, 0, self._stream, more))
        if found:
            self._tally.count(found)

    def ended(self, stream: int, is_ok: bool, started: float, now: float) -> None:
        self.failed_whole("a watch stream ended")

    def failed_whole(self, reason: str) -> None:
        self._tally.fail(f"watch: {reason} {self.failure or ''}")


class _Putting(Connection):
    """Puts, each of which begins when the tally says so."""

    def __init__(self, authority: str, tally: _Tally) -> None:
        super().__init__(PUT, authority)
        self._tally = tally

    def ended(self, stream: int, is_ok: bool, started: float, now: float) -> None:
        if not is_ok:
            self.failed_whole("a put failed")

    def failed_whole(self, reason: str) -> None:
        self._tally.fail(f"put: {reason} {self.failure or ''}")


class _Tally:
    """Begins puts while fewer than `window` of them wait for events, `per_put` each; notes when the last came."""

    def __init__(self, per_put: int, window: int) -> None:
        self.latencies: list[float] = []
        self.begun = self.events = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.all_created: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.uncreated = 0
        self._per_put = per_put
        self._window = window
        self._waiting: deque[float] = deque()
        self._told = 0
        self._connections: list[_Putting] = []
        self._bodies: Sequence[bytes] = ()
        self._puts_max = 0
        self._until = 0.0

    def on_created(self) -> None:
        self.uncreated -= 1
        if not self.uncreated and not self.all_created.done():
            self.all_created.set_result(None)

    def begin(self, connections: list[_Putting], bodies: Sequence[bytes], puts: int, seconds: float) -> None:
        self._connections = connections
        self._bodies = bodies
        self._puts_max = puts
        self._until = time.perf_counter() + seconds
        self._go_on(time.perf_counter())

    def _go_on(self, now: float) -> None:
        is_over = now >= self._until
        used: set[int] = set()
        while not is_over and self.begun < self._puts_max and len(self._waiting) < self._window:
            which = self.begun % len(self._connections)
            self._connections[which].begin_call(self._bodies[self.begun % len(self._bodies)], now)
            used.add(which)
            self._waiting.append(now)
            self.begun += 1
        for which in used:
            self._connections[which].flush()
        if not self._waiting and not self.done.done():
            self.done.set_result(None)

    def count(self, found: int) -> None:
        self.events += found
        told = self.events // self._per_put
        if told == self._told:
            return
        now = time.perf_counter()
        for _ in range(min(told - self._told, len(self._waiting))):
            self.latencies.append(now - self._waiting.popleft())
        self._told = told
        self._go_on(now)

    def fail(self, reason: str) -> None:
        for future in (self.all_created, self.done):
            if not future.done():
                future.set_exception(LoadError(reason))


async def _drive(
    address: str, watches: Watches, keys: Sequence[bytes], puts: int, seconds: float, window: int, meter: Meter
) -> Load:
    per_put = sum(key == keys[0] or (end > keys[0] >= key) for key, end in _all_keys(watches))
    tally = _Tally(per_put, window)
    watching = [
        _Watching(address, _all_keys(watches)[number * watches.each : (number + 1) * watches.each], tally)
        for number in range(watches.connections)
    ]
    putting = [_Putting(address, tally) for _ in range(min(10, window))]
    try:
        await connect_all(address, [*watching, *putting])
        tally.uncreated = len(watching)
        for stream in watching:
            stream.begin()
        await asyncio.wait_for(tally.all_created, LONGEST_S)
        bodies = [grpc_message(put_request(key, VALUE)) for key in keys]
        with meter:
            began = time.perf_counter()
            tally.begin(putting, bodies, puts, seconds)
            await asyncio.wait_for(tally.done, seconds + LONGEST_S)
            lasted = time.perf_counter() - began
        await asyncio.sleep(SETTLE_S)
    except (OSError, TimeoutError) as error:
        raise LoadError(f"watch: {error!r}, {tally.events} events") from error
    finally:
        for one in (*watching, *putting):
            one.close()
    if tally.events != tally.begun * per_put:
        raise LoadError(f"watch: {tally.begun} puts made {tally.events} events, not {per_put} each")
    ordered = sorted(tally.latencies)
    return Load(
        done=tally.events,
        failed=0,
        seconds=lasted,
        p50_s=percentile(ordered, 0.5),
        p99_s=percentile(ordered, 0.99),
        answer_bytes=0,
    )


def _all_keys(watches: Watches) -> list[tuple[bytes, bytes]]:
    return [watches.keys[number % len(watches.keys)] for number in range(watches.watchers)]


def told(
    address: str,
    watches: Watches,
    keys: Sequence[bytes],
    meter: Meter,
    *,
    window: int,
    seconds: float = LONGEST_S,
    puts: int = 1 << 60,
) -> Load:
    """Put the keys in turn, for so long or so often, `window` of them unheard of by some watcher at a time.

    `done` counts events; a latency is how long a put took to be heard of by all. Raises LoadError.
    """
    return run_loop(_drive(address, watches, keys, puts, seconds, window, meter))


def _cell(name: str, watches: Watches, keys: Sequence[bytes], window: int, passes: int) -> Cell:
    """`passes`: how often each key is put in a round; 0: for as long as the setting says."""

    def measure_one(setting: Setting, member: Member) -> Sample:
        pids = [member.process.pid]
        meter = Meter(pids)
        if passes:
            load = told(member.address, watches, keys, meter, window=window, puts=passes * len(keys))
        else:
            load = told(member.address, watches, keys, meter, window=window, seconds=setting.seconds)
        return sample_of(load, meter, pids)

    def run(setting: Setting) -> Samples:
        with setting.members() as members:
            for member in members.values():
                told(member.address, watches, keys, Meter([]), window=window, puts=min(len(keys), 1000))
            return setting.in_turn(lambda contender: measure_one(setting, members[contender.form]))

    return Cell(GROUP, name, bars.both(*bars.NO_WORSE), run)


def cells(is_quick: bool) -> list[Cell]:
    many = 1000 if is_quick else 10_000
    key = b"watched"
    own = [b"watched/%05d" % number for number in range(many)]
    prefix = [(b"watched/", b"watched0")]
    return [
        _cell("events of one key, 1000 watchers on 10 streams", Watches(10, 100, [(key, b"")]), [key], 10, 0),
        _cell("events of one key, 1000 watchers on 1000 streams", Watches(1000, 1, [(key, b"")]), [key], 10, 0),
        _cell("events of a prefix, 100 watchers on 100 streams", Watches(100, 1, prefix), own[:1000], 100, 0),
        _cell("events of a prefix, 1 watcher", Watches(1, 1, prefix), own[:1000], 100, 0),
        _cell(
            f"an event of each of {many} keys, {many} watchers on 100 streams",
            Watches(100, many // 100, [(one, b"") for one in own]),
            own,
            100,
            1,
        ),
    ]
