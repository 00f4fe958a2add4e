"""The commands of members. Source: etcd etcdctl/ctlv2/command/member_commands.go, client/v2/members.go."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from balsad import go_json
from balsad.ctl.v2.endpoints import JSON, EndpointError, Endpoints, Request, V2ClientError
from balsad.ctl.v2.session import Session
from balsad.go_quote import quote_go
from balsad.membership import parse_urls

_PREFIX: Final = "/v2/members"


@dataclass(frozen=True, slots=True)
class MemberOf:
    """A member as the v2 API shows it."""

    member_id: str
    name: str
    peer_urls: list[str]
    client_urls: list[str]


def _member(found: dict[str, Any]) -> MemberOf:
    return MemberOf(
        found.get("id", ""), found.get("name", ""), found.get("peerURLs") or [], found.get("clientURLs") or []
    )


def check_status(got: int, *wanted: int) -> None:
    """Raises EndpointError for another status than those."""
    if got not in wanted:
        raise EndpointError(f"unexpected status code {got}")


def read_json(body: bytes) -> dict[str, Any]:
    """Raises EndpointError."""
    try:
        found = json.loads(body)
    except ValueError as error:
        raise EndpointError("invalid character in the answer, which is no JSON") from error
    return found if isinstance(found, dict) else {}


def list_members(session: Session, endpoints: Endpoints, deadline: float | None = None) -> list[MemberOf]:
    """Raises V2ClientError."""
    answer = session.ask(endpoints, Request(method="GET", path=_PREFIX), deadline)
    check_status(answer.status, 200)
    return [_member(found) for found in read_json(answer.body).get("members") or ()]


def _urls_json(urls: list[str]) -> str:
    """Raises EndpointError for what is no URL of a peer."""
    try:
        return f'{{"peerURLs":{go_json.string_array(parse_urls(urls))}}}'
    except ValueError as error:
        raise EndpointError(str(error)) from error


def list_all(session: Session) -> None:
    if session.args:
        session.give_up("No arguments accepted")
    endpoints = session.connect()
    deadline = session.deadline()
    try:
        members = list_members(session, endpoints, deadline)
    except V2ClientError as error:
        session.give_up(error)
    try:
        answer = session.ask(endpoints, Request(method="GET", path=f"{_PREFIX}/leader"), deadline)
        check_status(answer.status, 200)
        leader = _member(read_json(answer.body))
    except V2ClientError as error:
        session.give_up(f"Failed to get leader:  {error}")
    for member in members:
        peers, clients = ",".join(member.peer_urls), ",".join(member.client_urls)
        if not member.name:
            session.console.print(f"{member.member_id}[unstarted]: peerURLs={peers}")
            continue
        leads = str(member.member_id == leader.member_id).lower()
        session.console.print(
            f"{member.member_id}: name={member.name} peerURLs={peers} clientURLs={clients} isLeader={leads}"
        )


def add(session: Session) -> None:
    if len(session.args) != 2:
        session.give_up("Provide a name and a single member peerURL")
    endpoints = session.connect()
    name, url = session.args
    deadline = session.deadline()
    try:
        request = Request(method="POST", path=_PREFIX, body=_urls_json([url]), content_type=JSON)
        answer = session.ask(endpoints, request, deadline)
        check_status(answer.status, 201, 409)
        found = read_json(answer.body)
        if answer.status != 201:
            raise EndpointError(found.get("message", ""))
        new = _member(found)
    except V2ClientError as error:
        session.give_up(error)
    session.console.print(f"Added member named {name} with ID {new.member_id} to cluster")
    try:
        members = list_members(session, endpoints, deadline)
    except V2ClientError as error:
        session.give_up(error)
    cluster = [
        f"{name if member.member_id == new.member_id else member.name}={peer_url}"
        for member in members
        for peer_url in member.peer_urls
    ]
    session.console.print("")
    session.console.print(f"ETCD_NAME={quote_go(name)}")
    session.console.print(f"ETCD_INITIAL_CLUSTER={quote_go(','.join(cluster))}")
    session.console.print('ETCD_INITIAL_CLUSTER_STATE="existing"')


def remove(session: Session) -> None:
    if len(session.args) != 1:
        session.give_up("Provide a single member ID")
    wanted = session.args[0]
    endpoints = session.connect()
    deadline = session.deadline()
    try:
        members = list_members(session, endpoints, deadline)
    except V2ClientError as error:
        session.give_up(f"Error while verifying ID against known members: {error}")
    for member in members:
        if member.name == wanted:
            session.console.error(
                f"Found a member named {member.name}; if this is correct, please use its ID, eg:\n"
                f"\tetcdctl member remove {member.member_id}"
            )
            session.console.error(
                "For more details, read the documentation at "
                "https://github.com/etcd-io/etcd/blob/main/Documentation/runtime-configuration.md#remove-a-member\n"
            )
    if all(member.member_id != wanted for member in members):
        session.give_up(f"Couldn't find a member in the cluster with an ID of {wanted}.")
    try:
        answer = session.ask(endpoints, Request(method="DELETE", path=f"{_PREFIX}/{wanted}"), deadline)
        check_status(answer.status, 204, 410)
    except V2ClientError as error:
        session.give_up(f"Received an error trying to remove member {wanted}: {error}")
    session.console.print(f"Removed member {wanted} from cluster")


def update(session: Session) -> None:
    if len(session.args) != 2:
        session.give_up(
            "Provide an ID and a list of comma separated peerURL (0xabcd http://example.com,http://example1.com)"
        )
    endpoints = session.connect()
    member_id, urls = session.args
    try:
        request = Request(
            method="PUT", path=f"{_PREFIX}/{member_id}", body=_urls_json(urls.split(",")), content_type=JSON
        )
        answer = session.ask(endpoints, request)
        check_status(answer.status, 204, 404, 409)
        if answer.status != 204:
            raise EndpointError(read_json(answer.body).get("message", ""))
    except V2ClientError as error:
        session.give_up(error)
    session.console.print(f"Updated member with ID {member_id} in cluster")
