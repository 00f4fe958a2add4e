"""`etcdctl check datascale`: how much memory a server takes for so many keys. Source: etcdctl check.go, util.go."""

from __future__ import annotations

from balsad.ctl.commands.check_load import (
    Bar,
    Load,
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

# Keys, clients.
_LOADS = {"s": (10_000, 50), "m": (100_000, 200), "l": (1_000_000, 500), "xl": (3_000_000, 1000)}
_KV_SIZE = 1024
_METRIC = "process_resident_memory_bytes"


def run(context: Context, args: list[str]) -> None:
    count, client_count = _LOADS[load_model(context.flags.text("load"))]
    clients = connected_clients(context, client_count)
    say = context.console.print
    prefix = bytes_of(context.flags.text("prefix"))
    check_empty(context, clients[0], prefix, "prefix PREFIX has keys. Delete with etcdctl del --prefix PREFIX first")
    before = _memory(context, clients[0].endpoints[0])
    if not before:
        say(f"FAIL: Could not read {_METRIC} before the put operations.")
        raise Exit(EXIT_ERROR)
    say(
        f"Start data scale check for work load [{count} key-value pairs, {_KV_SIZE} bytes per key-value, "
        f"{client_count} concurrent clients]."
    )
    bar = Bar(context, count)
    bar.show(0)
    load = Load(context.loop, clients, prefix, key_size=512, value_size=512)
    context.call(load.run(count=count, bar=bar))
    bar.show(count, last=True)
    after = _memory(context, clients[0].endpoints[0])
    if not after:
        say(f"FAIL: Could not read {_METRIC} after the put operations.")
        raise Exit(EXIT_ERROR)
    deleted = context.call(clients[0].kv.delete(prefix, prefix=True))
    if context.flags.on("auto-compact"):
        compact(context, clients[0], deleted.header.revision)
    if context.flags.on("auto-defrag"):
        defragment_all(context, clients[0])
    if load.results.errors:
        print_errors(context, load.results)
        raise Exit(EXIT_ERROR)
    say(f"PASS: Approximate system memory used : {(after - before) / (1024 * 1024):.2f} MB.")


def _memory(context: Context, endpoint: str) -> float:
    """The server's resident memory in bytes, as its /metrics tells; 0 and a word why if it does not."""
    from urllib.error import URLError
    from urllib.request import urlopen

    say = context.console.print
    url = (endpoint if endpoint.startswith(("http://", "https://")) else f"http://{endpoint}") + "/metrics"
    tls = context.tls([endpoint]) if url.startswith("https://") else None
    if tls is not None:
        tls.set_alpn_protocols(["http/1.1"])
    try:
        with urlopen(url, context=tls) as answer:
            text = answer.read().decode("utf-8", "replace")
    except (URLError, OSError) as error:
        say(f"fetch error: {error}")
        return 0.0
    for line in text.splitlines():
        if line.startswith(_METRIC):
            try:
                return float(line.removeprefix(_METRIC).strip())
            except ValueError as error:
                say(f"parse error: {error}")
                return 0.0
    say(f"could not find: {_METRIC}")
    return 0.0
