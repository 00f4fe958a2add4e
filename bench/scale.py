"""One member with ten thousand connections, a hundred thousand leases, values of 1 MiB."""

from __future__ import annotations

import dataclasses
import itertools
import resource
import time
from typing import Final

from balsad.proto import rpc_pb2 as rpc
from bench import bars, leases, load
from bench.aside import aside
from bench.contenders import Contender
from bench.cpu import Meter, memory_mib
from bench.figures import OTHERS, Sample, Samples
from bench.load import Request, Target
from bench.setting import Cell, Setting
from bench.single import clients_text, load_cell, measure, sample_of, warm_up
from bench.workloads import (
    PUT,
    PUT_ONE,
    RANGE,
    RANGE_LINEARIZABLE,
    Workload,
    fill,
    is_put,
    put_request,
    revision,
    stored_key,
)
from tests.interop.servers import Member

GROUP: Final = "scale"
ROUNDS_MAX: Final = 3
SPARE_FILES: Final = 500
MIB: Final = 1 << 20
BIG_VALUE: Final = b"v" * MIB
BIG_KEY: Final = b"big"
ROOMY: Final = ("--quota-backend-bytes=8589934592",)
EXPIRING_TTL_S: Final = 5
PUTTING_MAX: Final = 4000
"""Clients that put at once: with 10,000 etcd turns some away, as they would be more than 5,000 entries ahead of it."""


def connection_count(wanted: int) -> int:
    """So many, or as many as this process and a server may open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard - SPARE_FILES)


def _many_connections_cell(workload: Workload, connections: int) -> Cell:
    """All of them ask. By the generator of our own: it connects a few at a time and outside the measured time."""
    cell = load_cell(GROUP, workload, connections, 1, bars.single(workload.kind, connections))
    return dataclasses.replace(cell, run=lambda setting: cell.run(dataclasses.replace(setting, generate=load.generate)))


def _idle_connections_cell(workload: Workload, connections: int) -> Cell:
    """Most of them are open and silent."""

    def measure_one(setting: Setting, member: Member) -> Sample:
        pids = [member.process.pid]
        before = memory_mib(pids)[1]
        with aside("idle", member.address, str(connections)):
            each = (memory_mib(pids)[1] - before) / connections * 1024
            sample = measure(setting, workload, [Target(member.address, 10, 10)], pids)
        return {**sample, "kib_each": each}

    def run(setting: Setting) -> Samples:
        with setting.members() as members:
            for member in members.values():
                fill(member.address)
                warm_up(setting, workload, [Target(member.address, 10, 10)])
            return setting.in_turn(lambda contender: measure_one(setting, members[contender.form]))

    name = f"{workload.name}, {clients_text(10, 10)}, beside {connections} silent connections"
    return Cell(GROUP, name, bars.single(workload.kind, 100), run)


def _grant_cell(count: int) -> Cell:
    def measure_one(setting: Setting, contender: Contender) -> Sample:
        with setting.member(contender) as member:
            pids = [member.process.pid]
            before = memory_mib(pids)[1]
            meter = Meter(pids)
            sample = sample_of(leases.grant(member.address, range(1, count + 1), meter), meter, pids)
            return {**sample, "kib_each": (memory_mib(pids)[1] - before) / count * 1024}

    return Cell(
        GROUP,
        f"grant of {count} leases, {clients_text(10, 10)}",
        bars.both(*bars.NO_WORSE),
        lambda setting: setting.in_turn(lambda contender: measure_one(setting, contender), ROUNDS_MAX),
    )


def _keep_alive_cell(count: int) -> Cell:
    lease_ids = range(1, count + 1)

    def measure_one(member: Member) -> Sample:
        pids = [member.process.pid]
        meter = Meter(pids)
        return sample_of(leases.keep_alive(member.address, lease_ids, meter), meter, pids)

    def run(setting: Setting) -> Samples:
        with setting.members() as members:
            for form, member in members.items():
                setting.progress.say(f"{count} leases, {form}")
                leases.grant(member.address, lease_ids, Meter([]))
            return setting.in_turn(lambda contender: measure_one(members[contender.form]))

    name = f"keep-alive of {count} leases, {leases.STREAMS} streams, {leases.IN_FLIGHT} unanswered on each"
    return Cell(GROUP, name, bars.both(*bars.NO_WORSE), run)


def _expiry_cell(held: int, expiring: int) -> Cell:
    """How long after their time the last of many leases is gone, at what cost, and who has to wait meanwhile."""
    first_ids = itertools.count(held + 1, expiring)

    def measure_one(member: Member) -> Sample:
        pids = [member.process.pid]
        first = next(first_ids)
        lease_ids = range(first, first + expiring)
        leases.grant(member.address, lease_ids, Meter([]), EXPIRING_TTL_S)
        due = time.perf_counter() + EXPIRING_TTL_S
        leases.attach_keys(member.address, lease_ids)
        with Meter(pids) as meter, aside("prober", member.address, stored_key(0).decode()) as prober:
            leases.wait_expired(member.address)
            late = time.perf_counter() - due
        return {
            "late_s": late,
            "cpu_us": meter.servers_s / expiring * 1e6,
            "probe_p99_ms": prober.result["p99_ms"],
            "longest_ms": prober.result["longest_ms"],
            OTHERS: meter.others,
        }

    def run(setting: Setting) -> Samples:
        with setting.members() as members:
            for form, member in members.items():
                setting.progress.say(f"{held} leases, {form}")
                fill(member.address)
                leases.grant(member.address, range(1, held + 1), Meter([]))
            return setting.in_turn(lambda contender: measure_one(members[contender.form]), ROUNDS_MAX)

    name = f"expiry of {expiring} leases with a key each, of {held + expiring}, under a one-key range every 5 ms"
    return Cell(GROUP, name, bars.EXPIRY, run)


BIG_RANGE: Final = Workload(
    "range of 1 MiB",
    "linearizable range of 1 MiB",
    Request(RANGE, (rpc.RangeRequest(key=BIG_KEY).SerializeToString(),)),
    0,
    lambda answer: rpc.RangeResponse.FromString(answer).kvs[0].value == BIG_VALUE,
)
BIG_PUT: Final = Workload("put of 1 MiB", "put of 1 MiB", Request(PUT, (put_request(BIG_KEY, BIG_VALUE),)), 1, is_put)


def _big_put_cell(clients: int, puts: int) -> Cell:
    """So many puts, however long they take: by time, the faster one would have to store more."""

    def measure_one(member: Member) -> Sample:
        pids = [member.process.pid]
        expected_bytes = BIG_PUT.probe(member.address)
        before = revision(member.address)
        meter = Meter(pids)
        request = Request(PUT, [BIG_PUT.request.bodies[0]] * puts)
        found = load.send_all(request, Target(member.address, clients, 1), meter)
        BIG_PUT.judge(found, expected_bytes, revision(member.address) - before)
        return sample_of(found, meter, pids)

    def run(setting: Setting) -> Samples:
        with setting.members(*ROOMY) as members:
            return setting.in_turn(lambda contender: measure_one(members[contender.form]))

    return Cell(GROUP, f"{puts} puts of 1 MiB, {clients_text(clients, 1)}", bars.single("put of 1 MiB", clients), run)


def _big_range_cell(clients: int) -> Cell:
    def run(setting: Setting) -> Samples:
        with setting.members(*ROOMY) as members:
            for member in members.values():
                BIG_PUT.probe(member.address)
            return setting.in_turn(
                lambda contender: measure(
                    setting,
                    BIG_RANGE,
                    [Target(members[contender.form].address, clients, 1)],
                    [members[contender.form].process.pid],
                )
            )

    return Cell(GROUP, f"{BIG_RANGE.name}, {clients_text(clients, 1)}", bars.single(BIG_RANGE.kind, clients), run)


def cells(is_quick: bool) -> list[Cell]:
    connections = connection_count(1000 if is_quick else 10_000)
    lease_count = 5_000 if is_quick else 100_000
    expiring = 1_000 if is_quick else 20_000
    return [
        _many_connections_cell(PUT_ONE, min(connections, PUTTING_MAX)),
        _many_connections_cell(RANGE_LINEARIZABLE, connections),
        *(_idle_connections_cell(workload, connections) for workload in (PUT_ONE, RANGE_LINEARIZABLE)),
        _grant_cell(lease_count),
        _keep_alive_cell(lease_count),
        _expiry_cell(lease_count - expiring, expiring),
        *(_big_put_cell(clients, 20 if is_quick else 100) for clients in (1, 10)),
        *(_big_range_cell(clients) for clients in (1, 10)),
    ]
