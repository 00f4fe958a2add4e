"""One member with a large store: what it takes to fill, start, back up, restore, compact and defragment it.

And who waits meanwhile: a prober asks for one key every 5 ms, beside a hundred clients that put.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from balsad.proto import rpc_pb2 as rpc
from bench import bars, store
from bench.aside import aside
from bench.bars import Bars
from bench.connection import LoadError, call
from bench.contenders import FLAGS, Contender
from bench.cpu import Meter, memory_mib
from bench.figures import OTHERS, Sample
from bench.setting import Cell, Setting
from bench.workloads import RANGE, large_key, revision
from tests.interop.servers import Member, clean_environment
from tests.real import real_etcdctl, real_etcdutl

GROUP: Final = "large"
ROUNDS_MAX: Final = 3
COMPACT: Final = "/etcdserverpb.KV/Compact"
DEFRAGMENT: Final = "/etcdserverpb.Maintenance/Defragment"
LONG_S: Final = 300.0
OVERWRITTEN: Final = 4
"""Before a compaction one of so many keys is put again."""


def _tool(*command: str) -> str:
    """What a tool prints. Raises LoadError."""
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), timeout=LONG_S, check=False)
    if done.returncode != 0:
        raise LoadError(
            f"{Path(command[0]).name} {' '.join(command[1:])}: {(done.stdout + done.stderr).strip()[-300:]}"
        )
    return done.stdout


def _timed(meter: Meter, **figures: float) -> Sample:
    return {"seconds": meter.seconds, "cpu_s": meter.servers_s, **figures, OTHERS: meter.others}


def _memory(member: Member) -> dict[str, float]:
    rss, anonymous = memory_mib([member.process.pid])
    return {"rss_mib": rss, "anon_mib": anonymous}


def start_up(setting: Setting, contender: Contender) -> Sample:
    """From the start of the process to a healthy member."""
    with store.copied(setting, contender) as data_dir:
        began = time.perf_counter()
        member = Member(contender.program, data_dir, (*FLAGS, *store.STORE_FLAGS), None)
        try:
            with Meter([member.process.pid]) as meter:
                store.wait_healthy(member)
                seconds = time.perf_counter() - began
            store.check_count(member.address, setting.keys)
            return {**_timed(meter, **_memory(member)), "seconds": seconds}
        finally:
            member.kill()


def save_snapshot(member: Member, target: Path) -> None:
    """By the real etcdctl, looked at by the real etcdutl. Raises LoadError."""
    _tool(real_etcdctl(), f"--endpoints={member.client_url}", "--command-timeout=300s", "snapshot", "save", str(target))


def keys_in_snapshot(path: Path) -> int:
    return int(json.loads(_tool(real_etcdutl(), "snapshot", "status", str(path), "--write-out=json"))["totalKey"])


def snapshot(setting: Setting, contender: Contender) -> Sample:
    with store.started(setting, contender) as member, setting.new_folder() as folder:
        with Meter([member.process.pid]) as meter:
            save_snapshot(member, folder / "snapshot.db")
        if keys_in_snapshot(folder / "snapshot.db") < setting.keys:
            raise LoadError("the snapshot has too few keys")
        return _timed(meter, file_mib=(folder / "snapshot.db").stat().st_size / 2**20)


@contextmanager
def _etcds_snapshot(setting: Setting) -> Iterator[Path]:
    """A snapshot of the real etcd, for all to restore."""
    with setting.new_folder() as folder:
        with store.started(setting, setting.contenders[0]) as member:
            save_snapshot(member, folder / "snapshot.db")
        yield folder / "snapshot.db"


def restore(setting: Setting, contender: Contender) -> Sample:
    backup = setting.once("snapshot", lambda: _etcds_snapshot(setting))
    with setting.new_folder() as folder:
        with Meter([]) as meter:
            _tool(*contender.etcdutl, "snapshot", "restore", str(backup), f"--data-dir={folder / 'data'}")
        if keys_in_snapshot(folder / "data" / "member" / "snap" / "db") < setting.keys:
            raise LoadError("too few keys were restored")
        return {"seconds": meter.seconds, OTHERS: meter.others}


def compact(member: Member) -> None:
    """All that is not the newest goes, for good when this returns. Raises LoadError."""
    newest = revision(member.address)
    request = rpc.CompactionRequest(revision=newest, physical=True).SerializeToString()
    call(member.address, COMPACT, request, LONG_S)
    old = rpc.RangeRequest(key=large_key(0), revision=newest - 1).SerializeToString()
    try:
        call(member.address, RANGE, old)
    except LoadError as error:
        if "compacted" in str(error):
            return
        raise
    raise LoadError("an old revision is still there after the compaction")


def compaction(setting: Setting, contender: Contender) -> Sample:
    with store.started(setting, contender) as member:
        store.put_keys(setting, member.address, setting.keys // OVERWRITTEN)
        with Meter([member.process.pid]) as meter:
            compact(member)
        store.check_count(member.address, setting.keys)
        return _timed(meter, **_memory(member))


def defragment(member: Member) -> None:
    call(member.address, DEFRAGMENT, rpc.DefragmentRequest().SerializeToString(), LONG_S)


def defragmentation(setting: Setting, contender: Contender) -> Sample:
    with store.started(setting, contender) as member:
        with Meter([member.process.pid]) as meter:
            defragment(member)
        store.check_count(member.address, setting.keys)
        return _timed(meter, **_memory(member))


Disturbance = Callable[[Setting, Member], None]


def _nothing_more(setting: Setting, member: Member) -> None:
    time.sleep(2.0 if setting.is_quick else 10.0)


def _compact_overwritten(setting: Setting, member: Member) -> None:
    compact(member)


def _save_aside(setting: Setting, member: Member) -> None:
    with setting.new_folder() as folder:
        save_snapshot(member, folder / "snapshot.db")


def _defragment(setting: Setting, member: Member) -> None:
    defragment(member)


def stalls(disturbance: Disturbance) -> Callable[[Setting, Contender], Sample]:
    """What a prober sees while puts run and something else happens to the member."""

    def measure(setting: Setting, contender: Contender) -> Sample:
        with store.started(setting, contender) as member:
            if disturbance is _compact_overwritten:
                store.put_keys(setting, member.address, setting.keys // OVERWRITTEN)
            before = revision(member.address)
            with (
                Meter([member.process.pid]) as meter,
                aside("puts", member.address, "10", "10", str(setting.keys)) as puts,
                aside("prober", member.address, large_key(0).decode()) as prober,
            ):
                began = time.perf_counter()
                disturbance(setting, member)
                took = time.perf_counter() - began
            if revision(member.address) - before < puts.result["done"]:
                raise LoadError(f"{puts.result['done']} puts made fewer revisions")
            return {
                "puts_per_s": puts.result["per_s"],
                "probe_p50_ms": prober.result["p50_ms"],
                "probe_p99_ms": prober.result["p99_ms"],
                "longest_ms": prober.result["longest_ms"],
                "over_50": prober.result["over_50"],
                "took_s": took,
                OTHERS: meter.others,
            }

    return measure


def cells(is_quick: bool) -> list[Cell]:
    def cell(name: str, claims: Bars, measure: Callable[[Setting, Contender], Sample]) -> Cell:
        return Cell(
            GROUP,
            name,
            claims,
            lambda setting: setting.in_turn(lambda contender: measure(setting, contender), ROUNDS_MAX),
        )

    return [
        cell("fill by transactions of 128 puts", bars.FILL, store.fill),
        cell("start-up until healthy", bars.START_UP, start_up),
        cell("snapshot save by etcdctl", bars.NO_LONGER, snapshot),
        cell("snapshot restore by etcdutl", bars.NO_LONGER, restore),
        cell("compaction, a quarter of the keys put twice", bars.NO_LONGER, compaction),
        cell("defragmentation", bars.NO_LONGER, defragmentation),
        cell("one-key range every 5 ms under puts", bars.STALLS, stalls(_nothing_more)),
        cell("one-key range every 5 ms under puts and a compaction", bars.STALLS, stalls(_compact_overwritten)),
        cell("one-key range every 5 ms under puts and a snapshot save", bars.STALLS, stalls(_save_aside)),
        cell("one-key range every 5 ms under puts and a defragmentation", bars.NO_LATER, stalls(_defragment)),
    ]
