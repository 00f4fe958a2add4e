"""`etcdctl check perf`. Source: etcdctl check.go."""

from __future__ import annotations

from balsad.client.client import Client
from balsad.ctl.commands.check_load import (
    Bar,
    Load,
    Results,
    check_empty,
    compact,
    connected_clients,
    defragment_all,
    load_model,
    print_errors,
)
from balsad.ctl.console import EXIT_ERROR, Exit
from balsad.ctl.context import Context
from balsad.ctl.go_text import bytes_of
from balsad.ctl.processes import on_signals

# Writes a second, clients.
_LOADS = {"s": (150, 50), "m": (1000, 200), "l": (8000, 500), "xl": (15000, 1000)}
_SECONDS = 60
_SLOWEST_S_MAX = 0.5
_STDDEV_S_MAX = 0.1
_RATE_SHARE_MIN = 0.9


def run(context: Context, args: list[str]) -> None:
    rate, client_count = _LOADS[load_model(context.flags.text("load"))]
    clients = connected_clients(context, client_count)
    prefix = bytes_of(context.flags.text("prefix"))
    check_empty(context, clients[0], prefix, "prefix PREFIX has keys. Delete with 'etcdctl del --prefix PREFIX' first")
    load = Load(context.loop, clients, prefix, key_size=256, value_size=1024)

    def stop() -> None:
        load.stopped = True

    on_signals(context.loop, stop)
    bar = Bar(context, _SECONDS)
    bar.show(0)
    context.call(load.run(rate=rate, seconds=float(_SECONDS), bar=bar))
    bar.show(_SECONDS, last=True)
    _clean_up(context, clients[0], prefix)
    if context.flags.on("auto-defrag"):
        defragment_all(context, clients[0])
    if not _judge(context, load.results, rate):
        context.console.print("FAIL")
        raise Exit(EXIT_ERROR)
    context.console.print("PASS")


def _clean_up(context: Context, client: Client, prefix: bytes) -> None:
    try:
        response = context.loop.run(client.kv.delete(prefix, prefix=True, timeout=30.0))
    except Exception as error:
        context.check_refusal(error)
        context.console.print(f"FAIL: Cleanup failed during key deletion: ERROR({error})")
        return
    if context.flags.on("auto-compact"):
        compact(context, client, response.header.revision)


def _judge(context: Context, results: Results, rate: int) -> bool:
    """Print how it went; whether it was good enough."""
    say = context.console.print
    good = True
    if results.errors:
        print_errors(context, results)
        good = False
    if results.rate / rate <= _RATE_SHARE_MIN:
        say(f"FAIL: Throughput too low: {int(results.rate) + 1} writes/s")
        good = False
    else:
        say(f"PASS: Throughput is {int(results.rate) + 1} writes/s")
    if results.slowest > _SLOWEST_S_MAX:
        say(f"Slowest request took too long: {results.slowest:f}s")
        good = False
    else:
        say(f"PASS: Slowest request took {results.slowest:f}s")
    if results.stddev > _STDDEV_S_MAX:
        say(f"Stddev too high: {results.stddev:f}s")
        good = False
    else:
        say(f"PASS: Stddev is {results.stddev:f}s")
    return good
