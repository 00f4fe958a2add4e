"""`cluster-health`. Source: etcd etcdctl/ctlv2/command/cluster_health.go."""

from __future__ import annotations

import json
import time
from typing import Final

from balsad.ctl.console import EXIT_INTERRUPTED, Exit, Failure
from balsad.ctl.v2.endpoints import EndpointError, V2ClientError, fetch
from balsad.ctl.v2.members import MemberOf, list_members
from balsad.ctl.v2.session import Session
from balsad.ctl.v2.watch import end_well_when_interrupted

EXIT_CLUSTER_NOT_HEALTHY: Final = EXIT_INTERRUPTED
_PAUSE_S: Final = 10.0


def cluster_health(session: Session) -> None:
    forever = session.flags.on("forever")
    if forever:
        end_well_when_interrupted(session)
    try:
        session.check_tls_files()
    except Failure as failure:
        session.fail(failure.text)
    endpoints = session.unsynced()
    if session.globals.on("debug"):
        session.console.error(f"Cluster-Endpoints: {', '.join(endpoints.urls)}")
    try:
        members = list_members(session, endpoints, time.monotonic() + 3600.0)
    except V2ClientError as error:
        session.console.print("cluster may be unhealthy: failed to list members")
        session.fail(error)
    while True:
        healthy = sum(_is_healthy(session, member) for member in members)
        if healthy == len(members):
            session.console.print("cluster is healthy")
        else:
            session.console.print("cluster is degraded" if healthy else "cluster is unavailable")
        if not forever:
            raise Exit(0 if healthy == len(members) else EXIT_CLUSTER_NOT_HEALTHY)
        session.console.print("\nnext check after 10 second...\n")
        session.console.flush()
        time.sleep(_PAUSE_S)


def _is_healthy(session: Session, member: MemberOf) -> bool:
    say, member_id = session.console.print, member.member_id
    if not member.client_urls:
        say(f"member {member_id} is unreachable: no available published client urls")
        return False
    for url in member.client_urls:
        try:
            body = fetch(
                f"{url}/health", tls=session.tls, timeout_s=session.dial_timeout_s, server_name=session.server_name
            )
            health = json.loads(body)["health"]
        except (EndpointError, ValueError, KeyError, TypeError) as error:
            say(f"failed to check the health of member {member_id} on {url}: {error}")
            continue
        if health in ("true", True):
            say(f"member {member_id} is healthy: got healthy result from {url}")
            return True
        say(f"member {member_id} is unhealthy: got unhealthy result from {url}")
        return False
    say(f"member {member_id} is unreachable: [{' '.join(member.client_urls)}] are all unreachable")
    return False
