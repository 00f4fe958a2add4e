"""An auth-enabled data dir changes hands: users, roles, passwords and rights stay, from the db and from the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from balsad.env.real import real_env
from balsad.proto import auth_pb2
from balsad.proto import rpc_pb2 as rpc
from balsad.storage import Backend, schema
from tests.interop.auth_calls import AuthCalls, connect
from tests.interop.servers import Program, balsad, copy_data_dir, fetch, program, programs, real, real_34, start

READWRITE: Any = 2
READ: Any = 0
LONG = "é" * 50
WITH_NUL = "a\0b"


def permission(kind: Any, key: bytes, end: bytes = b"") -> auth_pb2.Permission:
    return auth_pb2.Permission(permType=kind, key=key, range_end=end)


def furnish(calls: AuthCalls, *, no_password: bool = True) -> None:
    """Users with all kinds of passwords, two roles, a lease, some keys, and authentication on."""
    calls.call("KV/Put", rpc.PutRequest(key=b"x", value=b"before"))
    calls.add_role("r", permission(READWRITE, b"a", b"c"), permission(READ, b"x"))
    calls.add_role("s", permission(READ, b"c", b"\0"))
    calls.add_user("u", "pw", "r", "s")
    calls.add_user("long", LONG)
    calls.add_user("nul", WITH_NUL)
    if no_password:
        options = auth_pb2.UserAddOptions(no_password=True)
        calls.call("Auth/UserAdd", rpc.AuthUserAddRequest(name="n", options=options))
    calls.enable()
    root = calls.login("root", "rpw")
    calls.add_user("later", "old", token=root)
    calls.call("Auth/UserChangePassword", rpc.AuthUserChangePasswordRequest(name="later", password="new"), root)
    user = calls.login("u", "pw")
    calls.call("Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=7, TTL=5000))
    calls.call("KV/Put", rpc.PutRequest(key=b"a", value=b"1", lease=7), user)


def check(calls: AuthCalls, *, no_password: bool = True) -> None:
    """All that `furnish` left is there."""
    for name, password in (("root", "rpw"), ("long", LONG), ("nul", WITH_NUL), ("later", "new")):
        calls.login(name, password)
    for name, password in (("nul", "a"), ("later", "old"), ("nosuch", "pw")):
        with pytest.raises(grpc.RpcError, match="authentication failed, invalid user ID or password"):
            calls.login(name, password)
    if no_password:
        with pytest.raises(grpc.RpcError, match="password was given for no password user"):
            calls.login("n", "")
    root, user = calls.login("root", "rpw"), calls.login("u", "pw")
    assert list(calls.call("Auth/UserGet", rpc.AuthUserGetRequest(name="u"), user).roles) == ["r", "s"]
    perms = calls.call("Auth/RoleGet", rpc.AuthRoleGetRequest(role="r"), root).perm
    assert list(perms) == [permission(READWRITE, b"a", b"c"), permission(READ, b"x")]
    assert calls.call("KV/Range", rpc.RangeRequest(key=b"a", range_end=b"\0"), user).count == 2
    refused = ("PERMISSION_DENIED", "etcdserver: permission denied")
    assert calls.outcome("KV/Put", rpc.PutRequest(key=b"x", value=b"2"), user) == refused
    assert calls.outcome("KV/Range", rpc.RangeRequest(key=b"\0", range_end=b"\0"), user) == refused
    assert calls.outcome("KV/Range", rpc.RangeRequest(key=b"a")) == (
        "INVALID_ARGUMENT",
        "etcdserver: user name is empty",
    )
    assert calls.call("KV/Put", rpc.PutRequest(key=b"b", value=b"2", lease=7), user).header.revision > 0
    assert calls.call("KV/DeleteRange", rpc.DeleteRangeRequest(key=b"b"), root).deleted == 1


def status(calls: AuthCalls) -> tuple[bool, int]:
    answer = calls.call("Auth/AuthStatus", rpc.AuthStatusRequest(), calls.login("root", "rpw"))
    return answer.enabled, answer.authRevision


def rows(data_dir: Path) -> dict[bytes, list[tuple[bytes, bytes]]]:
    """The auth buckets, with the hash of each password replaced by its cost."""
    backend = Backend.open(real_env().disk, str(data_dir / "member" / "snap" / "db"))
    try:
        found = {
            bucket: backend.scan(bucket, b"", None) for bucket in (schema.AUTH, schema.AUTH_USERS, schema.AUTH_ROLES)
        }
    finally:
        backend.close()
    users = []
    for name, row in found[schema.AUTH_USERS]:
        user = auth_pb2.User.FromString(row)
        assert len(user.password) in (0, 60)
        user.password = user.password[:7] + bytes(len(user.password[7:]))
        users.append((name, user.SerializeToString()))
    return {**found, schema.AUTH_USERS: users}


@pytest.mark.real
def test_the_same_requests_leave_the_same_rows(tmp_path: Path) -> None:
    found = []
    for each in (balsad(), real()):
        data_dir = tmp_path / each.name.replace(" ", "-")
        with start(each, data_dir, "--bcrypt-cost=5") as member, connect(member.address) as calls:
            furnish(calls)
            metrics = fetch(member.client_url + "/metrics")[1].decode().splitlines()
        revision = [line for line in metrics if line.startswith("etcd_debugging_auth_revision ")]
        found.append((rows(data_dir), revision))

    assert found[0] == found[1]
    assert found[0][1] == ["etcd_debugging_auth_revision 16"]


@pytest.mark.real
@pytest.mark.parametrize("killed", [False, True], ids=["from its db", "from its log"])
@pytest.mark.parametrize("first", programs())
def test_an_auth_enabled_data_dir_changes_hands(first: str, killed: bool, tmp_path: Path) -> None:
    """Killed before its backend commits, all is in the log alone: the next one applies every entry itself."""
    one = program(first)
    other = real() if first == "balsad" else balsad()
    slow = ("--backend-batch-interval=1h", "--backend-batch-limit=1000000") if killed else ()
    with start(one, tmp_path / "data", "--bcrypt-cost=4", *slow) as member:
        with connect(member.address) as calls:
            furnish(calls)
            before = status(calls)
        if killed:
            member.kill()
    with start(other, tmp_path / "data", "--bcrypt-cost=4", like=member) as member, connect(member.address) as calls:
        assert status(calls) == before
        check(calls)
        calls.call("Auth/AuthDisable", rpc.AuthDisableRequest(), calls.login("root", "rpw"))
        assert calls.call("KV/Range", rpc.RangeRequest(key=b"a")).count == 1
    with start(one, tmp_path / "data", "--bcrypt-cost=4", like=member) as member, connect(member.address) as calls:
        assert calls.outcome("Auth/Authenticate", rpc.AuthenticateRequest(name="root", password="rpw")) == (
            "FAILED_PRECONDITION",
            "etcdserver: authentication is not enabled",
        )
        calls.call("Auth/AuthEnable", rpc.AuthEnableRequest())
        assert status(calls) == (True, before[1] + 1)
        check(calls)


@pytest.mark.real
def test_the_log_of_an_etcd_that_writes_passwords_in_the_clear(tmp_path: Path) -> None:
    """Before 3.5 every member hashed for itself what the log told it."""
    slow = ("--backend-batch-interval=1h", "--backend-batch-limit=1000000")
    with start(real_34(), tmp_path / "data", "--bcrypt-cost=4", *slow) as member:
        with connect(member.address) as calls:
            furnish(calls)
        member.kill()
    log = b"".join(path.read_bytes() for path in (tmp_path / "data" / "member" / "wal").iterdir())
    assert b"rpw" in log

    with start(balsad(), tmp_path / "data", "--bcrypt-cost=4", like=member) as member, connect(member.address) as calls:
        check(calls)


@pytest.mark.real
@pytest.mark.parametrize("name", programs())
def test_no_password_is_in_the_log(name: str, tmp_path: Path) -> None:
    each: Program = program(name)
    with start(each, tmp_path / "data", "--bcrypt-cost=4") as member, connect(member.address) as calls:
        calls.add_user("u", "so very secret")
        calls.call("Auth/UserChangePassword", rpc.AuthUserChangePasswordRequest(name="u", password="even more secret"))
        calls.enable()
        calls.login("u", "even more secret")
    files = copy_data_dir(tmp_path / "data", tmp_path / "copy")
    for path in files.rglob("*"):
        if path.is_file():
            assert b"secret" not in path.read_bytes(), path
    assert b"secret" not in member.log_path.read_bytes()
