"""`etcdctl member`. Source: etcdctl member_command.go."""

from __future__ import annotations

from balsad.ctl.commands.members import list_members as list_all_members
from balsad.ctl.console import EXIT_BAD_ARGS, EXIT_ERROR, Failure
from balsad.ctl.context import Context
from balsad.ctl.go_text import parse_uint
from balsad.go_quote import quote_go


def add(context: Context, args: list[str]) -> None:
    if not args:
        raise Failure(EXIT_BAD_ARGS, "member name not provided")
    if len(args) > 1:
        hints = [f", did you mean --peer-urls={arg}" for arg in args if arg.lower().startswith("http")]
        raise Failure(EXIT_BAD_ARGS, "too many arguments" + "".join(hints))
    name = args[0]
    peer_urls = context.flags.text("peer-urls")
    if not peer_urls:
        raise Failure(EXIT_BAD_ARGS, "member peer urls not provided")
    context.start_timeout()
    client = context.client()
    urls = _checked_urls(peer_urls)
    is_learner = context.flags.on("learner")
    response = context.call(client.cluster.add(urls, is_learner=is_learner, timeout=context.left))
    context.printer.member_add(response)
    if context.printer.name == "simple":
        cluster = ",".join(
            f"{name if member.ID == response.member.ID else member.name}={url}"
            for member in response.members
            for url in member.peerURLs
        )
        context.console.print("")
        context.console.print(f"ETCD_NAME={quote_go(name)}")
        context.console.print(f"ETCD_INITIAL_CLUSTER={quote_go(cluster)}")
        context.console.print(f"ETCD_INITIAL_ADVERTISE_PEER_URLS={quote_go(peer_urls)}")
        context.console.print('ETCD_INITIAL_CLUSTER_STATE="existing"')


def remove(context: Context, args: list[str]) -> None:
    member_id = _member_id(args)
    context.start_timeout()
    client = context.client()
    context.printer.member_remove(member_id, context.call(client.cluster.remove(member_id, timeout=context.left)))


def update(context: Context, args: list[str]) -> None:
    member_id = _member_id(args)
    peer_urls = context.flags.text("peer-urls")
    if not peer_urls:
        raise Failure(EXIT_BAD_ARGS, "member peer urls not provided")
    context.start_timeout()
    client = context.client()
    urls = _checked_urls(peer_urls)
    response = context.call(client.cluster.update(member_id, urls, timeout=context.left))
    context.printer.member_update(member_id, response)


def list_members(context: Context, args: list[str]) -> None:
    context.start_timeout()
    client = context.client()
    context.printer.member_list(context.call(list_all_members(context, client)))


def promote(context: Context, args: list[str]) -> None:
    member_id = _member_id(args)
    context.start_timeout()
    client = context.client()
    context.printer.member_promote(member_id, context.call(client.cluster.promote(member_id, timeout=context.left)))


def _member_id(args: list[str]) -> int:
    if len(args) != 1:
        raise Failure(EXIT_BAD_ARGS, "member ID is not provided")
    try:
        return parse_uint(args[0], 16)
    except ValueError as error:
        raise Failure(EXIT_BAD_ARGS, f"bad member ID arg ({error}), expecting ID in Hex") from error


def _checked_urls(text: str) -> list[str]:
    """The URLs, if the server will take them for URLs of peers."""
    from balsad.config.urls import parse_url

    urls = text.split(",")
    for url in urls:
        try:
            parse_url(url.strip())
        except ValueError as error:
            raise Failure(EXIT_ERROR, error) from error
    return urls
