"""Requests with a password in them: it is hashed, or compared, in a thread, before anything goes into the log.

    Authenticate  --> linearize --> the hash of the user --compare--> token's prefix drawn --> the log --> token
                                         ^                                                      |
                                         +------- users or roles have changed meanwhile --------+
    UserAdd, UserChangePassword --> hash --> the log

Source: etcd server/etcdserver/v3_server.go (Authenticate, UserAdd, UserChangePassword).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from balsad.auth import SALT_BYTES, encode_hash, hash_password, matches, new_salt
from balsad.errors import AuthFailedError, AuthNotEnabledError, RequestError, TooManyRequestsError
from balsad.proto import raft_internal_pb2

if TYPE_CHECKING:
    from balsad.proto import rpc_pb2
    from balsad.server.propose import Result
    from balsad.server.service import Service
    from balsad.transport import Call

log = logging.getLogger(__name__)

T = TypeVar("T")

UNDER_WAY_MAX: Final = 1000


class PasswordRequests:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._auth = service.auth
        self._random = service.env.random
        self._under_way = 0
        # Threads of their own: a crowd that logs in must not hold up the backend's commits.
        self._threads: ThreadPoolExecutor | None = None

    def stop(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    # Logging in.

    def authenticate(self, call: Call, request: rpc_pb2.AuthenticateRequest) -> None:
        def go_on(error: RequestError | None) -> None:
            if error is not None:
                call.fail(error.code, error.text)
            else:
                self._check(call, request.name, request.password.encode())

        self._service.linearize(go_on)

    def _check(self, call: Call, name: str, password: bytes) -> None:
        def checked(is_right: bool) -> None:
            if not is_right:
                log.info("invalid password", extra={"user-name": name})
                refuse(AuthFailedError())
                return
            login = raft_internal_pb2.InternalAuthenticateRequest(
                name=name, simple_token=self._auth.tokens.new_prefix(self._random.randrange)
            )
            self._service.propose("authenticate", login, applied)

        def applied(result: Result) -> None:
            if isinstance(result, RequestError):
                call.fail(result.code, result.text)
            elif self._auth.revision == revision:
                call.respond(result)
            else:
                log.info("revision when password checked became stale; retrying")
                self._check(call, name, password)

        def refuse(refusal: RequestError) -> None:
            if not isinstance(refusal, AuthNotEnabledError):
                log.warning("invalid authentication was requested", extra={"user": name, "error": refusal.text})
            call.fail(refusal.code, refusal.text)

        try:
            hashed, revision = self._auth.password_of(name)
        except RequestError as refusal:
            refuse(refusal)
            return
        self._in_thread(call, partial(matches, password, hashed), checked)

    # Setting one.

    def add_user(self, call: Call, request: rpc_pb2.AuthUserAddRequest) -> None:
        if request.options.no_password:
            self._service.auth_request("auth_user_add", request, call)
            return

        def hashed(value: bytes) -> None:
            request.hashedPassword = encode_hash(value)
            request.password = ""
            self._service.auth_request("auth_user_add", request, call)

        self._hash(call, request.password, hashed)

    def change_password(self, call: Call, request: rpc_pb2.AuthUserChangePasswordRequest) -> None:
        if not request.password:
            self._service.auth_request("auth_user_change_password", request, call)
            return

        def hashed(value: bytes) -> None:
            request.hashedPassword = encode_hash(value)
            request.password = ""
            self._service.auth_request("auth_user_change_password", request, call)

        self._hash(call, request.password, hashed)

    def _hash(self, call: Call, password: str, hashed: Callable[[bytes], None]) -> None:
        salt = new_salt(self._random.token_bytes(SALT_BYTES), self._auth.bcrypt_cost)
        self._in_thread(call, partial(hash_password, password.encode(), salt), hashed)

    # The thread.

    def _in_thread(self, call: Call, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """Call `done` with what `work` gives, if somebody still waits for it; a refusal of `done` ends the call."""

        def finished(value: T) -> None:
            if call.closed:
                return
            try:
                done(value)
            except RequestError as refusal:
                call.fail(refusal.code, refusal.text)

        try:
            self.in_thread(work, finished)
        except TooManyRequestsError as refusal:
            call.fail(refusal.code, refusal.text)

    def in_thread(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """Call `done` with what `work` gives. Raises TooManyRequestsError while too many passwords are under way."""
        if self._under_way >= UNDER_WAY_MAX:
            raise TooManyRequestsError
        if self._threads is None:
            self._threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="bcrypt")

        def finished(future: asyncio.Future[T]) -> None:
            self._under_way -= 1
            if not future.cancelled():
                done(future.result())

        self._under_way += 1
        asyncio.get_running_loop().run_in_executor(self._threads, work).add_done_callback(finished)
