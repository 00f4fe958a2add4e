"""What a command of etcdctl works with: its flags, the client they describe, the printer, the clock.

Flags that were not given are taken from ETCDCTL_* as soon as a client is
needed, not before: `etcdctl version` cares for none of them.

Source: etcd etcdctl/ctlv3/command/global.go, pkg/flags/flag.go.
"""

from __future__ import annotations

import os
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from balsad.client.loops import SmallLoop
from balsad.ctl.console import (
    EXIT_BAD_ARGS,
    EXIT_BAD_CONNECTION,
    EXIT_BAD_FEATURE,
    EXIT_ERROR,
    Console,
    Exit,
    Failure,
)
from balsad.ctl.flags import STRING, Flag, FlagSet

if TYPE_CHECKING:
    from ssl import SSLContext

    from balsad.client.client import Client
    from balsad.client.grpc_status import Status
    from balsad.ctl.command import Command
    from balsad.ctl.printers.base import Printer

T = TypeVar("T")
_PREFIX = "ETCDCTL_"
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


class ClientSettings:
    """What the flags say of the client."""

    __slots__ = (
        "dial_timeout_s",
        "endpoints",
        "keepalive_time_s",
        "keepalive_timeout_s",
        "password",
        "server_name",
        "tls",
        "user",
    )

    def __init__(self) -> None:
        self.endpoints: list[str] = []
        self.user = ""
        self.password = ""
        self.tls: SSLContext | None = None
        self.server_name = ""
        self.dial_timeout_s = 0.0
        self.keepalive_time_s = 0.0
        self.keepalive_timeout_s = 0.0


class Context:
    """One run of one command."""

    def __init__(self, command: Command, console: Console) -> None:
        self.command = command
        self.console = console
        self.flags: FlagSet = command.merged_flags
        self.loop = SmallLoop()
        self.loop.before_wait = console.flush
        self._deadline: float | None = None
        self._printer: Printer | None = None
        self._called = (0, "")  # the client, and its first endpoint

    # ---- waiting

    def call(self, call: Coroutine[Any, Any, T], *, status: int = EXIT_ERROR, text: str = "%s") -> T:
        """Run a coroutine; a refused call ends the command with `status` and `text`."""
        try:
            return self.loop.run(call)
        except Exit:
            raise
        except Exception as error:
            self.check_refusal(error)
            raise Failure(status, text % (error,)) from error

    def check_refusal(self, error: Exception) -> None:
        """Raise what is no refusal; of a call that reached nobody, log why."""
        from balsad.client.errors import CallTimeoutError
        from balsad.errors import RequestError

        if not isinstance(error, RequestError):
            raise error
        if isinstance(error, CallTimeoutError) and error.__cause__ is not None:
            from balsad.ctl.logs import log_failure, unreachable

            log_failure(self.console, *self._called, 0, unreachable(error.__cause__))

    def start_timeout(self) -> None:
        """Begin the time that --command-timeout gives."""
        self._deadline = self.loop.time() + self.flags.seconds("command-timeout")

    @property
    def left(self) -> float:
        """Seconds left of --command-timeout."""
        if self._deadline is None:
            self.start_timeout()
        assert self._deadline is not None
        return max(0.0, self._deadline - self.loop.time())

    # ---- the client

    def client(self) -> Client:
        """A client as the flags describe it, with its token if there is a user."""
        return self.connect(self.settings())

    def settings(self) -> ClientSettings:
        """Read flags and environment; sets the printer too."""
        self.read_environment()
        if self.flags.on("debug"):
            for flag in self.command.inherited_flags.in_order():
                self.console.error(f"{_env_name(flag.name)}={flag.text()}")
        settings = ClientSettings()
        settings.endpoints = self.endpoints()
        self.set_times(settings)
        self.check_file_flags()
        settings.user, settings.password = self.user_and_password()
        self.set_printer()
        self.set_tls(settings)
        return settings

    def settings_without_user(self) -> ClientSettings:
        """The same without asking for a password and without a printer, for calls that need no user."""
        settings = ClientSettings()
        settings.endpoints = self.endpoints()
        self.set_times(settings)
        self.set_tls(settings)
        return settings

    def set_times(self, settings: ClientSettings) -> None:
        settings.dial_timeout_s = self.flags.seconds("dial-timeout")
        settings.keepalive_time_s = self.flags.seconds("keepalive-time")
        settings.keepalive_timeout_s = self.flags.seconds("keepalive-timeout")

    def connect(self, settings: ClientSettings, *, either_mode: bool = True) -> Client:
        """A client of these settings; a refused user or an unreachable server ends the command."""
        if not settings.endpoints:
            raise Failure(EXIT_BAD_CONNECTION, "etcdclient: no available endpoints")
        client = self.make_client(settings, either_mode=either_mode)
        if settings.user and settings.password:
            self.call(client.connect(), status=EXIT_BAD_CONNECTION)
        return client

    def make_client(self, settings: ClientSettings, *, either_mode: bool = True) -> Client:
        """A client that has not yet asked for a token."""
        from balsad.client.client import Client

        client = Client(
            settings.endpoints,
            user=settings.user,
            password=settings.password,
            tls=settings.tls,
            dial_timeout_s=settings.dial_timeout_s or None,
            keepalive_time_s=settings.keepalive_time_s,
            keepalive_timeout_s=settings.keepalive_timeout_s,
            loop=self.loop,
            either_mode=either_mode,
            server_name=settings.server_name,
        )
        self._called = (id(client), settings.endpoints[0])
        client.channel.on_failure = self._on_failure
        return client

    def _on_failure(self, attempt: int, status: Status) -> None:
        from balsad.client.errors import RpcError
        from balsad.ctl.logs import log_failure

        log_failure(self.console, *self._called, attempt, str(RpcError(status.code, status.text)))

    def endpoints(self) -> list[str]:
        """--endpoints, or what --discovery-srv finds."""
        domain = self.flags.text("discovery-srv")
        if domain:
            from balsad.ctl.discovery import find_endpoints

            found = find_endpoints(
                self.console,
                domain,
                self.flags.text("discovery-srv-name"),
                allow_insecure=self.flags.on("insecure-discovery"),
            )
            if found:
                return found
        return [endpoint.strip() for endpoint in self.flags.texts("endpoints")]

    def set_tls(self, settings: ClientSettings) -> None:
        """Who was found by DNS, and not believed without a certificate, must be of the domain that was asked."""
        if not self.flags.on("insecure-discovery"):
            settings.server_name = self.flags.text("discovery-srv")
        settings.tls = self.tls(settings.endpoints)
        if settings.tls is None and settings.server_name:
            settings.tls = make_tls("", "", "", insecure_skip_verify=self.flags.on("insecure-skip-tls-verify"))

    def check_file_flags(self) -> None:
        for name in ("cert", "key", "cacert"):
            if self.flags.flags[name].changed and not self.flags.text(name):
                raise Failure(EXIT_BAD_ARGS, f"empty string is passed to --{name} option")

    def tls(self, endpoints: list[str]) -> SSLContext | None:
        """The TLS context of the flags; None when none of them asks for TLS."""
        cert, key, cacert = (self.flags.text(name) for name in ("cert", "key", "cacert"))
        skip = self.flags.on("insecure-skip-tls-verify")
        wanted = bool(cert or key or cacert) or not self.flags.on("insecure-transport")
        if not wanted and not (skip and all(one.startswith(("https:", "unixs:")) for one in endpoints)):
            return None
        return make_tls(cert, key, cacert, insecure_skip_verify=skip)

    def user_and_password(self) -> tuple[str, str]:
        return split_user(self, self.flags.text("user"), self.flags.text("password"), "Password: ")

    # ---- printing

    @property
    def printer(self) -> Printer:
        assert self._printer is not None, "the printer is set with the client"
        return self._printer

    def set_printer(self) -> None:
        """Make the printer that --write-out names."""
        from balsad.ctl.printers import make_printer

        name = self.flags.text("write-out")
        self._printer = make_printer(name, self.console, self.flags.on("hex"))
        if self._printer is None:
            raise Failure(EXIT_BAD_FEATURE, "unsupported output format")

    # ---- environment

    def read_environment(self) -> None:
        """Take flags that were not given from ETCDCTL_*; a flag given twice ends the command."""
        flags = self.command.inherited_flags
        if self.command.name == "watch":
            # Watch reads these two itself; they only must not be called unknown.
            for name in ("watch-key", "watch-range-end"):
                flags.add(Flag(STRING, name, "", ""))
        read_environment(flags, self.console)


def read_environment(flags: FlagSet, console: Console) -> None:
    """Set flags from the environment. Raises Exit when a variable conflicts with a flag."""
    used: set[str] = set()
    given: set[str] = set()
    for flag in flags.in_order():
        name = _env_name(flag.name)
        value = os.environ.get(name, "")
        if flag.changed:
            given.add(name)
        elif value:
            used.add(name)
            try:
                flag.set(value)
            except ValueError:
                # etcdctl goes on with what a failed parse leaves behind.
                continue
    for name, value in os.environ.items():
        if name in used or not name.startswith(_PREFIX):
            continue
        from balsad.ctl.logs import log

        if name in given:
            log(
                console,
                "fatal",
                "flags/flag.go:85",
                "conflicting environment variable is shadowed by corresponding command-line flag "
                "(either unset environment variable or disable flag))",
                {"environment-variable": name},
            )
            raise Exit(EXIT_ERROR)
        log(
            console,
            "warn",
            "flags/flag.go:93",
            "unrecognized environment variable",
            {"environment-variable": f"{name}={value}"},
        )


def _env_name(flag_name: str) -> str:
    return _PREFIX + flag_name.replace("-", "_").upper()


def make_tls(cert: str, key: str, cacert: str, *, insecure_skip_verify: bool) -> SSLContext:
    """A TLS context from files; a file that is none ends the command."""
    import ssl

    from balsad.client.tls import client_context

    if bool(cert) != bool(key):
        raise Failure(EXIT_BAD_ARGS, f"KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")
    for path, what, mark in ((cert, "certificate", _CERTIFICATE), (key, "key", b"-----BEGIN"), (cacert, "", b"")):
        if path and mark not in _read_file(path):
            raise Failure(EXIT_BAD_ARGS, f"tls: failed to find any PEM data in {what} input")
    if key and b"PRIVATE KEY-----" not in _read_file(key) and _CERTIFICATE in _read_file(key):
        raise Failure(EXIT_BAD_ARGS, "tls: found a certificate rather than a key in the PEM for the private key")
    try:
        if cacert and _CERTIFICATE not in _read_file(cacert):
            # Go takes this for a list of no authorities: nobody is trusted.
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return client_context(cacert=cacert, cert=cert, key=key, insecure_skip_verify=insecure_skip_verify)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise Failure(EXIT_BAD_ARGS, "tls: private key does not match public key") from error
        raise Failure(EXIT_BAD_ARGS, f"tls: {error}") from error


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except IsADirectoryError as error:
        raise Failure(EXIT_BAD_ARGS, f"read {path}: {go_strerror(error)}") from error
    except OSError as error:
        raise Failure(EXIT_BAD_ARGS, f"open {path}: {go_strerror(error)}") from error


def go_strerror(error: OSError) -> str:
    """An operating system error in Go's words, which begin in lower case."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]


def split_user(context: Context, user: str, password: str, prompt: str) -> tuple[str, str]:
    """Name and password of `name[:password]`; asks for a password that is missing."""
    if not user or password:
        return user, password if user else ""
    name, colon, inline = user.partition(":")
    if colon:
        return name, inline
    from balsad.ctl.password import ask

    return user, ask(context.console, prompt)
