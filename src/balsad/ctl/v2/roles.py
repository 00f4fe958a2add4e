"""The commands of roles. Source: etcd etcdctl/ctlv2/command/role_commands.go, client/v2/auth_role.go."""

from __future__ import annotations

from typing import Any

from balsad import go_json
from balsad.ctl.v2.endpoints import JSON, Endpoints, Request, V2ClientError, clean_path
from balsad.ctl.v2.members import check_status, read_json
from balsad.ctl.v2.session import Session
from balsad.ctl.v2.users import ask_auth, try_auth


def _name(session: Session) -> tuple[Endpoints, str]:
    if len(session.args) != 1:
        session.give_up("Please provide a role name")
    return session.connect_for_auth(), session.args[0]


def _path(name: str) -> str:
    return f"/roles/{name}" if name else "/roles"


def _role_json(name: str, change: str = "") -> str:
    return f'{{"role":{go_json.quote(name)},"permissions":{{"kv":{{"read":null,"write":null}}}}{change}}}'


def list_all(session: Session) -> None:
    if session.args:
        session.give_up("No arguments accepted")
    endpoints = session.connect_for_auth()
    try:
        request = Request(method="GET", path="/v2/auth/roles", content_type=JSON)
        answer = session.ask(endpoints, request)
        check_status(answer.status, 200)
        found = read_json(answer.body)
    except V2ClientError as error:
        session.give_up(error)
    for role in found.get("roles") or ():
        session.console.print(role.get("role", ""))


def add(session: Session) -> None:
    endpoints, name = _name(session)
    deadline = session.deadline()
    try:
        try_auth(session, endpoints, "GET", _path(name), deadline=deadline)
    except V2ClientError:
        pass  # as it should be: there is none of that name
    else:
        session.give_up(f"Role {name} already exists")
    ask_auth(session, endpoints, "PUT", _path(name), _role_json(name), deadline=deadline, made=True)
    session.console.print(f"Role {name} created")


def remove(session: Session) -> None:
    endpoints, name = _name(session)
    ask_auth(session, endpoints, "DELETE", _path(name), made=True)
    session.console.print(f"Role {name} removed")


def _patterns(role: dict[str, Any], kind: str) -> list[str]:
    found = role.get("permissions", {}).get("kv", {}).get(kind)
    return found if isinstance(found, list) else []


def get(session: Session) -> None:
    endpoints, name = _name(session)
    role = ask_auth(session, endpoints, "GET", _path(name))
    session.console.print(f"Role: {role.get('role', '')}")
    for kind in ("read", "write"):
        session.console.print(f"KV {kind.capitalize()}:")
        for pattern in _patterns(role, kind):
            session.console.print(f"\t{pattern}")


def _grant_or_revoke(session: Session, verb: str) -> None:
    flags = session.flags
    path = flags.text("path")
    if not path:
        session.give_up("No path specified; please use `--path`")
    if clean_path(path) != path:
        session.give_up(f"Not canonical path; please use `--path={clean_path(path)}`")
    chosen = [name for name in ("read", "write", "readwrite") if flags.on(name)]
    if len(chosen) != 1:
        session.give_up("Please specify exactly one of --read, --write or --readwrite")
    endpoints, name = _name(session)
    deadline = session.deadline()
    granted = go_json.string_array([path])
    read, write = (granted if kind in chosen[0] else "null" for kind in ("read", "write"))
    change = f',"{verb}":{{"kv":{{"read":{read},"write":{write}}}}}'
    before = ask_auth(session, endpoints, "GET", _path(name), deadline=deadline)
    after = ask_auth(session, endpoints, "PUT", _path(name), _role_json(name, change), deadline=deadline)
    unchanged = f"Role unchanged; already {verb.removesuffix('e')}ed" if before == after else ""
    session.console.print(f"{unchanged}Role {name} updated")


def grant(session: Session) -> None:
    _grant_or_revoke(session, "grant")


def revoke(session: Session) -> None:
    _grant_or_revoke(session, "revoke")
