"""Who asks: by token, certificate or not at all; and requests that wait until the member can tell."""

from __future__ import annotations

from typing import Any, cast

import pytest

from balsad.auth import ANONYMOUS, AuthStore, Identity, encode_hash, hash_password, new_salt
from balsad.auth.simple_tokens import SimpleTokens
from balsad.errors import (
    AuthOldRevisionError,
    InvalidAuthTokenError,
    PermissionDeniedError,
    RequestError,
    TooManyRequestsError,
    UnknownError,
    UserEmptyError,
)
from balsad.proto import auth_pb2
from balsad.server.access import WAITING_MAX, Access
from balsad.transport import Call
from tests.unit.mvcc.memory_backend import MemoryBackend

HASHED = encode_hash(hash_password(b"pw", new_salt(bytes(16), 4)))


class StillClock:
    def monotonic(self) -> float:
        return 0.0

    def time(self) -> float:
        return 0.0


class FakeCall:
    """What Access needs of a Call: metadata, certificate, and a way to end it."""

    def __init__(self, *, peer_name: str | None = None, **metadata: str) -> None:
        self.headers = self
        self.connection = self
        self.metadata = {name.replace("_", "-").encode(): value.encode() for name, value in metadata.items()}
        self.secure = peer_name is not None
        self.peer_name = peer_name or ""
        self.closed = False
        self.refusal = ""
        self.answer = b""

    def fail(self, code: int, text: str) -> None:
        self.refusal = text
        self.closed = True

    def respond(self, message: bytes) -> None:
        self.answer = message
        self.closed = True


class Asked:
    """An Access over a store with root and `u`, who may use `a`; both are logged in."""

    def __init__(self, *, client_cert_auth: bool = False) -> None:
        self.applied = 10
        self.auth = AuthStore(MemoryBackend(), SimpleTokens())
        self.auth.recover()
        for name in ("root", "u"):
            self.auth.add_user(name, hashed_password=HASHED)
        self.auth.grant_role("root", "root")
        self.auth.add_role("r")
        self.auth.grant_permission("r", auth_pb2.Permission(permType=2, key=b"a"))  # type: ignore[arg-type]
        self.auth.grant_role("u", "r")
        self.auth.enable()
        self.access = Access(
            self.auth,
            clock=StillClock(),
            client_cert_auth=client_cert_auth,
            applied_index=lambda: self.applied,
        )
        self.root, self.user = self.login("root", 9), self.login("u", 10)

    def login(self, name: str, index: int) -> str:
        return self.auth.authenticate(name, prefix="p" * 16, index=index, now=0.0, unix_now=0.0)

    def who(self, call: FakeCall) -> Identity:
        found: list[Identity] = []
        self.access.identify(cast(Call, call), found.append)
        return found[0]

    def apply_up_to(self, index: int) -> None:
        self.applied = index
        self.access.after_batch()


def as_call(call: FakeCall) -> Call:
    return cast(Call, call)


def test_a_token_names_its_user() -> None:
    asked = Asked()
    revision = asked.auth.revision

    assert asked.who(FakeCall(token=asked.user)) == Identity("u", revision)
    assert asked.who(FakeCall(authorization=asked.user)) == Identity("u", revision)
    assert asked.who(FakeCall(authorization="Bearer " + asked.user)) == Identity("u", revision)
    assert asked.who(FakeCall(token=asked.root, authorization=asked.user)) == Identity("root", revision)
    assert asked.who(FakeCall()) == ANONYMOUS


@pytest.mark.parametrize("token", ["", "nonsense", "pppppppppppppppp.8", "x.1.2"])
def test_a_token_of_nobodys_is_refused(token: str) -> None:
    with pytest.raises(InvalidAuthTokenError):
        Asked().who(FakeCall(token=token))


def test_nobody_is_asked_for_a_token_while_authentication_is_off_but_one_of_nobody_is_refused() -> None:
    """etcd AuthInfoFromCtx judges a token that is shown, whether authentication is on or off."""
    asked = Asked()
    asked.auth.disable()

    assert asked.who(FakeCall()) == ANONYMOUS
    assert not asked.access.must_identify(as_call(FakeCall()))
    for token in ("nonsense", asked.root):
        assert asked.access.must_identify(as_call(FakeCall(token=token)))
        with pytest.raises(InvalidAuthTokenError):
            asked.who(FakeCall(token=token))
    # It may have been given out in an entry that is yet to be applied here, as the one that turns authentication on.
    assert asked.access.must_wait(as_call(FakeCall(token="x.999")))


def test_a_certificate_names_a_user_if_it_shall() -> None:
    """etcd AuthInfoFromTLS: the gateway's own certificate is none of a client's."""
    asked, deaf = Asked(client_cert_auth=True), Asked()
    revision = asked.auth.revision

    assert asked.who(FakeCall(peer_name="u")) == Identity("u", revision)
    assert asked.who(FakeCall(peer_name="")) == Identity("", revision)
    assert asked.who(FakeCall(peer_name="u", token=asked.root)) == Identity("root", revision)
    assert asked.who(FakeCall(peer_name="u", grpcgateway_accept="*/*")) == ANONYMOUS
    assert asked.who(FakeCall()) == ANONYMOUS
    assert deaf.who(FakeCall(peer_name="u")) == ANONYMOUS


def test_the_member_itself_is_root() -> None:
    asked = Asked()

    assert asked.access.root == Identity("root", asked.auth.revision)
    asked.auth.disable()
    assert asked.access.root == ANONYMOUS


def test_a_request_waits_for_the_entry_that_made_its_token() -> None:
    """etcd isValidSimpleToken waits for the index: another member may have given the token out a moment ago."""
    asked = Asked()
    first, later = FakeCall(token="pppppppppppppppp.12"), FakeCall(token="pppppppppppppppp.13")
    found: list[Identity] = []
    for call in (first, later):
        assert asked.access.must_wait(as_call(call))
        asked.access.identify(as_call(call), found.append)
    asked.apply_up_to(11)
    assert found == []

    asked.login("u", 12)
    asked.apply_up_to(12)

    assert found == [Identity("u", asked.auth.revision)]
    asked.apply_up_to(20)
    assert (found[1:], later.refusal) == ([], "etcdserver: invalid auth token")


def test_who_went_away_is_not_waited_for() -> None:
    asked = Asked()
    gone = FakeCall(token="pppppppppppppppp.99")
    found: list[Identity] = []
    asked.access.identify(as_call(gone), found.append)
    gone.closed = True

    asked.apply_up_to(200)

    assert (found, gone.refusal) == ([], "")


def test_a_bounded_number_of_requests_waits() -> None:
    asked = Asked()
    waiting = [FakeCall(token="x.999") for _ in range(WAITING_MAX)]
    for call in waiting:
        asked.access.identify(as_call(call), lambda who: None)

    with pytest.raises(TooManyRequestsError):
        asked.access.identify(as_call(FakeCall(token="x.999")), lambda who: None)
    waiting[0].closed = True
    asked.access.identify(as_call(FakeCall(token="x.999")), lambda who: None)


def read(asked: Asked, call: FakeCall, key: bytes, answer: Any = lambda: b"answer") -> None:
    asked.access.read(as_call(call), lambda who: asked.auth.check_range(who, key, b""), answer)


def test_a_read_is_answered_to_who_may() -> None:
    asked = Asked()
    call = FakeCall(token=asked.user)
    read(asked, call, b"a")

    assert call.answer == b"answer"
    with pytest.raises(PermissionDeniedError):
        read(asked, FakeCall(token=asked.user), b"b")
    with pytest.raises(UserEmptyError):
        read(asked, FakeCall(), b"a")


def test_a_read_is_not_answered_when_users_or_roles_changed_meanwhile() -> None:
    """etcd doSerialize."""
    asked = Asked()
    call = FakeCall(token=asked.user)

    def answer() -> bytes:
        asked.auth.add_role("another")
        return b"answer"

    with pytest.raises(AuthOldRevisionError):
        read(asked, call, b"a", answer)
    assert call.answer == b""


@pytest.mark.parametrize(
    ("show", "mapped", "bare"),
    [
        ("user", "etcdserver: permission denied", "auth: permission denied"),
        ("nothing", "etcdserver: user name is empty", "auth: user name is empty"),
        ("junk", "etcdserver: invalid auth token", "auth: invalid auth token"),
        ("stranger", "etcdserver: user name not found", "auth: user not found"),
        ("root", "", ""),
    ],
)
def test_what_only_root_may_do(show: str, mapped: str, bare: str) -> None:
    """Maintenance lets the auth store's words out as they are, with code Unknown."""
    asked = Asked(client_cert_auth=True)
    call = {
        "user": FakeCall(token=asked.user),
        "nothing": FakeCall(),
        "junk": FakeCall(token="junk"),
        "stranger": FakeCall(peer_name="stranger"),
        "root": FakeCall(token=asked.root),
    }[show]
    done: list[str] = []
    for guard, words in ((asked.access.for_admin, mapped), (asked.access.for_maintenance, bare)):
        try:
            guard(as_call(call), lambda: done.append("done"))
        except RequestError as refusal:
            assert refusal.text == words
            assert isinstance(refusal, UnknownError) == (words == bare)
        else:
            assert words == ""
    assert len(done) == (2 if show == "root" else 0)


def test_what_goes_wrong_after_the_check_keeps_its_words() -> None:
    asked = Asked()

    def fail() -> None:
        raise PermissionDeniedError

    with pytest.raises(PermissionDeniedError):
        asked.access.for_maintenance(as_call(FakeCall(token=asked.root)), fail)


def test_a_watch_may_begin_where_its_range_may_be_read() -> None:
    asked = Asked()

    assert asked.access.may_watch(as_call(FakeCall(token=asked.user)), b"a", b"")
    assert not asked.access.may_watch(as_call(FakeCall(token=asked.user)), b"a", b"b")
    # 3.5.1 takes a watch without an end for one of its first key, and lets it see everything.
    assert not asked.access.may_watch(as_call(FakeCall(token=asked.user)), b"a", b"\0")
    assert not asked.access.may_watch(as_call(FakeCall()), b"a", b"")
    assert not asked.access.may_watch(as_call(FakeCall(token="junk")), b"a", b"")
    asked.auth.disable()
    assert asked.access.may_watch(as_call(FakeCall()), b"\0", b"\0")
