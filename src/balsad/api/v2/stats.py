"""/v2/stats: what this member counted of the store, of itself, and as a leader of its followers.

Source: etcd server/etcdserver/api/v2stats, v2http/client.go (statsHandler).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from balsad import go_json
from balsad.api.v2.members import message
from balsad.api.web import Handler
from balsad.api.web.answers import allows_get_only
from balsad.durations import format_duration
from balsad.membership import format_id
from balsad.server.v2_requests import V2Requests
from balsad.transport import HttpRequest, HttpResponder
from balsad.v2store import format_ns

if TYPE_CHECKING:
    from balsad.server.service import Service

_JSON: Final = {"Content-Type": "application/json"}


def store_page(requests: V2Requests) -> Handler:
    def page(request: HttpRequest, responder: HttpResponder) -> None:
        if allows_get_only(request, responder):
            responder.respond(200, _JSON, requests.tree.encode_stats())

    return page


def self_page(service: Service, append_counts: Callable[[], tuple[int, int]]) -> Handler:
    """`append_counts` gives how many MsgApps this member has sent and received."""
    started_ns = int(service.env.clock.time() * 1e9)

    def page(request: HttpRequest, responder: HttpResponder) -> None:
        if not allows_get_only(request, responder):
            return
        driver = service.driver
        now = service.env.clock.time()
        passed_s = service.env.clock.monotonic() - driver.led_since
        since_ns = int((now - passed_s) * 1e9)
        leader = format_id(driver.leader) if driver.leader else ""
        sent, received = append_counts()
        body = (
            f'{{"name":{go_json.quote(service.config.name)},"id":"{format_id(service.member_id)}",'
            f'"state":"{"StateLeader" if driver.is_leader else "StateFollower"}",'
            f'"startTime":"{format_ns(started_ns)}",'
            f'"leaderInfo":{{"leader":"{leader}","uptime":"{format_duration(int(passed_s * 1e9))}",'
            f'"startTime":"{format_ns(since_ns)}"}},'
            f'"recvAppendRequestCnt":{received},"sendAppendRequestCnt":{sent}}}'
        )
        responder.respond(200, _JSON, body.encode())

    return page


def leader_page(service: Service) -> Handler:
    def page(request: HttpRequest, responder: HttpResponder) -> None:
        if not allows_get_only(request, responder):
            return
        if not service.driver.is_leader:
            message(responder, 403, "not current leader")
            return
        # Messages travel on streams, whose latency nobody measures: etcd, too, shows these for them.
        latency = '{"current":0,"average":0,"standardDeviation":0,"minimum":9223372036854776000,"maximum":0}'
        followers = ",".join(
            f'"{format_id(member.id)}":{{"latency":{latency},"counts":{{"fail":0,"success":0}}}}'
            for member in service.members()
            if member.id != service.member_id
        )
        body = f'{{"leader":"{format_id(service.member_id)}","followers":{{{followers}}}}}'
        responder.respond(200, _JSON, body.encode())

    return page
