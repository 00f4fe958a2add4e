"""Who asks, and whether they may: what every edge asks before it serves a request while authentication is on.

A token names a user; without one, the common name of a client certificate does,
if `--client-cert-auth` is set. A simple token says in which log entry it was
made: a member that has not applied that entry yet lets the request wait.

A token that nobody has is refused while authentication is off, too: all simple ones are, then.

Source: etcd server/etcdserver/v3_server.go (AuthInfoFromCtx, doSerialize), server/auth/store.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from balsad.auth import ANONYMOUS, ROOT, Identity
from balsad.errors import (
    AuthOldRevisionError,
    InvalidAuthTokenError,
    PermissionDeniedError,
    RequestError,
    TooManyRequestsError,
    UnknownError,
    UserEmptyError,
    UserNotFoundError,
)

if TYPE_CHECKING:
    from balsad.auth import AuthStore
    from balsad.env import Clock
    from balsad.transport import Call, Headers

WAITING_MAX: Final = 10_000
_BEARER: Final = b"Bearer "

# Maintenance lets the auth store's own words out, and no code.
_BARE_WORDS: Final[dict[type[RequestError], str]] = {
    InvalidAuthTokenError: "auth: invalid auth token",
    PermissionDeniedError: "auth: permission denied",
    UserEmptyError: "auth: user name is empty",
    UserNotFoundError: "auth: user not found",
}


def shows_token(headers: Headers) -> bool:
    return b"token" in headers.metadata or b"authorization" in headers.metadata


class Access:
    """What raises a RequestError here raises it into the caller at once, or ends the call with it later."""

    def __init__(
        self, auth: AuthStore, *, clock: Clock, client_cert_auth: bool, applied_index: Callable[[], int]
    ) -> None:
        self.auth = auth
        self._clock = clock
        self._client_cert_auth = client_cert_auth
        self._applied_index = applied_index
        self._waiting: list[tuple[int, Call, Callable[[], None]]] = []

    # Who.

    def identify(self, call: Call, go_on: Callable[[Identity], None]) -> None:
        """Call `go_on` with who asks, ANONYMOUS when nothing tells. Raises: InvalidAuthTokenError."""
        self.when_known(call, lambda: go_on(self._identity(call)))

    def must_wait(self, call: Call) -> bool:
        """Whether this member can't tell yet who asks."""
        return self._index_of(call) > self._applied_index()

    def when_known(self, call: Call, go_on: Callable[[], None]) -> None:
        """Call `go_on` as soon as this member can tell who asks. Raises: TooManyRequestsError."""
        index = self._index_of(call)
        if index <= self._applied_index():
            go_on()
            return
        if len(self._waiting) >= WAITING_MAX:
            self._waiting = [waiting for waiting in self._waiting if not waiting[1].closed]
            if len(self._waiting) >= WAITING_MAX:
                raise TooManyRequestsError
        self._waiting.append((index, call, go_on))

    def after_batch(self) -> None:
        """Entries were applied: go on with the requests that waited for them."""
        if not self._waiting:
            return
        applied = self._applied_index()
        ready = [waiting for waiting in self._waiting if waiting[0] <= applied]
        self._waiting = [waiting for waiting in self._waiting if waiting[0] > applied and not waiting[1].closed]
        for _, call, go_on in ready:
            if call.closed:
                continue
            try:
                go_on()
            except RequestError as refusal:
                call.fail(refusal.code, refusal.text)

    @property
    def root(self) -> Identity:
        """Who the member itself is when it needs permission."""
        return Identity(ROOT, self.auth.revision) if self.auth.enabled else ANONYMOUS

    def must_identify(self, call: Call) -> bool:
        """Whether it matters who asks: authentication is on, or a token is shown that may be nobody's."""
        return self.auth.enabled or shows_token(call.headers)

    def _token(self, call: Call) -> bytes | None:
        metadata = call.headers.metadata
        token = metadata.get(b"token")
        if token is None:
            token = metadata.get(b"authorization")
        return None if token is None else token.removeprefix(_BEARER)

    def _index_of(self, call: Call) -> int:
        token = self._token(call)
        return 0 if token is None else self.auth.tokens.index_of(token.decode("utf-8", "replace"))

    def _identity(self, call: Call) -> Identity:
        auth = self.auth
        token = self._token(call)
        if token is not None:
            clock = self._clock
            return auth.identify(token.decode("utf-8", "replace"), now=clock.monotonic(), unix_now=clock.time())
        if not auth.enabled:
            return ANONYMOUS
        # A gateway shows its own certificate, which says nothing of who stands behind it.
        if self._client_cert_auth and call.connection.secure and b"grpcgateway-accept" not in call.headers.metadata:
            return Identity(call.peer_name, auth.revision)
        return ANONYMOUS

    # May they.

    def read(self, call: Call, check: Callable[[Identity], None], answer: Callable[[], bytes | None]) -> None:
        """Answer a read of this member's own state, if `check` lets it pass; None is answered later, as of now.

        Raises: RequestError.
        """

        def go_on(who: Identity) -> None:
            check(who)
            message = answer()
            if who.revision and who.revision != self.auth.revision:
                raise AuthOldRevisionError
            if message is not None:
                call.respond(message)

        self.identify(call, go_on)

    def for_admin(self, call: Call, go_on: Callable[[], None]) -> None:
        """Go on if root asks, or nobody is asked. Raises: RequestError."""

        def check() -> None:
            self.auth.check_admin(self._identity(call))
            go_on()

        self.when_known(call, check)

    def for_maintenance(self, call: Call, go_on: Callable[[], None]) -> None:
        """`for_admin` in the words of the Maintenance service. Raises: UnknownError."""

        def check() -> None:
            try:
                self.auth.check_admin(self._identity(call))
            except RequestError as refusal:
                raise UnknownError(_BARE_WORDS.get(type(refusal), refusal.text)) from None
            go_on()

        self.when_known(call, check)

    def may_watch(self, call: Call, key: bytes, end: bytes) -> bool:
        """Whether a watch of this range may begin; whoever is not known yet may not."""
        if not self.must_identify(call):
            return True
        try:
            self.auth.check_range(self._identity(call), key, end)
        except RequestError:
            return False
        return True
