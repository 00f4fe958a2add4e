"""Three members beside three of the real etcd: loads through all, the leader or one follower; a leader that dies.

Every kind's cluster stays up through the group, one alone is loaded at a time; what the idle ones need for their
heartbeats counts as `others`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from bench import bars, failover
from bench.contenders import FLAGS, Contender
from bench.figures import Sample, Samples
from bench.load import Target
from bench.setting import Cell, Setting
from bench.single import clients_text, measure, warm_up
from bench.workloads import PUT_ONE, RANGE_LINEARIZABLE, Workload, fill
from tests.interop.clusters import Cluster, cluster

GROUP: Final = "cluster"
WAYS: Final = ("all members", "leader", "follower")
NAMES: Final = ("m0", "m1", "m2")

Clusters = dict[str, Cluster]


@contextlib.contextmanager
def _start(setting: Setting) -> Iterator[Clusters]:
    """Three members of each contender, the thousand keys in each cluster."""
    with setting.new_folder() as folder, contextlib.ExitStack() as stack:
        started = {}
        for contender in setting.contenders:
            setting.progress.say(f"three members, {contender.form}")
            place = folder / contender.form
            place.mkdir()
            programs = dict.fromkeys(NAMES, contender.program)
            one = started[contender.form] = stack.enter_context(cluster(place, programs, *FLAGS))
            fill(one.members[one.leader()].address)
        yield started


def clusters(setting: Setting) -> Clusters:
    return setting.once("clusters", lambda: _start(setting))


def targets(one: Cluster, way: str, connections: int, streams: int) -> list[Target]:
    """Where the connections go: the first is a member's that is read for checks, too."""
    leader = one.leader()
    followers = [name for name in one.members if name != leader]
    if way != "all members":
        name = leader if way == "leader" else followers[0]
        return [Target(one.members[name].address, connections, streams)]
    names = [leader, *followers]
    shares = [connections * (at + 1) // 3 - connections * at // 3 for at in range(3)]
    return [
        Target(one.members[name].address, share, streams) for name, share in zip(names, shares, strict=True) if share
    ]


def _load_cell(workload: Workload, way: str, connections: int, streams: int) -> Cell:
    def measure_one(setting: Setting, contender: Contender) -> Sample:
        one = clusters(setting)[contender.form]
        where = targets(one, way, connections, streams)
        warm_up(setting, workload, where)
        return measure(setting, workload, where, [member.process.pid for member in one.members.values()])

    def run(setting: Setting) -> Samples:
        return setting.in_turn(lambda contender: measure_one(setting, contender))

    name = f"{workload.name} through {way if way == WAYS[0] else 'the ' + way}, {clients_text(connections, streams)}"
    return Cell(GROUP, name, bars.cluster(way, connections * streams), run)


def _failover_cell() -> Cell:
    def run(setting: Setting) -> Samples:
        return setting.in_turn(lambda contender: failover.measure(clusters(setting)[contender.form]))

    return Cell(GROUP, "the leader is killed under puts", bars.FAILOVER, run)


def cells(is_quick: bool) -> list[Cell]:
    loads = [
        _load_cell(workload, way, connections, streams)
        for workload in (PUT_ONE, RANGE_LINEARIZABLE)
        for connections, streams in ((1, 1), (10, 10), (100, 10))
        for way in (WAYS[1:] if connections == 1 else WAYS)
    ]
    return [*loads, _failover_cell()]
