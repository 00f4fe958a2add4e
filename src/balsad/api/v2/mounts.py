"""Where the v2 pages hang."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from balsad.api.v2.auth import AuthPages
from balsad.api.v2.keys import KeysPage
from balsad.api.v2.members import MembersPage, machines_page
from balsad.api.v2.stats import leader_page, self_page, store_page
from balsad.api.web import Handler

if TYPE_CHECKING:
    from balsad.server.service import Service
    from balsad.server.v2_auth import V2Auth
    from balsad.server.v2_requests import V2Requests


def v2_mounts(
    service: Service, requests: V2Requests, auth: V2Auth, append_counts: Callable[[], tuple[int, int]]
) -> dict[str, Handler]:
    """The pages by their paths."""
    keys = KeysPage(requests, auth, service.cluster_id, service.metrics)
    members = MembersPage(service, auth)
    return {
        "/v2/keys": keys,
        "/v2/keys/": keys,
        "/v2/members": members,
        "/v2/members/": members,
        "/v2/machines": machines_page(service),
        "/v2/stats/store": store_page(requests),
        "/v2/stats/self": self_page(service, append_counts),
        "/v2/stats/leader": leader_page(service),
        **AuthPages(service, auth).mounts(),
    }
