"""`etcdctl make-mirror`: copy a prefix to another cluster, then every change of it.

Source: etcdctl make_mirror_command.go, client/v3/mirror/syncer.go.
"""

from __future__ import annotations

from balsad.client.client import Client
from balsad.client.kv import Operation, delete_request, prefix_end, put_request
from balsad.client.loops import sleep
from balsad.client.messages import Event
from balsad.ctl.console import EXIT_BAD_ARGS, EXIT_ERROR, Failure
from balsad.ctl.context import ClientSettings, Context, make_tls, split_user
from balsad.ctl.go_text import bytes_of

_BATCH = 1000
_REPORT_S = 30.0


def run(context: Context, args: list[str]) -> None:
    if len(args) != 1:
        raise Failure(EXIT_BAD_ARGS, "make-mirror takes one destination argument")
    flags = context.flags
    settings = ClientSettings()
    settings.endpoints = [args[0]]
    context.set_times(settings)
    user, password = flags.text("dest-user"), flags.text("dest-password")
    settings.user, settings.password = split_user(context, user, password, "Destination Password: ")
    cert, key, cacert = flags.text("dest-cert"), flags.text("dest-key"), flags.text("dest-cacert")
    if cert or key or cacert or not flags.on("dest-insecure-transport"):
        settings.tls = make_tls(cert, key, cacert, insecure_skip_verify=False)
    destination = context.connect(settings, either_mode=False)
    source = context.client()
    mirror = Mirror(context, source, destination)
    context.loop.create_task(mirror.report())
    context.call(mirror.run())
    raise Failure(EXIT_ERROR, "<nil>")


class Mirror:
    """Keys of one cluster on their way to another."""

    def __init__(self, context: Context, source: Client, destination: Client) -> None:
        self.total = 0
        self._context = context
        self._source = source
        self._destination = destination
        self._prefix = bytes_of(context.flags.text("prefix"))
        self._new_prefix = bytes_of(context.flags.text("dest-prefix"))

    async def report(self) -> None:
        """Print now and then how many keys were copied."""
        while True:
            await sleep(self._context.loop, _REPORT_S)
            self._context.console.print(str(self.total))

    async def run(self) -> None:
        """Copy what is there, then follow. Raises CompactedError when changes were lost."""
        revision = (await self._source.kv.get("foo")).header.revision
        no_prefix = self._context.flags.on("no-dest-prefix")
        if no_prefix and self._new_prefix:
            text = "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one"
            raise Failure(EXIT_BAD_ARGS, text)
        if not no_prefix and not self._new_prefix:
            self._new_prefix = self._prefix
        await self._copy(revision)
        watcher = self._source.watch.watch(self._prefix, prefix=True, revision=revision + 1, require_leader=False)
        async for response in watcher:
            await self._apply(list(response.events))

    async def _copy(self, revision: int) -> None:
        key = self._prefix or b"\0"
        end = prefix_end(self._prefix) if self._prefix else b"\0"
        while True:
            response = await self._source.kv.get(key, end, limit=_BATCH, revision=revision)
            for kv in response.kvs:
                await self._destination.kv.put(self._renamed(kv.key), kv.value)
                self.total += 1
            if not response.more:
                return
            key = response.kvs[-1].key + b"\0"

    async def _apply(self, events: list[Event]) -> None:
        """Changes of one revision are one transaction there too."""
        operations: list[Operation] = []
        last_revision = 0
        for event in events:
            if last_revision and event.kv.mod_revision > last_revision:
                await self._destination.kv.txn(success=operations)
                operations = []
            last_revision = event.kv.mod_revision
            key = self._renamed(event.kv.key)
            operations.append(delete_request(key) if event.type == Event.DELETE else put_request(key, event.kv.value))
            self.total += 1
        if operations:
            await self._destination.kv.txn(success=operations)

    def _renamed(self, key: bytes) -> bytes:
        return key.replace(self._prefix, self._new_prefix, 1)
