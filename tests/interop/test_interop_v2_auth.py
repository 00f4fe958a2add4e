"""Users and roles of the v2 API, ours and the real etcd 3.5.1's, asked the same: statuses, headers and bodies."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.interop.servers import Member, balsad, fetch, real, start

pytestmark = pytest.mark.real

KEPT = ("Content-Type", "X-Etcd-Index", "Allow")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
Step = tuple[str, str, str, Any]
"""Who asks (`name:password`, empty for nobody), the method, the path, a JSON body or a form."""


def user(name: str, **fields: Any) -> dict[str, Any]:
    return {"user": name, **fields}


def role(name: str, **fields: Any) -> dict[str, Any]:
    return {"role": name, **fields}


def kv(read: list[str] | None = None, write: list[str] | None = None) -> dict[str, Any]:
    return {"kv": {"read": read, "write": write}}


USERS, ROLES, ENABLE, KEYS = "/v2/auth/users", "/v2/auth/roles", "/v2/auth/enable", "/v2/keys"
ROOT, ALICE = "root:rootpw", "alice:pw"

BEFORE: list[Step] = [
    ("", "GET", ENABLE, None),
    ("", "GET", USERS, None),
    ("", "GET", ROLES, None),
    ("", "GET", "/v2/auth", None),
    ("", "GET", "/v2/auth/", None),
    ("", "GET", f"{USERS}/", None),
    ("", "GET", f"{USERS}/nobody", None),
    ("", "GET", f"{ROLES}/nobody", None),
    ("", "GET", f"{ROLES}/root", None),
    ("", "GET", f"{USERS}/a/b", None),
    ("", "GET", f"{ROLES}/a/b/", None),
    ("", "POST", USERS, None),
    ("", "PUT", USERS, user("x", password="x")),
    ("", "POST", f"{USERS}/x", user("x", password="x")),
    ("", "POST", f"{ROLES}/x", None),
    ("", "HEAD", ENABLE, None),
    ("", "POST", ENABLE, None),
    ("", "PUT", ENABLE, None),
    ("", "DELETE", ENABLE, None),
    ("", "DELETE", f"{USERS}/nobody", None),
    ("", "DELETE", f"{ROLES}/nobody", None),
    ("", "DELETE", f"{ROLES}/root", None),
    ("", "PUT", f"{USERS}/x", "{"),
    ("", "PUT", f"{USERS}/x", ""),
    ("", "PUT", f"{USERS}/x", "null"),
    ("", "PUT", f"{USERS}/x", '{"user":7}'),
    ("", "PUT", f"{USERS}/x", '{"user":"x","password":"a"} trailing'),
    ("", "PUT", f"{USERS}/x", user("y", password="x")),
    ("", "PUT", f"{USERS}/y", user("y")),
    ("", "PUT", f"{USERS}/y", user("y", password="")),
    ("", "PUT", f"{USERS}/y", user("y", grant=["r"])),
    ("", "PUT", f"{USERS}/y", user("y", password="p", roles=["b", "a", "<&>"])),
    ("", "PUT", f"{USERS}/y", user("y", password="p", roles=["b"])),
    ("", "PUT", f"{USERS}/y", user("y", password="p", roles=["b"], grant=["c"])),
    ("", "PUT", f"{USERS}/y", user("y", grant=["a"])),
    ("", "PUT", f"{USERS}/y", user("y", revoke=["z"])),
    ("", "PUT", f"{USERS}/y", user("y", grant=["z"], revoke=["a", "z"])),
    ("", "PUT", f"{USERS}/y", user("y")),
    ("", "PUT", f"{USERS}/y", user("y")),
    ("", "GET", f"{USERS}/y", None),
    ("", "GET", USERS, None),
    ("", "PUT", f"{USERS}/_hidden", user("_hidden", password="p")),
    ("", "PUT", f"{USERS}/a%20b", user("a b", password="p")),
    ("", "GET", f"{USERS}/a%20b", None),
    ("", "PUT", f"{USERS}/alice", {"USER": "alice", "Password": "old"}),
    ("", "PUT", f"{USERS}/alice", user("alice", password="pw")),
    ("", "PUT", f"{USERS}/bob", user("bob", password="pw", roles=[])),
    ("", "PUT", f"{USERS}/root", user("root", password="rootpw")),
    ("", "PUT", f"{USERS}/root", user("root", grant=["root"])),
    ("", "PUT", f"{USERS}/root", user("root", revoke=["root"])),
    ("", "GET", f"{USERS}/root", None),
    ("", "GET", USERS, None),
    ("", "PUT", f"{ROLES}/r", "{"),
    ("", "PUT", f"{ROLES}/r", role("s")),
    ("", "PUT", f"{ROLES}/root", role("root")),
    ("", "PUT", f"{ROLES}/root", role("root", grant=kv(["/x"]))),
    ("", "PUT", f"{ROLES}/r", role("r", permissions=kv(["/r/*"], ["/w"]))),
    ("", "PUT", f"{ROLES}/r", role("r", permissions=kv(["/r/*"], ["/w"]))),
    ("", "PUT", f"{ROLES}/r", role("r", permissions=kv(["/r/*"]), grant=kv(["/x"]))),
    ("", "PUT", f"{ROLES}/r", role("r", grant=kv(["/r/*"]))),
    ("", "PUT", f"{ROLES}/r", role("r", grant=kv(None, ["/w"]))),
    ("", "PUT", f"{ROLES}/r", role("r", grant=kv(["/a", "/a"]))),
    ("", "PUT", f"{ROLES}/r", role("r", grant=kv(["/b", "/a"], ["/r/x"]))),
    ("", "PUT", f"{ROLES}/r", role("r", revoke=kv(["/nope"]))),
    ("", "PUT", f"{ROLES}/r", role("r", revoke=kv(["/a"]))),
    ("", "PUT", f"{ROLES}/nobody", role("nobody", grant=kv(["/a"]))),
    ("", "PUT", f"{ROLES}/empty", role("empty", grant=kv(), revoke=kv([]))),
    ("", "PUT", f"{ROLES}/empty", role("empty", revoke=kv(["/x"]))),
    ("", "PUT", f"{ROLES}/empty", role("empty", revoke=kv(["/x"]))),
    ("", "GET", f"{ROLES}/r", None),
    ("", "GET", ROLES, None),
    ("", "PUT", f"{USERS}/alice", user("alice", grant=["r", "nobody"])),
    ("", "GET", f"{USERS}/alice", None),
    ("", "GET", USERS, None),
    ("", "PUT", f"{USERS}/alice", user("alice", revoke=["nobody"])),
    ("", "PUT", f"{KEYS}/r/x", "value=1"),
    ("", "PUT", f"{KEYS}/o", "value=1"),
    ("", "DELETE", f"{USERS}/y", None),
    ("", "DELETE", f"{USERS}/y", None),
    ("", "PUT", ENABLE, None),
    ("", "PUT", ENABLE, None),
]

WHILE_ON: list[Step] = [
    ("", "GET", ENABLE, None),
    ("", "GET", USERS, None),
    ("", "GET", ROLES, None),
    ("", "GET", f"{USERS}/alice", None),
    ("", "DELETE", ENABLE, None),
    (ALICE, "GET", USERS, None),
    (ALICE, "PUT", f"{USERS}/alice", user("alice", password="other")),
    (ROOT, "GET", USERS, None),
    (ROOT, "GET", ROLES, None),
    (ROOT, "GET", f"{ROLES}/guest", None),
    (ROOT, "DELETE", f"{USERS}/root", None),
    (ROOT, "PUT", ENABLE, None),
    ("root:no", "GET", USERS, None),
    ("root", "GET", USERS, None),
    ("nobody:x", "GET", USERS, None),
    ("", "GET", f"{KEYS}/r/x", None),
    ("", "PUT", f"{KEYS}/o", "value=guest"),
    ("", "GET", f"{KEYS}/?recursive=true&sorted=true", None),
    (ROOT, "PUT", f"{ROLES}/guest", role("guest", revoke=kv(["/*"], ["/*"]))),
    ("", "GET", f"{KEYS}/r/x", None),
    ("", "HEAD", f"{KEYS}/r/x", None),
    ("", "GET", f"{KEYS}/nope", None),
    ("", "PUT", f"{KEYS}/o", "value=2"),
    ("", "PUT", f"{KEYS}/o", "ttl=x"),
    ("", "GET", "/v2/members/leader/x", None),
    ("", "DELETE", "/v2/members/beef", None),
    ("", "POST", "/v2/members", {"peerURLs": ["http://127.0.0.1:1"]}),
    (ALICE, "DELETE", "/v2/members/beef", None),
    (ROOT, "DELETE", "/v2/members/beef", None),
    ("", "GET", "/v2/machines", None),
    ("", "PATCH", f"{KEYS}/o", None),
    (ALICE, "GET", f"{KEYS}/r/x", None),
    (ALICE, "GET", f"{KEYS}/r/x?quorum=true", None),
    (ALICE, "GET", f"{KEYS}/r/?recursive=true", None),
    (ALICE, "GET", f"{KEYS}/r", None),
    (ALICE, "GET", f"{KEYS}/b", None),
    (ALICE, "GET", f"{KEYS}/b?recursive=true", None),
    (ALICE, "PUT", f"{KEYS}/w", "value=2"),
    (ALICE, "PUT", f"{KEYS}/r/x", "value=2"),
    (ALICE, "PUT", f"{KEYS}/r/y", "value=2"),
    (ALICE, "DELETE", f"{KEYS}/r/x", None),
    (ALICE, "DELETE", f"{KEYS}/r/x?recursive=true", None),
    (ALICE, "GET", f"{KEYS}/", None),
    ("alice:no", "GET", f"{KEYS}/r/x", None),
    ("nobody:no", "GET", f"{KEYS}/r/x", None),
    (ROOT, "GET", f"{KEYS}/?recursive=true&sorted=true", None),
    (ROOT, "PUT", f"{KEYS}/o", "value=root"),
    (ROOT, "DELETE", f"{ROLES}/r", None),
    (ALICE, "GET", f"{KEYS}/r/x", None),
    (ROOT, "DELETE", f"{ROLES}/r", None),
    (ROOT, "DELETE", f"{ROLES}/guest", None),
    ("", "GET", f"{KEYS}/o", None),
    (ROOT, "DELETE", ENABLE, None),
]

AFTER: list[Step] = [
    ("", "GET", ENABLE, None),
    ("", "DELETE", ENABLE, None),
    ("", "GET", f"{KEYS}/o", None),
    ("root:wrong", "PUT", f"{KEYS}/o", "value=anybody"),
    ("", "DELETE", f"{USERS}/root", None),
    ("", "GET", USERS, None),
    ("", "GET", ROLES, None),
    ("", "GET", f"{KEYS}/../2/users", None),
]


def ask(member: Member, step: Step) -> tuple[int, str, dict[str, str]]:
    who, method, path, body = step
    is_form = isinstance(body, str) and path.startswith(KEYS)
    text = body if isinstance(body, str) else None if body is None else json.dumps(body)
    headers = {**(FORM if is_form else {"Content-Type": "application/json"})}
    if who:
        headers["Authorization"] = f"Basic {base64.b64encode(who.encode()).decode()}"
    status, answer, fields = fetch(member.client_url + path, method, None if text is None else text.encode(), headers)
    shown = answer.decode().replace(member.client_url, "URL")
    kept = {name: value for name, value in fields.items() if name in KEPT}
    return status, shown, {**kept, "cluster": str("X-Etcd-Cluster-Id" in fields)}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Member, Member]]:
    with (
        start(balsad(), tmp_path / "ours", "--enable-v2") as ours,
        start(real(), tmp_path / "theirs", "--enable-v2") as theirs,
    ):
        for member in (ours, theirs):
            deadline = time.monotonic() + 20
            while member.get("/version")["etcdcluster"] == "not_decided":
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield ours, theirs


def test_v2_users_and_roles_are_the_same(pair: tuple[Member, Member]) -> None:
    ours, theirs = pair

    different = []
    for step in [*BEFORE, *WHILE_ON, *AFTER]:
        mine, want = ask(ours, step), ask(theirs, step)
        if mine != want:
            different.append(f"{step}\n  theirs {want}\n  ours   {mine}")

    assert not different, "\n".join(different)


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_v2_users_change_hands_with_the_data_dir(first: str, tmp_path: Path) -> None:
    """Made by one, asked by the other, also after `kill -9`: hashes, roles, and that somebody is asked at all."""
    one, other = (balsad(), real()) if first == "ours" else (real(), balsad())
    questions: list[Step] = [
        ("", "GET", ENABLE, None),
        (ROOT, "GET", USERS, None),
        (ROOT, "GET", ROLES, None),
        (ALICE, "GET", f"{KEYS}/r/x", None),
        (ALICE, "PUT", f"{KEYS}/o", "value=2"),
        ("alice:no", "GET", f"{KEYS}/r/x", None),
        ("", "GET", f"{KEYS}/o", None),
        (ALICE, "GET", f"{KEYS}/o", None),
    ]
    with start(one, tmp_path / "data", "--enable-v2") as member:
        for step in BEFORE:
            ask(member, step)
        said = [ask(member, step)[:2] for step in questions]
        member.kill()
    with start(other, tmp_path / "data", "--enable-v2", like=member) as member:
        assert [ask(member, step)[:2] for step in questions] == said
        ask(member, (ROOT, "PUT", f"{USERS}/alice", user("alice", password="new")))
        member.kill()
    with start(one, tmp_path / "data", "--enable-v2", like=member) as member:
        assert ask(member, (ALICE, "GET", f"{KEYS}/r/x", None))[0] == 401
        assert ask(member, ("alice:new", "GET", f"{KEYS}/r/x", None))[0] == 200


def test_a_key_that_looks_like_a_user_is_none(tmp_path: Path) -> None:
    """Names come from clients: one with `..` in it must not lead to a key that everybody may write."""
    with start(balsad(), tmp_path / "data") as member:
        for step in BEFORE:
            ask(member, step)
        stored = json.loads(fetch(f"{member.client_url}/v2/auth/enable")[1])
        assert stored == {"enabled": True}
        # bcrypt of "x", cost 4
        hashed = "$2a$04$QcUjOM/HeMVpgBnl3IQ29uV5eFoqOZlumI6UU4.pw.RZdal46NK16"
        as_value = urlencode({"value": json.dumps(user("me", password=hashed, roles=["root"]))})
        assert ask(member, ("", "PUT", f"{KEYS}/me", as_value))[0] in (200, 201)

        assert ask(member, ("../../1/me:x", "GET", USERS, None))[0] == 401
