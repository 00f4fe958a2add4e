"""Large stores: filled once through the API, then copied for each who needs one.

With `--keep DIR` they stay there for the next run, named by form and number of keys.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, overload

from balsad.proto import rpc_pb2 as rpc
from bench.connection import LoadError, call
from bench.contenders import FLAGS, Contender
from bench.cpu import Meter, memory_mib
from bench.figures import OTHERS, Sample
from bench.load import Request, Target, send_all
from bench.setting import Setting
from bench.workloads import RANGE, TXN, large_key, large_value
from tests.interop.servers import Member, start

PUTS_PER_TXN: Final = 128
TXNS_IN_FLIGHT: Final = 10
CHUNK_KEYS: Final = 100 * 1024
STORE_FLAGS: Final = ("--quota-backend-bytes=8589934592",)


class _Txns(Sequence[bytes]):
    """Transactions that put the keys from `first` to before `end`, each written when it is asked for."""

    def __init__(self, first: int, end: int) -> None:
        self._first, self._end = first, end

    def __len__(self) -> int:
        return -(-(self._end - self._first) // PUTS_PER_TXN)

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[bytes]: ...
    def __getitem__(self, at: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(at, slice):
            return [self[one] for one in range(len(self))[at]]
        first = self._first + at * PUTS_PER_TXN
        numbers = range(first, min(first + PUTS_PER_TXN, self._end))
        return rpc.TxnRequest(
            success=[
                rpc.RequestOp(request_put=rpc.PutRequest(key=large_key(number), value=large_value(number)))
                for number in numbers
            ]
        ).SerializeToString()


def put_keys(setting: Setting, address: str, keys: int) -> float:
    """Put the first so many keys of the large store, and say in how many seconds. Raises LoadError."""
    seconds = 0.0
    for first in range(0, keys, CHUNK_KEYS):
        setting.progress.say(f"{first} of {keys} keys put")
        request = Request(TXN, _Txns(first, min(first + CHUNK_KEYS, keys)))
        seconds += send_all(request, Target(address, 1, TXNS_IN_FLIGHT), Meter([])).seconds
    return seconds


def check_count(address: str, keys: int) -> None:
    """Raises LoadError unless the store has so many keys."""
    question = rpc.RangeRequest(key=b"\0", range_end=b"\0", count_only=True).SerializeToString()
    found = rpc.RangeResponse.FromString(call(address, RANGE, question)).count
    if found != keys:
        raise LoadError(f"the store has {found} keys instead of {keys}")


def fill(setting: Setting, contender: Contender) -> Sample:
    """Fill a new store; it is what `started` copies from then on."""
    place = _place(setting, contender)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    with start(contender.program, place / "data", *FLAGS, *STORE_FLAGS) as member:
        pids = [member.process.pid]
        with Meter(pids) as meter:
            seconds = put_keys(setting, member.address, setting.keys)
        check_count(member.address, setting.keys)
        rss, anonymous = memory_mib(pids)
    sample = {
        "per_s": setting.keys / seconds,
        "cpu_us": meter.servers_s / setting.keys * 1e6,
        "rss_mib": rss,
        "anon_mib": anonymous,
        OTHERS: meter.others,
    }
    (place / "sample.json").write_text(json.dumps(sample))
    return sample


def _place(setting: Setting, contender: Contender) -> Path:
    return (setting.keep or setting.folder) / f"store-{setting.keys}-{contender.form}"


@contextlib.contextmanager
def copied(setting: Setting, contender: Contender) -> Iterator[Path]:
    """A filled data dir of its own."""
    place = _place(setting, contender)
    if not (place / "sample.json").exists():
        fill(setting, contender)
    with setting.new_folder() as folder:
        shutil.copytree(place / "data", folder / "data")
        os.sync()
        yield folder / "data"


@contextlib.contextmanager
def started(setting: Setting, contender: Contender) -> Iterator[Member]:
    """A member on a filled data dir of its own."""
    with copied(setting, contender) as data_dir, start(contender.program, data_dir, *FLAGS, *STORE_FLAGS) as member:
        check_count(member.address, setting.keys)
        yield member


def wait_healthy(member: Member, timeout_s: float = 300.0) -> float:
    """Seconds until /health says true, asked every few milliseconds. Raises LoadError."""
    began = time.perf_counter()
    while not member.is_healthy():
        if member.process.poll() is not None or time.perf_counter() - began > timeout_s:
            raise LoadError(f"not healthy\n{member.logs()}")
        time.sleep(0.005)
    return time.perf_counter() - began
