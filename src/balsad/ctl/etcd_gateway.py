"""`etcd gateway start`: a TCP proxy in front of the members, for clients that shall know but one address.

Source: etcd server/etcdmain/gateway.go, util.go (discoverEndpoints).
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import urlsplit

from balsad.ctl.command import Command
from balsad.ctl.console import EXIT_ERROR, Console, Exit
from balsad.ctl.etcd_command import run
from balsad.ctl.flags import BOOL, DURATION, STRING, STRINGS, Flag, FlagSet
from balsad.go_quote import quote_go
from balsad.observe import get_logger, logs

if TYPE_CHECKING:
    from balsad.ctl.tcp_proxy import Remote

_log = get_logger("balsad.main")
_MINUTE_NS: Final = 60_000_000_000


def make_root() -> Command:
    start = Command(
        "start",
        "start the gateway",
        run="start",
        flags=[
            Flag(STRING, "listen-addr", "127.0.0.1:23790", "listen address"),
            Flag(STRING, "discovery-srv", "", "DNS domain used to bootstrap initial cluster"),
            Flag(STRING, "discovery-srv-name", "", "service name to query when using DNS discovery"),
            Flag(BOOL, "insecure-discovery", False, "accept insecure SRV records"),
            Flag(
                STRING,
                "trusted-ca-file",
                "",
                "path to the client server TLS CA file for verifying the discovered endpoints when discovery-srv is "
                "provided.",
            ),
            Flag(STRINGS, "endpoints", ["127.0.0.1:2379"], "comma separated etcd cluster endpoints"),
            Flag(DURATION, "retry-delay", _MINUTE_NS, "duration of delay before retrying failed endpoints"),
        ],
    )
    gateway = Command("gateway <subcommand>", "gateway related command", commands=[start], flags_in_use_line=False)
    return Command("etcd", "etcd server", commands=[gateway])


def main(arguments: Sequence[str]) -> None:
    """Run `etcd gateway ...` and end the process."""
    run(make_root(), arguments, lambda command, console: _start(command, console, arguments))


def _start(command: Command, console: Console, arguments: Sequence[str]) -> None:
    logs.set_up(epoch_times=True)
    _log.info("Running: ", extra={"args": list(arguments)})
    flags = command.merged_flags
    remotes = _discovered(command, console) or _named(flags.texts("endpoints"), console)
    listen_address = flags.text("listen-addr")
    where = _split(listen_address)
    if where is None:
        _fail(console, f"failed to validate listen address: {listen_address}")
    host, port = where
    own = _addresses(host)
    if own is None:
        _fail(console, f"failed to resolve listen host: {host}")
    for remote in remotes:
        found = _addresses(remote.host)
        if found is None:
            _fail(console, f"failed to resolve endpoint host: {remote.host}")
        for address in found if str(remote.port) == port else ():
            if address in own:
                _fail(
                    console,
                    f"SRV or endpoint ({remote.address}->{address}:{remote.port}) should not resolve to the gateway "
                    f"listen addr ({listen_address})",
                )
    if not remotes:
        _fail(console, "no endpoints found")
    asyncio.run(_serve(console, remotes, host, port, flags.seconds("retry-delay")))


def _fail(console: Console, text: str, *, end: str = "\n") -> NoReturn:
    console.write(f"{text}{end}".encode("utf-8", "surrogateescape"))
    raise Exit(EXIT_ERROR)


async def _serve(console: Console, remotes: list[Remote], host: str, port: str, retry_s: float) -> None:
    from balsad.ctl.tcp_proxy import CHUNK_BYTES, Remotes, TcpProxy
    from balsad.server.systemd import notify

    proxy = TcpProxy(Remotes(remotes, random.Random()), retry_s=retry_s)
    try:
        listener = await asyncio.start_server(
            proxy.on_client, host or None, int(port), limit=CHUNK_BYTES, start_serving=False
        )
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if isinstance(error, OSError) and "address already in use" in str(error).lower():
            why = "bind: address already in use"
        console.error(f"listen tcp {host}:{port}: {why.lower()}")
        raise Exit(EXIT_ERROR) from error
    notify()
    await proxy.serve(listener)


def _split(address: str) -> tuple[str, str] | None:
    """Host and port, as Go's net.SplitHostPort; None for what has none."""
    host, colon, port = address.rpartition(":")
    if not colon or (":" in host and not (host.startswith("[") and host.endswith("]"))):
        return None
    return host.strip("[]"), port


def _addresses(host: str) -> set[str] | None:
    """None when it cannot be resolved."""
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return None


def _named(endpoints: list[str], console: Console) -> list[Remote]:
    from balsad.ctl.tcp_proxy import Remote

    remotes = []
    for endpoint in endpoints:
        bare = urlsplit(endpoint).netloc if "://" in endpoint else endpoint
        where = _split(bare)
        if where is None:
            _fail(console, f"error parsing endpoint {quote_go(bare)}", end="")
        host, port = where
        remotes.append(Remote(host=host, port=int(port) if port.isdigit() else 0))
    return remotes


def _discovered(command: Command, console: Console) -> list[Remote]:
    """Those that --discovery-srv names."""
    flags = command.merged_flags
    return [remote for _, remote in _discovered_with_schemes(flags, console, flags.text("trusted-ca-file"))]


def discovered_endpoints(flags: FlagSet, console: Console, ca: str) -> list[str]:
    """Those that --discovery-srv names, as URLs."""
    return [f"{scheme}://{remote.address}" for scheme, remote in _discovered_with_schemes(flags, console, ca)]


def _discovered_with_schemes(flags: FlagSet, console: Console, ca: str) -> list[tuple[str, Remote]]:
    """Of an insecure one nothing is believed unless a flag says so."""
    domain = flags.text("discovery-srv")
    if not domain:
        return []
    from balsad.ctl.tcp_proxy import Remote
    from balsad.dns_srv import LookupFailedError, look_up_srv

    suffix = f"-{flags.text('discovery-srv-name')}" if flags.text("discovery-srv-name") else ""
    remotes: list[tuple[str, Remote]] = []
    errors: list[str] = []
    for service, scheme in ((f"etcd-client-ssl{suffix}", "https"), (f"etcd-client{suffix}", "http")):
        try:
            records = look_up_srv(f"_{service}._tcp.{domain}")
        except LookupFailedError as error:
            errors.append(str(error))
            continue
        remotes += [
            (
                scheme,
                Remote(host=record.target, port=record.port, priority=record.priority, weight=record.weight),
            )
            for record in records
        ]
    if len(errors) == 2:
        console.error(f"dns lookup errors: {errors[0]} and {errors[1]}")
        raise Exit(EXIT_ERROR)
    facts = {"srv-server": domain, "endpoints": [f"{scheme}://{remote.address}" for scheme, remote in remotes]}
    _log.info("discovered cluster from SRV", extra=facts)
    if flags.on("insecure-discovery"):
        return remotes
    _log.info("validating discovered SRV endpoints", extra=facts)
    return [(scheme, remote) for scheme, remote in remotes if scheme == "https" and _is_trusted(remote, domain, ca)]


def _is_trusted(remote: Remote, domain: str, ca: str) -> bool:
    """Whether it shows a certificate for the domain."""
    from balsad.client.tls import client_context

    try:
        context = client_context(cacert=ca)
        with (
            socket.create_connection((remote.host, remote.port), timeout=5.0) as plain,
            context.wrap_socket(plain, server_hostname=domain),
        ):
            return True
    except (OSError, ValueError) as error:
        facts = {"address": remote.address, "error": str(error)}
        _log.warning("failed to validate discovered endpoints", extra=facts)
        return False
