"""The commands of keys and directories.

Source: etcd etcdctl/ctlv2/command/*_command.go, format.go, client/v2/keys.go.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final
from urllib.parse import urlencode

from balsad import go_json
from balsad.ctl.console import EXIT_BAD_ARGS
from balsad.ctl.v2.endpoints import FORM, Answer, EndpointError, Endpoints, Request, V2ClientError
from balsad.ctl.v2.session import Session

_PREFIX: Final = "/v2/keys"
_INVALID: Final = "client: response is invalid json. The endpoint is probably not valid etcd cluster endpoint"

Node = dict[str, Any]


class Response:
    """What the server made of a request."""

    def __init__(self, action: str, node: Node, prev_node: Node | None, index: int) -> None:
        self.action = action
        self.node = node
        self.prev_node = prev_node
        self.index = index


def key_path(key: str) -> str:
    return _PREFIX + (key if key.startswith("/") or not key else f"/{key}")


def read_response(answer: Answer) -> Response:
    """Raises EndpointError for a refusal, and for what is no answer of an etcd."""
    try:
        found = json.loads(answer.body.decode("utf-8", "surrogateescape"))
        if answer.status in (200, 201):
            return Response(found["action"], found["node"], found.get("prevNode"), answer.etcd_index)
        code, words, index = found["errorCode"], found["message"], found["index"]
    except (ValueError, KeyError, TypeError) as error:
        raise EndpointError(_INVALID) from error
    raise EndpointError(f"{code}: {words} ({found.get('cause', '')}) [{index}]")


def _send_to(session: Session, endpoints: Endpoints, request: Request) -> Response:
    try:
        return read_response(session.ask(endpoints, request))
    except V2ClientError as error:
        session.fail(error)


def _form(**fields: str) -> str:
    return urlencode(sorted(fields.items()), errors="surrogateescape")


def _put(
    session: Session,
    key: str,
    value: str | None,
    *,
    prev_exist: str = "",
    prev_value: str = "",
    prev_index: int = 0,
) -> Request:
    """Without a value it is for a directory."""
    query: dict[str, str] = {}
    form: dict[str, str] = {}
    if value is None:
        query["dir"] = "true"
    else:
        form["value"] = value
        if prev_value:
            query["prevValue"] = prev_value
    if prev_index:
        query["prevIndex"] = str(prev_index)
    if prev_exist:
        query["prevExist"] = prev_exist
    ttl_s = session.flags.number("ttl")
    if ttl_s > 0:
        form["ttl"] = str(ttl_s)
    return Request(
        method="PUT",
        path=key_path(key),
        query=query,
        body=_form(**form),
        content_type=FORM,
        once=prev_exist == "false",
    )


def _value(session: Session) -> str:
    """The second argument, or all of standard input."""
    if len(session.args) > 1:
        return session.args[1]
    session.console.flush()
    text = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
    if not text:
        session.fail("value required", EXIT_BAD_ARGS)
    return text


def _value_command(session: Session, *, prev_exist: str = "", prev_value: str = "", prev_index: int = 0) -> None:
    endpoints = session.connect()
    key = session.key()
    request = _put(session, key, _value(session), prev_exist=prev_exist, prev_value=prev_value, prev_index=prev_index)
    print_response(session, _send_to(session, endpoints, request))


def set_key(session: Session) -> None:
    flags = session.flags
    _value_command(session, prev_value=flags.text("swap-with-value"), prev_index=flags.index("swap-with-index"))


def update(session: Session) -> None:
    _value_command(session, prev_exist="true")


def make(session: Session) -> None:
    if not session.flags.on("in-order"):
        _value_command(session, prev_exist="false")
        return
    endpoints = session.connect()
    key = session.key()
    form = {"value": _value(session)}
    if session.flags.number("ttl") > 0:
        form["ttl"] = str(session.flags.number("ttl"))
    request = Request(method="POST", path=key_path(key), body=_form(**form), content_type=FORM)
    print_response(session, _send_to(session, endpoints, request))


def _dir_command(session: Session, prev_exist: str) -> None:
    endpoints = session.connect()
    response = _send_to(session, endpoints, _put(session, session.key(), None, prev_exist=prev_exist))
    if session.output != "simple":
        print_response(session, response)


def make_dir(session: Session) -> None:
    _dir_command(session, "false")


def set_dir(session: Session) -> None:
    _dir_command(session, "")


def update_dir(session: Session) -> None:
    _dir_command(session, "true")


def _delete(session: Session, query: dict[str, str]) -> None:
    endpoints = session.connect()
    request = Request(method="DELETE", path=key_path(session.key()), query=query, content_type=FORM, once=True)
    response = _send_to(session, endpoints, request)
    if not response.node.get("dir") or session.output != "simple":
        print_response(session, response)


def remove(session: Session) -> None:
    flags = session.flags
    query: dict[str, str] = {}
    if flags.text("with-value"):
        query["prevValue"] = flags.text("with-value")
    if flags.index("with-index"):
        query["prevIndex"] = str(flags.index("with-index"))
    for name in ("dir", "recursive"):
        if flags.on(name):
            query[name] = "true"
    _delete(session, query)


def remove_dir(session: Session) -> None:
    _delete(session, {"dir": "true"})


def _read(session: Session, endpoints: Endpoints, key: str, *, recursive: bool) -> Response:
    flags = session.flags
    query = {
        "recursive": str(recursive).lower(),
        "sorted": str(flags.on("sort")).lower(),
        "quorum": str(flags.on("quorum")).lower(),
    }
    return _send_to(session, endpoints, Request(method="GET", path=key_path(key), query=query))


def get(session: Session) -> None:
    endpoints = session.connect()
    response = _read(session, endpoints, session.key(), recursive=False)
    if response.node.get("dir"):
        session.give_up(f"{response.node.get('key', '')}: is a directory")
    print_response(session, response)


def list_dir(session: Session) -> None:
    endpoints = session.connect()
    key = session.args[0] if session.args else "/"
    response = _read(session, endpoints, key, recursive=session.flags.on("recursive"))
    if session.output != "simple":
        print_response(session, response)
        return
    if not response.node.get("dir"):
        session.console.print(response.node.get("key", ""))
    _print_keys(session, response.node)


def _print_keys(session: Session, above: Node) -> None:
    with_slash = session.flags.on("p")
    waiting = list(reversed(above.get("nodes") or ()))
    while waiting:
        node = waiting.pop()
        session.console.print(node.get("key", "") + ("/" if with_slash and node.get("dir") else ""))
        waiting += reversed(node.get("nodes") or ())


def print_response(session: Session, response: Response) -> None:
    node, prev_node, say = response.node, response.prev_node, session.console.print
    if session.output == "simple":
        if response.action == "delete":
            say(f"PrevNode.Value: {(prev_node or {}).get('value', '')}")
        else:
            say(node.get("value", ""))
    elif session.output == "extended":
        say(f"Key: {node.get('key', '')}")
        say(f"Created-Index: {node.get('createdIndex', 0)}")
        say(f"Modified-Index: {node.get('modifiedIndex', 0)}")
        if prev_node is not None:
            say(f"PrevNode.Value: {prev_node.get('value', '')}")
        say(f"TTL: {node.get('ttl', 0)}")
        say(f"Index: {response.index}")
        if response.action != "delete":
            say("")
            say(node.get("value", ""))
    elif session.output == "json":
        action = go_json.quote(response.action)
        say(f'{{"action":{action},"node":{_node_json(node)},"prevNode":{_node_json(prev_node)}}}')
    else:
        session.console.error(f"Unsupported output format: {session.output}")


def _node_json(node: Node | None) -> str:
    if node is None:
        return "null"
    nodes = "null"
    if node.get("nodes") is not None:
        nodes = f"[{','.join(_node_json(child) for child in node['nodes'])}]"
    parts = [
        f'"key":{go_json.quote(node.get("key", ""))}',
        *(['"dir":true'] if node.get("dir") else []),
        f'"value":{go_json.quote(node.get("value", ""))}',
        f'"nodes":{nodes}',
        f'"createdIndex":{node.get("createdIndex", 0)}',
        f'"modifiedIndex":{node.get("modifiedIndex", 0)}',
    ]
    if node.get("expiration") is not None:
        parts.append(f'"expiration":{go_json.quote(node["expiration"])}')
    if node.get("ttl"):
        parts.append(f'"ttl":{node["ttl"]}')
    return f"{{{','.join(parts)}}}"
