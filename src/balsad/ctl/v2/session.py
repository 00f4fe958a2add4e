"""What a v2 command works with: its flags, the environment, and the endpoints they describe.

Source: etcd etcdctl/ctlv2/command/util.go, error.go.
"""

from __future__ import annotations

import os
import ssl
import time
from typing import Final, NoReturn
from urllib.parse import urlsplit

from balsad.ctl.console import EXIT_BAD_ARGS, EXIT_BAD_CONNECTION, EXIT_BAD_FEATURE, EXIT_ERROR, Console, Exit, Failure
from balsad.ctl.v2.app import Invocation
from balsad.ctl.v2.endpoints import (
    Answer,
    ClusterError,
    DeadlineError,
    EndpointError,
    Endpoints,
    NoEndpointsError,
    Request,
    V2ClientError,
)
from balsad.go_quote import quote_go

EXIT_SERVER_ERROR: Final = EXIT_BAD_FEATURE
_DEFAULT_ENDPOINTS: Final = "http://127.0.0.1:2379,http://127.0.0.1:4001"
_DIAL_TIMEOUT_S: Final = 30.0


class Session:
    """One run of one command."""

    def __init__(self, console: Console, invocation: Invocation) -> None:
        self.console = console
        self.globals = invocation.global_flags
        self.flags = invocation.flags
        self.args = invocation.args
        self._tls_context: ssl.SSLContext | None = None

    @property
    def output(self) -> str:
        return self.globals.text("output")

    # ---- ways to end

    def fail(self, error: V2ClientError | str, status: int = EXIT_SERVER_ERROR) -> NoReturn:
        """End the command as etcd's handleError does."""
        self.console.error(f"Error:  {error}")
        if isinstance(error, ClusterError):
            self.console.error(error.detail)
        raise Exit(status)

    def give_up(self, text: object) -> NoReturn:
        """End the command with nothing but a line."""
        self.console.error(str(text))
        raise Exit(EXIT_ERROR)

    def key(self) -> str:
        """The first argument."""
        if not self.args:
            self.fail("key required", EXIT_BAD_ARGS)
        return self.args[0]

    # ---- asking

    def deadline(self) -> float:
        """When --total-timeout, which begins now, is over."""
        return time.monotonic() + self.globals.seconds("total-timeout")

    def ask(self, endpoints: Endpoints, request: Request, deadline: float | None = None) -> Answer:
        """Raises V2ClientError."""
        return endpoints.ask(request, self.deadline() if deadline is None else deadline)

    def connect(self) -> Endpoints:
        """The endpoints, as their members publish them unless --no-sync forbids to ask."""
        endpoints = self.unsynced()
        debug = self.globals.on("debug")
        if not self.globals.on("no-sync"):
            if debug:
                self.console.error(f"start to sync cluster using endpoints({','.join(endpoints.urls)})")
            self._sync(endpoints)
            if debug:
                self.console.error(f"got endpoints({','.join(endpoints.urls)}) after sync")
        if debug:
            self.console.error(f"Cluster-Endpoints: {', '.join(endpoints.urls)}")
        return endpoints

    def connect_for_auth(self) -> Endpoints:
        endpoints = self.connect()
        if self.globals.on("debug"):
            self.console.error(f"Cluster-Endpoints: {', '.join(endpoints.urls)}")
        return endpoints

    def _sync(self, endpoints: Endpoints) -> None:
        from balsad.ctl.v2.members import list_members

        try:
            members = list_members(self, endpoints)
            endpoints.set_urls(url for member in members for url in member.client_urls)
        except NoEndpointsError as error:
            self.console.error("etcd cluster has no published client endpoints.")
            listed = ",".join(endpoints.urls)
            self.console.error(f"Try '--no-sync' if you want to access non-published client endpoints({listed}).")
            self.fail(error)
        except DeadlineError as error:
            self.fail(error, EXIT_BAD_CONNECTION)
        except ClusterError as error:
            if all(one.is_connection for one in error.errors):
                self.fail(error, EXIT_BAD_CONNECTION)
        except V2ClientError:
            # Who does not say who is there may still answer what is asked.
            pass

    def unsynced(self) -> Endpoints:
        """The endpoints as flags and environment name them."""
        try:
            urls = [_as_url(text) for text in self._endpoint_texts()]
            self.check_tls_files()
        except (V2ClientError, Failure) as error:
            self.give_up(error.text if isinstance(error, Failure) else error)
        named = self.globals.text("username") or os.environ.get("ETCDCTL_USERNAME", "")
        return Endpoints(
            urls,
            tls=self.tls,
            header_timeout_s=self.globals.seconds("timeout"),
            user=self.user_and_password("Password: ", named) if named else None,
            server_name=self.server_name,
            say=self.console.error if self.globals.on("debug") else None,
        )

    def user_and_password(self, prompt: str, text: str) -> tuple[str, str]:
        """Of `name[:password]`; asks for a password that is missing."""
        name, colon, password = text.partition(":")
        if not colon:
            from balsad.ctl.password import ask

            password = ask(self.console, prompt)
        return name, password

    # ---- flags and environment

    def _endpoint_texts(self) -> list[str]:
        domain = self._discovery_domain()
        if domain:
            from balsad.ctl.discovery import find_endpoints

            found = find_endpoints(
                self.console,
                domain,
                os.environ.get("ETCDCTL_DISCOVERY_SRV_NAME", ""),
                allow_insecure=self._insecure_discovery(),
            )
            if found:
                return found
        for flag in ("endpoints", "endpoint", "peers"):
            text = self.globals.text(flag) or os.environ.get(f"ETCDCTL_{flag.upper()}", "")
            if text:
                return text.split(",")
        return _DEFAULT_ENDPOINTS.split(",")

    def _discovery_domain(self) -> str:
        return self.globals.text("discovery-srv") or os.environ.get("ETCDCTL_DISCOVERY_SRV", "")

    def _insecure_discovery(self) -> bool:
        return self.globals.on("insecure-discovery") or bool(os.environ.get("ETCDCTL_INSECURE_DISCOVERY"))

    @property
    def server_name(self) -> str:
        return "" if self._insecure_discovery() else self._discovery_domain()

    @property
    def dial_timeout_s(self) -> float:
        return min(self.globals.seconds("total-timeout") or _DIAL_TIMEOUT_S, _DIAL_TIMEOUT_S)

    def _tls_files(self) -> list[str]:
        return [
            self.globals.text(f"{name}-file") or os.environ.get(f"ETCDCTL_{name.upper()}_FILE", "")
            for name in ("cert", "key", "ca")
        ]

    def check_tls_files(self) -> None:
        """Raises Failure for a file that is none. Without files nothing of TLS is loaded before it is needed."""
        if any(self._tls_files()):
            self.tls()

    def tls(self) -> ssl.SSLContext:
        """Made of the certificate flags, once. Raises Failure for a file that is none."""
        if self._tls_context is None:
            from balsad.ctl.context import make_tls

            cert, key, authority = self._tls_files()
            self._tls_context = make_tls(cert, key, authority, insecure_skip_verify=False)
            self._tls_context.set_alpn_protocols(["http/1.1"])
        return self._tls_context


def _as_url(text: str) -> str:
    """An endpoint as Go's url.Parse and String make it. Raises EndpointError."""
    first = text.partition("/")[0]
    scheme = text.partition(":")[0]
    if ":" in first and not (scheme.isascii() and scheme[:1].isalpha() and scheme.replace("+", "a").isalnum()):
        raise EndpointError(f"parse {quote_go(text)}: first path segment in URL cannot contain colon")
    if "://" in text:
        parts = urlsplit(text)
        port = parts.netloc.rpartition("]")[2].partition(":")[2]
        if port and not port.isdigit():
            raise EndpointError(f"parse {quote_go(text)}: invalid port {quote_go(':' + port)} after host")
        return text
    return text if ":" in first else f"http://{text}"
