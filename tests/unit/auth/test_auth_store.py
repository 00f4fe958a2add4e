"""Users, roles and permissions: what changes, what is refused, what is asked, what lies on disk."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from balsad import errors
from balsad.auth import ANONYMOUS, AuthStore, Identity, hash_password, make_tokens, matches, new_salt
from balsad.auth.simple_tokens import SimpleTokens
from balsad.proto import auth_pb2
from balsad.storage import StorageError, schema
from tests.unit.mvcc.memory_backend import MemoryBackend

HASHED = base64.b64encode(hash_password(b"pw", new_salt(bytes(16), 4))).decode()


def make_store(backend: MemoryBackend | None = None) -> AuthStore:
    store = AuthStore(backend or MemoryBackend(), SimpleTokens(), bcrypt_cost=4)
    store.recover()
    return store


def enabled_store(backend: MemoryBackend | None = None) -> AuthStore:
    """Root, and a user `u` whose role `r` may read and write [a, c) and read x."""
    store = make_store(backend)
    store.add_user("root", hashed_password=HASHED)
    store.grant_role("root", "root")
    store.add_user("u", hashed_password=HASHED)
    store.add_role("r")
    store.grant_permission("r", permission(2, b"a", b"c"))
    store.grant_permission("r", permission(0, b"x"))
    store.grant_role("u", "r")
    store.enable()
    return store


def permission(kind: int, key: bytes, end: bytes = b"") -> auth_pb2.Permission:
    return auth_pb2.Permission(permType=kind, key=key, range_end=end)  # type: ignore[arg-type]


def who(store: AuthStore, name: str) -> Identity:
    return Identity(name, store.revision)


def login(store: AuthStore, name: str, index: int = 10) -> str:
    return store.authenticate(name, prefix="p" * 16, index=index, now=0.0, unix_now=0.0)


def identify(store: AuthStore, token: str) -> Identity:
    return store.identify(token, now=0.0, unix_now=0.0)


# What lies on disk.


def test_an_empty_backend_begins_at_revision_one() -> None:
    backend = MemoryBackend()

    store = make_store(backend)

    assert (store.revision, store.enabled) == (1, False)
    assert backend.get(schema.AUTH, b"authRevision") == b"\0\0\0\0\0\0\0\1"


def test_rows_are_byte_for_byte_those_of_etcd() -> None:
    """Seen in the db of an etcd 3.5.1 after the same commands."""
    backend = MemoryBackend()
    store = make_store(backend)
    store.add_user("root", hashed_password=base64.b64encode(b"HASH").decode())
    store.add_user("u", options=auth_pb2.UserAddOptions(no_password=True))
    store.add_role("r")
    store.grant_permission("r", permission(0, b"a", b"c"))
    store.grant_role("u", "r")

    assert backend.scan(schema.AUTH, b"", None) == [(b"authRevision", b"\0\0\0\0\0\0\0\6")]
    assert backend.scan(schema.AUTH_USERS, b"", None) == [
        (b"root", b'\n\4root\x12\4HASH"\0'),
        (b"u", b'\n\1u\x1a\1r"\2\x08\1'),
    ]
    assert backend.scan(schema.AUTH_ROLES, b"", None) == [(b"r", b"\n\1r\x12\6\x12\1a\x1a\1c")]


def test_everything_outlives_a_restart_but_tokens() -> None:
    backend = MemoryBackend()
    store = enabled_store(backend)
    token = login(store, "u")

    again = make_store(backend.copy())

    assert (again.enabled, again.revision) == (True, store.revision)
    again.check_put(who(again, "u"), b"b")
    with pytest.raises(errors.PermissionDeniedError):
        again.check_put(who(again, "u"), b"x")
    with pytest.raises(errors.InvalidAuthTokenError):
        identify(again, token)


def test_recover_takes_over_what_a_snapshot_brought() -> None:
    backend = MemoryBackend()
    store = enabled_store(backend)
    store.check_put(who(store, "u"), b"a")
    switched: list[bool] = []
    store.on_switch = lambda: switched.append(store.enabled)

    other = MemoryBackend()
    make_store(other)
    backend.buckets = other.buckets
    store.recover()

    assert (store.enabled, store.revision, store.user_names()) == (False, 1, [])
    assert switched == [False]


@pytest.mark.parametrize(
    ("bucket", "key", "row"),
    [
        (schema.AUTH, b"authRevision", b"\1"),
        (schema.AUTH_USERS, b"u", b"\xff"),
        (schema.AUTH_ROLES, b"r", b"\x0a\x05r"),
    ],
)
def test_a_broken_row_says_where_it_is(bucket: bytes, key: bytes, row: bytes) -> None:
    backend = MemoryBackend()
    enabled_store(backend)
    backend.put(bucket, key, row)

    with pytest.raises(StorageError, match=f"memory: bucket {bucket.decode()}, .*{key.decode()}.*expected .*, found"):
        store = make_store(backend)
        store.check_put(who(store, "u"), b"a")


# Refusals.


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (lambda s: s.add_user(""), errors.UserEmptyError),
        (lambda s: s.add_user("u", hashed_password=HASHED), errors.UserAlreadyExistError),
        (lambda s: s.add_user("v", hashed_password="no base64"), errors.UnknownError),
        (lambda s: s.delete_user("nosuch"), errors.UserNotFoundError),
        (lambda s: s.delete_user(""), errors.UserNotFoundError),
        (lambda s: s.delete_user("root"), errors.InvalidAuthMgmtError),
        (lambda s: s.change_password("nosuch", hashed_password=HASHED), errors.UserNotFoundError),
        (lambda s: s.change_password("u", hashed_password="no base64"), errors.UnknownError),
        (lambda s: s.grant_role("nosuch", "r"), errors.UserNotFoundError),
        (lambda s: s.grant_role("u", "nosuch"), errors.RoleNotFoundError),
        (lambda s: s.revoke_role("nosuch", "r"), errors.UserNotFoundError),
        (lambda s: s.revoke_role("u", "nosuch"), errors.RoleNotGrantedError),
        (lambda s: s.revoke_role("root", "root"), errors.InvalidAuthMgmtError),
        (lambda s: s.user_roles("nosuch"), errors.UserNotFoundError),
        (lambda s: s.add_role(""), errors.RoleEmptyError),
        (lambda s: s.add_role("r"), errors.RoleAlreadyExistError),
        (lambda s: s.delete_role("nosuch"), errors.RoleNotFoundError),
        (lambda s: s.delete_role("root"), errors.InvalidAuthMgmtError),
        (lambda s: s.grant_permission("r", None), errors.PermissionNotGivenError),
        (lambda s: s.grant_permission("nosuch", permission(0, b"a")), errors.RoleNotFoundError),
        (lambda s: s.revoke_permission("nosuch", b"a", b""), errors.RoleNotFoundError),
        (lambda s: s.revoke_permission("r", b"a", b""), errors.PermissionNotGrantedError),
        (lambda s: s.role_permissions("nosuch"), errors.RoleNotFoundError),
        (lambda s: s.password_of("nosuch"), errors.AuthFailedError),
        (lambda s: login(s, "nosuch"), errors.AuthFailedError),
    ],
)
def test_a_refusal_changes_nothing(change: Callable[[AuthStore], Any], refusal: type[errors.RequestError]) -> None:
    backend = MemoryBackend()
    store = enabled_store(backend)
    before = backend.copy().buckets

    with pytest.raises(refusal):
        change(store)

    assert backend.buckets == before


def test_root_is_as_any_other_while_authentication_is_off() -> None:
    store = enabled_store()
    store.add_role("root")
    store.disable()

    store.revoke_role("root", "root")
    store.delete_role("root")
    store.delete_user("root")

    assert (store.user_names(), store.role_names()) == (["u"], ["r"])


def test_enabling_needs_root_with_its_role() -> None:
    store = make_store()
    with pytest.raises(errors.RootUserNotExistError):
        store.enable()
    store.add_user("root", hashed_password=HASHED)
    with pytest.raises(errors.RootRoleNotExistError):
        store.enable()
    store.grant_role("root", "root")

    assert (store.enable(), store.enable()) == (True, False)


# Revisions.


def test_every_change_takes_the_revision_one_further_but_enable_none() -> None:
    store = make_store()
    seen = [store.revision]
    for change in (
        lambda: store.add_user("root", hashed_password=HASHED),
        lambda: store.grant_role("root", "root"),
        lambda: store.grant_role("root", "root"),  # has it
        lambda: store.enable(),
        lambda: store.enable(),
        lambda: store.add_role("r"),
        lambda: store.grant_permission("r", permission(0, b"a")),
        lambda: store.grant_permission("r", permission(0, b"a")),
        lambda: store.revoke_permission("r", b"a", b""),
        lambda: store.delete_role("r"),
        lambda: store.change_password("root", hashed_password=HASHED),
        lambda: store.disable(),
        lambda: store.disable(),
        lambda: store.revoke_role("root", "root"),
        lambda: store.delete_user("root"),
    ):
        change()
        seen.append(store.revision)

    assert seen == [1, 2, 3, 3, 3, 3, 4, 5, 6, 7, 8, 9, 10, 10, 11, 12]


# Passwords and tokens.


def test_a_password_in_the_clear_from_an_old_log_is_hashed_alike_everywhere() -> None:
    """etcd before 3.5 logged the password itself."""
    backends = [MemoryBackend(), MemoryBackend()]
    for backend in backends:
        store = make_store(backend)
        store.add_user("u", password="pw")

    row = backends[0].get(schema.AUTH_USERS, b"u")
    assert row is not None and row == backends[1].get(schema.AUTH_USERS, b"u")
    assert matches(b"pw", auth_pb2.User.FromString(row).password)


def test_a_user_without_password_cannot_log_in_with_one() -> None:
    store = enabled_store()
    store.add_user("n", hashed_password=HASHED, options=auth_pb2.UserAddOptions(no_password=True))

    with pytest.raises(errors.UnknownError, match="password was given for no password user"):
        store.password_of("n")
    with pytest.raises(errors.AuthFailedError):
        login(store, "n")
    assert store.change_password("n", hashed_password="no base64") == []


def test_a_user_of_an_etcd_that_knew_no_options_can_be_given_a_password() -> None:
    backend = MemoryBackend()
    store = make_store(backend)
    backend.put(schema.AUTH_USERS, b"old", auth_pb2.User(name=b"old", roles=["r"]).SerializeToString())

    store.change_password("old", hashed_password=HASHED)

    assert (
        backend.get(schema.AUTH_USERS, b"old")
        == auth_pb2.User(name=b"old", roles=["r"], password=base64.b64decode(HASHED)).SerializeToString()
    )


def test_a_token_lives_until_its_user_changes() -> None:
    store = enabled_store()
    token = login(store, "u")
    assert identify(store, token) == who(store, "u")

    store.revoke_role("u", "r")
    assert identify(store, token) == who(store, "u")
    store.change_password("u", hashed_password=HASHED)

    with pytest.raises(errors.InvalidAuthTokenError):
        identify(store, token)


def test_nobody_logs_in_while_authentication_is_off() -> None:
    store = enabled_store()
    token = login(store, "u")
    store.disable()

    with pytest.raises(errors.AuthNotEnabledError):
        store.password_of("u")
    with pytest.raises(errors.AuthNotEnabledError):
        login(store, "u")
    with pytest.raises(errors.InvalidAuthTokenError):
        identify(store, token)


def test_without_tokens_nobody_can_log_in() -> None:
    backend = MemoryBackend()
    enabled_store(backend)
    store = AuthStore(backend, make_tokens("", simple_ttl_s=300, read_file=lambda path: b""))
    store.recover()

    with pytest.raises(errors.AuthFailedError):
        login(store, "root")
    with pytest.raises(errors.InvalidAuthTokenError):
        identify(store, "x.1")


# Who may.


def test_nobody_is_asked_while_authentication_is_off() -> None:
    store = make_store()

    store.check_put(ANONYMOUS, b"a")
    store.check_range(ANONYMOUS, b"\0", b"\0")
    store.check_delete_range(ANONYMOUS, b"\0", b"\0")
    store.check_admin(ANONYMOUS)


def test_a_user_may_what_its_roles_allow() -> None:
    store = enabled_store()
    user = who(store, "u")

    store.check_put(user, b"a")
    store.check_range(user, b"a", b"c")
    store.check_range(user, b"x", b"")
    store.check_delete_range(user, b"a", b"b")
    for check in (
        lambda: store.check_put(user, b"x"),
        lambda: store.check_put(user, b"c"),
        lambda: store.check_range(user, b"a", b"d"),
        lambda: store.check_range(user, b"a", b"\0"),
        lambda: store.check_delete_range(user, b"x", b""),
        lambda: store.check_admin(user),
    ):
        with pytest.raises(errors.PermissionDeniedError):
            check()


def test_permissions_follow_every_change() -> None:
    store = enabled_store()
    store.check_put(who(store, "u"), b"a")

    store.revoke_permission("r", b"a", b"c")
    with pytest.raises(errors.PermissionDeniedError):
        store.check_put(who(store, "u"), b"a")
    store.grant_permission("r", permission(1, b"a"))
    store.check_put(who(store, "u"), b"a")
    store.delete_role("r")

    assert store.user_roles("u") == []
    with pytest.raises(errors.PermissionDeniedError):
        store.check_put(who(store, "u"), b"a")
    with pytest.raises(errors.PermissionDeniedError):
        store.check_put(who(store, "nosuch"), b"a")


def test_root_may_everything() -> None:
    store = enabled_store()

    store.check_put(who(store, "root"), b"anything")
    store.check_range(who(store, "root"), b"\0", b"\0")
    store.check_admin(who(store, "root"))


def test_who_gives_no_name_and_who_was_judged_too_early() -> None:
    store = enabled_store()

    with pytest.raises(errors.UserEmptyError):
        store.check_put(ANONYMOUS, b"a")
    with pytest.raises(errors.UserEmptyError):
        store.check_admin(ANONYMOUS)
    with pytest.raises(errors.AuthOldRevisionError):
        store.check_range(Identity("root", store.revision - 1), b"a", b"")
    with pytest.raises(errors.UserNotFoundError):
        store.check_admin(who(store, "nosuch"))
    # Being root is not asked of the past.
    store.check_admin(Identity("root", 1))


def test_roles_are_kept_in_order() -> None:
    store = make_store()
    store.add_user("u", hashed_password=HASHED)
    for name in ("m", "z", "a"):
        store.add_role(name)
        store.grant_role("u", name)
    store.grant_role("u", "root")

    assert store.user_roles("u") == ["a", "m", "root", "z"]
    assert (store.has_role("u", "m"), store.has_role("u", "q"), store.has_role("nosuch", "m")) == (True, False, False)
