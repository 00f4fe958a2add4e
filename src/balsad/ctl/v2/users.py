"""The commands of users, and auth enable and disable.

Source: etcd etcdctl/ctlv2/command/user_commands.go, auth_commands.go, client/v2/auth_user.go.
"""

from __future__ import annotations

from typing import Any, Final

from balsad import go_json
from balsad.ctl.v2.endpoints import JSON, EndpointError, Endpoints, Request, V2ClientError
from balsad.ctl.v2.members import read_json
from balsad.ctl.v2.session import Session

_PREFIX: Final = "/v2/auth"


def try_auth(
    session: Session,
    endpoints: Endpoints,
    method: str,
    path: str,
    body: str | None = None,
    *,
    deadline: float | None = None,
    made: bool = False,
) -> dict[str, Any]:
    """`made`: 201 is as good as 200. Raises V2ClientError, with the server's words when it refuses."""
    request = Request(method=method, path=_PREFIX + path, body=body, content_type=JSON if body is not None else "")
    answer = session.ask(endpoints, request, deadline)
    if answer.status != 200 and not (made and answer.status == 201):
        raise EndpointError(read_json(answer.body).get("message", ""))
    return read_json(answer.body) if answer.body else {}


def ask_auth(
    session: Session,
    endpoints: Endpoints,
    method: str,
    path: str,
    body: str | None = None,
    *,
    deadline: float | None = None,
    made: bool = False,
) -> dict[str, Any]:
    """As `try_auth`, but a refusal ends the command."""
    try:
        return try_auth(session, endpoints, method, path, body, deadline=deadline, made=made)
    except V2ClientError as error:
        session.give_up(error)


def _name(session: Session) -> tuple[Endpoints, str]:
    if len(session.args) != 1:
        session.give_up("Please provide a username")
    return session.connect_for_auth(), session.args[0]


def _user_json(name: str, password: str = "", change: tuple[str, list[str]] | None = None) -> str:
    parts = [f'"user":{go_json.quote(name)}']
    if password:
        parts.append(f'"password":{go_json.quote(password)}')
    parts.append('"roles":null')
    if change is not None:
        verb, roles = change
        parts.append(f'"{verb}":{go_json.string_array(roles)}')
    return f"{{{','.join(parts)}}}"


def _path(name: str) -> str:
    return f"/users/{name}" if name else "/users"


def _change(session: Session, endpoints: Endpoints, name: str, body: str, *, made: bool = False) -> None:
    ask_auth(session, endpoints, "PUT", _path(name), body, made=made)


def add(session: Session) -> None:
    endpoints, text = _name(session)
    name, password = session.user_and_password("New password: ", text)
    _change(session, endpoints, name, _user_json(name, password), made=True)
    session.console.print(f"User {name} created")


def change_password(session: Session) -> None:
    from balsad.ctl.password import ask

    endpoints, name = _name(session)
    password = ask(session.console, "New password: ")
    _change(session, endpoints, name, _user_json(name, password))
    session.console.print("Password updated")


def remove(session: Session) -> None:
    endpoints, name = _name(session)
    ask_auth(session, endpoints, "DELETE", _path(name), made=True)
    session.console.print(f"User {name} removed")


def get(session: Session) -> None:
    endpoints, name = _name(session)
    found = ask_auth(session, endpoints, "GET", _path(name))
    roles = [role if isinstance(role, str) else role.get("role", "") for role in found.get("roles") or ()]
    session.console.print(f"User: {found.get('user', '')}")
    session.console.print(f"Roles: {' '.join(roles)}")


def list_all(session: Session) -> None:
    if session.args:
        session.give_up("No arguments accepted")
    endpoints = session.connect_for_auth()
    found = ask_auth(session, endpoints, "GET", "/users")
    for user in found.get("users") or ():
        session.console.print(user.get("user", ""))


def _grant_or_revoke(session: Session, verb: str) -> None:
    roles = session.flags.texts("roles")
    if not roles:
        session.give_up("No roles specified; please use `--roles`")
    endpoints, name = _name(session)
    _change(session, endpoints, name, _user_json(name, change=(verb, roles)))
    session.console.print(f"User {name} updated")


def grant(session: Session) -> None:
    _grant_or_revoke(session, "grant")


def revoke(session: Session) -> None:
    _grant_or_revoke(session, "revoke")


def _switch(session: Session, method: str, words: str) -> None:
    if session.args:
        session.give_up("No arguments accepted")
    endpoints = session.connect_for_auth()
    ask_auth(session, endpoints, method, "/enable", made=True)
    session.console.print(words)


def enable_auth(session: Session) -> None:
    _switch(session, "PUT", "Authentication Enabled")


def disable_auth(session: Session) -> None:
    _switch(session, "DELETE", "Authentication Disabled")
