"""Asking for the members, also of a cluster that has lost its quorum."""

from __future__ import annotations

from balsad.client.client import Client
from balsad.client.messages import MemberListResponse
from balsad.ctl.context import Context


async def list_members(context: Context, client: Client) -> MemberListResponse:
    """All members; without a quorum, as the asked member knows them.

    An operator who repairs a cluster must see its members just then, and up
    to 3.4 every etcdctl did.
    """
    from balsad.client.errors import CallTimeoutError
    from balsad.errors import Code, RequestError

    try:
        return await client.cluster.members(timeout=context.left)
    except RequestError as error:
        code = getattr(error, "status", error.code)
        stuck = isinstance(error, CallTimeoutError) or code == Code.UNAVAILABLE
        if not stuck or not client.channel.was_ready:
            raise
        context.start_timeout()
        try:
            return await client.cluster.members(linearizable=False, timeout=context.left)
        except RequestError:
            raise error from None


def cluster_endpoints(context: Context) -> list[str]:
    """The endpoints a command is to ask: those of --endpoints, or with --cluster all members' client URLs."""
    if not context.flags.on("cluster"):
        return [endpoint.strip() for endpoint in context.flags.texts("endpoints")]
    settings = context.settings_without_user()
    client = context.connect(settings)
    context.start_timeout()
    text = "failed to fetch endpoints from etcd cluster member list: %s"
    response = context.call(list_members(context, client), text=text)
    context.call(client.close())
    return [url for member in response.members for url in member.clientURLs]
