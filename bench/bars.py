"""The bars: what balsad has promised to be, beside etcd in the same run."""

from __future__ import annotations

from collections.abc import Mapping

from bench.contenders import COMPILED, UNCOMPILED
from bench.figures import Bar

Bars = Mapping[str, tuple[Bar, ...]]

STALL_MS = 50.0
ELECTION_TIMEOUT_S = 1.0
P99_NO_WORSE = Bar("p99_ms", at_most=1.0)
NOT_SLOWER = Bar("per_s", at_least=1.0)


NO_WORSE = (NOT_SLOWER, P99_NO_WORSE)


def both(*bars: Bar) -> Bars:
    return {UNCOMPILED: bars, COMPILED: bars}


def single(kind: str, clients: int) -> Bars:
    """For a load on one member; `kind` is the workload's: "put", "range", or anything else."""
    common = (P99_NO_WORSE,)
    if clients == 1:
        return both(NOT_SLOWER, Bar("p50_ms", at_most=1.05), *common)
    throughput = {"put": 1.5, "range": 2.0}.get(kind, 1.0)
    cpu = {"put": (Bar("cpu_us", at_most=0.4),), "range": (Bar("cpu_us", at_most=0.3),)}.get(kind, ())
    return {
        UNCOMPILED: (NOT_SLOWER, *common),
        COMPILED: (Bar("per_s", at_least=throughput), *cpu, *common),
    }


def cluster(way: str, clients: int) -> Bars:
    """For a load on three members; `way` says which of them are asked."""
    if clients == 1:
        return both(Bar("p50_ms", at_most=1.2))
    return both(Bar("per_s", at_least=1.0 if way == "follower" else 1.5))


FAILOVER = both(Bar("pause_s", at_most=2 * ELECTION_TIMEOUT_S, of="ours"), Bar("pause_s", at_most=1.0))
"""A leader is replaced within two election timeouts, and no later than etcd's."""

# One member with a large store.
_MEMORY = (Bar("rss_mib", at_most=1.0), Bar("anon_mib", at_most=1.0))
FILL = both(NOT_SLOWER, *_MEMORY)
START_UP = both(Bar("seconds", at_most=0.5), *_MEMORY)
NO_LONGER = both(Bar("seconds", at_most=1.0))
STALLS = both(Bar("longest_ms", at_most=STALL_MS, of="ours"))
NO_LATER = both(Bar("longest_ms", at_most=1.0))

# Leases expire at a pace that etcd sets: a thousand in a second, looked for twice in a second.
EXPIRY = both(Bar("late_s", at_most=1.1), Bar("cpu_us", at_most=1.0), Bar("longest_ms", at_most=STALL_MS, of="ours"))
