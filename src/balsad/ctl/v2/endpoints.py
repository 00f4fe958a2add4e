"""Requests to whichever endpoint answers, as etcd's v2 client makes them.

    the endpoints in chance order, beginning with the one that answered last
        no answer, or a 5xx  ->  remembered, the next one is tried (not for what must not happen twice)
        an answer            ->  the result, whatever its status
        nobody answered      ->  ClusterError with what each of them said

Source: etcd client/v2/client.go, cluster_error.go, curl.go.
"""

from __future__ import annotations

import http.client
import random
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from balsad.go_quote import quote_go

_PATH_SAFE: Final = "/$&+,:;=@-_.~"
_REDIRECTS_MAX: Final = 10
_UNKNOWN_AUTHORITY: Final = frozenset((18, 19, 20, 21))
_EXPIRED: Final = 10
FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"


class V2ClientError(Exception):
    """What went wrong, in the words of etcd's v2 client."""


class NoEndpointsError(V2ClientError):
    def __init__(self) -> None:
        super().__init__("client: no endpoints available")


class DeadlineError(V2ClientError):
    """--total-timeout is over."""

    def __init__(self) -> None:
        super().__init__("context deadline exceeded")


class EndpointError(V2ClientError):
    """What one endpoint said, or why it said nothing; `is_connection` if it could not be reached at all."""

    def __init__(self, text: str, *, is_connection: bool = False) -> None:
        super().__init__(text)
        self.is_connection = is_connection


class ClusterError(V2ClientError):
    """None of the endpoints answered."""

    def __init__(self, errors: list[EndpointError]) -> None:
        self.errors = errors
        listed = "".join(f"; error #{number}: {error}\n" for number, error in enumerate(errors))
        super().__init__(f"client: etcd cluster is unavailable or misconfigured{listed}")

    @property
    def detail(self) -> str:
        return "".join(f"error #{number}: {error}\n" for number, error in enumerate(self.errors))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`once`: it is not asked of another endpoint when one gave no answer. `waits`: the answer may take for ever."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    content_type: str = ""
    once: bool = False
    waits: bool = False

    def target(self, base_path: str) -> str:
        path = quote(clean_path(base_path + self.path), safe=_PATH_SAFE, errors="surrogateescape")
        query = urlencode(sorted(self.query.items()), errors="surrogateescape")
        return f"{path}?{query}" if query else path


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    etcd_index: int
    body: bytes


def clean_path(path: str) -> str:
    """A path without `.`, `..` and double slashes; one slash at its end stays. Source: etcd pkg/pathutil."""
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del kept[-1:]
        elif part not in ("", "."):
            kept.append(part)
    cleaned = "/" + "/".join(kept)
    return cleaned + "/" if path.endswith("/") and cleaned != "/" else cleaned


class Endpoints:
    """The endpoints of a cluster, of which one at a time is asked. `say` takes what --debug shows."""

    def __init__(
        self,
        urls: Iterable[str],
        *,
        tls: Callable[[], ssl.SSLContext],
        header_timeout_s: float,
        user: tuple[str, str] | None = None,
        server_name: str = "",
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._tls = tls
        self._header_timeout_s = header_timeout_s
        self._user = user
        self._server_name = server_name
        self._say = say
        self._pinned = 0
        self.urls: list[str] = []
        self.set_urls(urls)

    def set_urls(self, urls: Iterable[str]) -> None:
        """Raises NoEndpointsError."""
        found = list(urls)
        if not found:
            raise NoEndpointsError
        if sorted(found) == sorted(self.urls):
            return
        random.shuffle(found)
        self.urls = found
        self._pinned = 0

    def ask(self, request: Request, deadline: float | None) -> Answer:
        """`deadline` on time.monotonic. Raises V2ClientError."""
        errors: list[EndpointError] = []
        count = len(self.urls)
        for step in range(self._pinned, self._pinned + count):
            url = self.urls[step % count]
            try:
                answer = self._ask_one(url, request, deadline)
            except EndpointError as error:
                errors.append(error)
            else:
                if answer.status // 100 != 5:
                    self._pinned = step % count
                    return answer
                what = "has no leader"
                if answer.status not in (500, 503):
                    what = f"returns server error [{http.client.responses.get(answer.status, '')}]"
                errors.append(EndpointError(f"client: etcd member {url} {what}"))
            if request.once:
                self._pinned = (step + 1) % count
                # As etcd's client: it then says what the first of them said.
                raise errors[0]
        raise ClusterError(errors)

    def _ask_one(self, url: str, request: Request, deadline: float | None) -> Answer:
        target = ""
        for _ in range(_REDIRECTS_MAX + 1):
            status, headers, body = self._exchange(url, target, request, deadline)
            if status // 100 != 3:
                return Answer(status, int(headers.get("X-Etcd-Index") or "0"), body)
            location = headers.get("Location")
            if not location:
                raise EndpointError("location header not set")
            parts = urlsplit(location)
            if parts.netloc:
                url = f"{parts.scheme}://{parts.netloc}"
            target = parts.path + (f"?{parts.query}" if parts.query else "")
        raise EndpointError("client: too many redirects")

    def _exchange(
        self, url: str, target: str, request: Request, deadline: float | None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        parts = urlsplit(url)
        target = target or request.target(parts.path)
        if self._say is not None:
            data = "" if request.body is None else f" -d {quote_go(request.body)}"
            self._say(f"cURL Command: curl -X {request.method} {parts.scheme}://{parts.netloc}{target}{data}")
        headers: dict[str, str] = {}
        if request.content_type:
            headers["Content-Type"] = request.content_type
        if self._user is not None:
            pair = ":".join(self._user).encode("utf-8", "surrogateescape")
            headers["Authorization"] = f"Basic {b64encode(pair).decode()}"
        header_deadline = None
        if self._header_timeout_s > 0 and not request.waits:
            header_deadline = time.monotonic() + self._header_timeout_s
        connection = _open(parts.scheme, parts.netloc, self._tls, self._server_name)
        body = None if request.body is None else request.body.encode("utf-8", "surrogateescape")
        try:
            connection.timeout = _left(url, deadline, header_deadline)
            connection.request(request.method, target, body=body, headers=headers)
            connection.sock.settimeout(_left(url, deadline, header_deadline))
            response = connection.getresponse()
            if deadline is not None and connection.sock is not None:
                connection.sock.settimeout(_left(url, deadline, None))
            return response.status, response.headers, response.read()
        except TimeoutError as error:
            _left(url, deadline, header_deadline, over=True)
            raise EndpointError("i/o timeout", is_connection=True) from error
        except http.client.RemoteDisconnected as error:
            raise EndpointError("EOF") from error
        except http.client.IncompleteRead as error:
            raise EndpointError("unexpected EOF") from error
        except http.client.HTTPException as error:
            raise EndpointError(f"net/http: HTTP/1.x transport connection broken: {error}") from error
        except (OSError, ValueError) as error:
            raise _endpoint_error(error, parts.netloc) from error
        finally:
            connection.close()


def fetch(url: str, *, tls: Callable[[], ssl.SSLContext], timeout_s: float, server_name: str = "") -> bytes:
    """The body of a page, whatever its status. Raises EndpointError in the words of Go's http.Get."""
    endpoints = Endpoints([url], tls=tls, header_timeout_s=0, server_name=server_name)
    try:
        return endpoints.ask(Request(method="GET", path=""), time.monotonic() + timeout_s).body
    except ClusterError as error:
        raise EndpointError(f"Get {quote_go(url)}: {error.errors[0]}") from error
    except DeadlineError as error:
        host = urlsplit(url).netloc
        raise EndpointError(f"Get {quote_go(url)}: dial tcp {host}: i/o timeout") from error


def _left(url: str, deadline: float | None, header_deadline: float | None, *, over: bool = False) -> float | None:
    """Seconds until the nearer of the two, None without any. Raises when it is over, or `over` says so."""
    now = time.monotonic()
    slack = 0.05 if over else 0.0
    if deadline is not None and now >= deadline - slack:
        raise DeadlineError
    if header_deadline is not None and now >= header_deadline - slack:
        raise EndpointError(f"client: endpoint {url} exceeded header timeout")
    ends = [end for end in (deadline, header_deadline) if end is not None]
    return min(ends) - now if ends else None


def _open(scheme: str, host: str, tls: Callable[[], ssl.SSLContext], server_name: str) -> http.client.HTTPConnection:
    """Raises EndpointError for what is no address."""
    try:
        if scheme == "https":
            return _TlsConnection(host, tls(), server_name)
        if scheme == "http" and host:
            return http.client.HTTPConnection(host)
    except http.client.InvalidURL as error:
        raise EndpointError(str(error)) from error
    if not host and scheme == "http":
        raise EndpointError("http: no Host in request URL")
    raise EndpointError(f"unsupported protocol scheme {quote_go(scheme)}")


class _TlsConnection(http.client.HTTPConnection):
    default_port = http.client.HTTPS_PORT

    def __init__(self, host: str, context: ssl.SSLContext, server_name: str) -> None:
        super().__init__(host)
        self._context = context
        self._server_name = server_name

    def connect(self) -> None:
        super().connect()
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self._server_name or self.host)


def _endpoint_error(error: OSError | ValueError, host: str) -> EndpointError:
    """What Go would have said."""
    name = host if ":" in host.rpartition("]")[2] else f"{host}:80"
    if isinstance(error, ssl.SSLCertVerificationError):
        return EndpointError(_certificate_error(error, host))
    if isinstance(error, ssl.SSLError):
        reason = error.reason or str(error)
        if "EOF" in reason:
            return EndpointError("EOF")
        if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
            return EndpointError("http: server gave HTTP response to HTTPS client")
        for alert, words in (("BAD_CERTIFICATE", "bad certificate"), ("CERTIFICATE_REQUIRED", "certificate required")):
            if alert in reason:
                return EndpointError(f"remote error: tls: {words}")
        return EndpointError(f"tls: {reason}")
    if isinstance(error, socket.gaierror):
        return EndpointError(f"dial tcp: lookup {name.rpartition(':')[0]}: no such host", is_connection=True)
    if isinstance(error, ConnectionResetError):
        return EndpointError("read: connection reset by peer", is_connection=True)
    if isinstance(error, BrokenPipeError):
        return EndpointError("write: broken pipe")
    if isinstance(error, OSError):
        text = (error.strerror or str(error)).lower()
        return EndpointError(f"dial tcp {name}: connect: {text}", is_connection=True)
    return EndpointError(str(error))


def _certificate_error(error: ssl.SSLCertVerificationError, host: str) -> str:
    if error.verify_code in _UNKNOWN_AUTHORITY:
        return "x509: certificate signed by unknown authority"
    if error.verify_code == _EXPIRED:
        return "x509: certificate has expired or is not yet valid"
    bare = host.rpartition(":")[0].strip("[]")
    if "IP address mismatch" in error.verify_message:
        return f"x509: cannot validate certificate for {bare} because it doesn't contain any IP SANs"
    if "Hostname mismatch" in error.verify_message:
        return f"x509: certificate is not valid for {bare}"
    return f"x509: {error.verify_message}"
