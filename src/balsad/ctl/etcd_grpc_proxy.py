"""`etcd grpc-proxy start`: flags of a gRPC proxy in front of the members.

Source: etcd server/etcdmain/grpc_proxy.go.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NoReturn

from balsad.ctl.command import Command
from balsad.ctl.console import EXIT_ERROR, Console, Exit
from balsad.ctl.etcd_command import run
from balsad.ctl.etcd_gateway import discovered_endpoints
from balsad.ctl.flags import Flag, FlagSet
from balsad.ctl.grpc_proxy_flags import FLAGS
from balsad.go_quote import quote_go
from balsad.observe import get_logger, logs

if TYPE_CHECKING:
    from ssl import SSLContext

    from balsad.proxy import Settings
    from balsad.transport import ServerTls

_log = get_logger("balsad.main")
_UNSUPPORTED: Final = ("experimental-leasing-prefix",)


def make_root() -> Command:
    start = Command(
        "start",
        "start the grpc proxy",
        run="start",
        flags=[Flag(kind, name, default, text) for kind, name, default, text in FLAGS],
    )
    proxy = Command("grpc-proxy <subcommand>", "grpc-proxy related command", commands=[start], flags_in_use_line=False)
    return Command("etcd", "etcd server", commands=[proxy])


def main(arguments: Sequence[str]) -> None:
    """Run `etcd grpc-proxy ...` and end the process."""
    run(make_root(), arguments, _start)


def _start(command: Command, console: Console) -> None:
    flags = command.merged_flags
    problem = _problem(flags)
    if problem:
        _fail(console, problem)
    logs.set_up(level="debug" if flags.on("debug") else "info")
    from balsad.config import StartError
    from balsad.env.descriptors import raise_descriptor_limit
    from balsad.env.heap import keep_freed_memory
    from balsad.proxy import serve

    # A client takes one, and there may be thousands.
    raise_descriptor_limit()
    keep_freed_memory()
    try:
        settings = _settings(flags, console)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(serve(settings))
    except StartError as error:
        _fail(console, str(error))


def _problem(flags: FlagSet) -> str:
    """What is wrong with the flags together. Source: checkArgs."""
    prefix, ttl = flags.text("resolver-prefix"), flags.number("resolver-ttl")
    if prefix and ttl < 1:
        return f"invalid resolver-ttl {ttl}"
    if not prefix and ttl > 0:
        return f"invalid resolver-prefix {quote_go(prefix)}"
    if prefix and ttl > 0 and not flags.text("advertise-client-url"):
        return f"invalid advertise-client-url {quote_go('')}"
    if flags.on("auto-tls") and not flags.number("self-signed-cert-validity"):
        return "selfSignedCertValidity is invalid,it should be greater than 0"
    for name in _UNSUPPORTED:
        if flags.flags[name].value:
            return f"--{name} is not supported by balsad's grpc-proxy: start it without"
    return ""


def _fail(console: Console, text: str) -> NoReturn:
    console.error(text)
    raise Exit(EXIT_ERROR)


def _settings(flags: FlagSet, console: Console) -> Settings:
    """Raises: StartError."""
    from balsad.proxy import Settings

    client_tls, scrape_tls = _client_tls(flags)
    tls = _server_tls(flags)
    return Settings(
        listen_address=flags.text("listen-addr"),
        endpoints=tuple(discovered_endpoints(flags, console, flags.text("cacert")) or flags.texts("endpoints")),
        advertise_client_url=flags.text("advertise-client-url"),
        resolver_prefix=flags.text("resolver-prefix"),
        resolver_ttl_s=flags.number("resolver-ttl"),
        namespace=flags.text("namespace").encode("utf-8", "surrogateescape"),
        metrics_url=flags.text("metrics-addr"),
        # As for etcd's client, nothing or less means its own limit.
        send_bytes_max=flags.number("max-send-bytes") if flags.number("max-send-bytes") > 0 else 2 << 20,
        receive_bytes_max=flags.number("max-recv-bytes") if flags.number("max-recv-bytes") > 0 else 0x7FFFFFFF,
        keepalive_min_time_s=flags.seconds("grpc-keepalive-min-time"),
        keepalive_interval_s=flags.seconds("grpc-keepalive-interval") or 7200.0,
        keepalive_timeout_s=flags.seconds("grpc-keepalive-timeout") or 20.0,
        tls=tls,
        client_tls=client_tls,
        scrape_tls=scrape_tls,
        proxy_tls=_own_client_tls(tls, flags.on("auto-tls")),
        enable_pprof=flags.on("enable-pprof"),
        is_ordered=flags.on("experimental-serializable-ordering"),
    )


def _client_tls(flags: FlagSet) -> tuple[SSLContext | None, SSLContext | None]:
    """Towards members: for gRPC, and for their pages."""
    ca, cert, key = flags.text("cacert"), flags.text("cert"), flags.text("key")
    skips = flags.on("insecure-skip-tls-verify")
    if not (ca or cert or key or skips):
        return None, None
    if skips:
        _log.warning(
            "--insecure-skip-tls-verify was given, this grpc proxy process skips authentication of etcd server TLS "
            "certificates. This option should be enabled only for testing purposes."
        )
    context = _context(ca, cert, key, skips, is_nameless=True)
    pages = _context(ca, cert, key, skips)
    pages.set_alpn_protocols(["http/1.1"])
    return context, pages


def _context(ca: str, cert: str, key: str, skips: bool = False, *, is_nameless: bool = False) -> SSLContext:
    """Raises: StartError."""
    from balsad.client.tls import client_context
    from balsad.config import StartError

    if bool(cert) != bool(key):
        raise StartError(f"KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")
    try:
        if cert and is_nameless:
            _check_nameless(cert)
        return client_context(cacert=ca, cert=cert, key=key, insecure_skip_verify=skips)
    except OSError as error:
        raise StartError(_reason(error, ca, cert, key)) from None


def _check_nameless(cert: str) -> None:
    """To members all clients of a proxy are who its certificate says: that must be nobody. Raises: StartError."""
    from balsad.config import StartError

    try:
        from cryptography import x509
        from cryptography.x509.oid import NameOID
    except ImportError:
        return
    with open(cert, "rb") as file:
        try:
            subject = x509.load_pem_x509_certificate(file.read()).subject
        except ValueError as error:
            raise StartError(f"cannot use {cert}: {error}") from None
    for name in subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        if isinstance(name.value, str) and name.value:
            raise StartError(f"cert has non empty Common Name ({name.value}): {cert}")


def _reason(error: OSError, *paths: str) -> str:
    for path in paths:
        if path and not os.path.exists(path):
            return f"open {path}: no such file or directory"
    return f"cannot use {' '.join(path for path in paths if path)}: {error.strerror or error}"


def _server_tls(flags: FlagSet) -> ServerTls | None:
    """Towards clients. Raises: StartError."""
    from balsad.config import StartError
    from balsad.transport import RevocationList, ServerTls

    ca, cert, key = flags.text("trusted-ca-file"), flags.text("cert-file"), flags.text("key-file")
    if not (ca or cert or key):
        if not flags.on("auto-tls"):
            return None
        from balsad.env.real import real_env
        from balsad.peer import self_signed

        env = real_env()
        host = flags.text("listen-addr").rpartition(":")[0].strip("[]")
        folder = os.path.join(flags.text("data-dir"), "fixtures", "proxy")
        years = flags.number("self-signed-cert-validity")
        cert, key = self_signed(env.disk, env.clock.time(), folder, [host], years)
    if not (cert and key):
        raise StartError(f"KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")
    for path in (ca, cert, key, flags.text("client-crl-file")):
        if path and not os.path.exists(path):
            raise StartError(f"open {path}: no such file or directory")
    _log.info("gRPC proxy server TLS", extra={"cert": cert, "key": key, "trusted-ca": ca})
    revoked = flags.text("client-crl-file")
    revocations = RevocationList(revoked) if revoked else None
    return ServerTls(cert_file=cert, key_file=key, trusted_ca_file=ca, revocations=revocations)


def _own_client_tls(tls: ServerTls | None, is_self_signed: bool) -> SSLContext | None:
    """For the proxy as a client of itself: it shows its own certificate, and trusts what clients shall show."""
    if tls is None:
        return None
    return _context(tls.trusted_ca_file, tls.cert_file, tls.key_file, is_self_signed)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
