"""`etcdctl defrag`. Source: etcdctl defrag_command.go."""

from __future__ import annotations

from balsad.ctl.commands.members import cluster_endpoints
from balsad.ctl.console import EXIT_ERROR, Exit
from balsad.ctl.context import Context


def run(context: Context, args: list[str]) -> None:
    data_dir = context.flags.text("data-dir")
    if data_dir:
        from balsad.ctl.commands.utl_defrag import defrag

        context.console.error("Use `etcdutl defrag` instead. The --data-dir is going to be decomissioned in v3.6.\n")
        defrag(context.console, data_dir, "%s")
    client = context.client()
    failures = 0
    for endpoint in cluster_endpoints(context):
        one = client.only(endpoint)
        context.start_timeout()
        try:
            context.loop.run(one.maintenance.defragment(timeout=context.left))
        except Exception as error:
            context.check_refusal(error)
            context.console.error(f"Failed to defragment etcd member[{endpoint}] ({error})")
            failures += 1
        else:
            context.console.print(f"Finished defragmenting etcd member[{endpoint}]")
        context.call(one.close())
    if failures:
        raise Exit(EXIT_ERROR)
