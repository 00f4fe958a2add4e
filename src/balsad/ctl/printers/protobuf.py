"""The response's own bytes. Source: etcdctl printer_protobuf.go."""

from __future__ import annotations

from typing import ClassVar

from balsad.client import messages as m
from balsad.client.codec import Message, encode
from balsad.ctl.console import EXIT_BAD_FEATURE, Failure
from balsad.ctl.printers.base import Printer


class ProtobufPrinter(Printer):
    name: ClassVar[str] = "protobuf"

    def response(self, response: Message) -> None:
        self.console.write(encode(response))

    def watch(self, response: m.WatchResponse) -> None:
        kept = m.WatchResponse(
            header=response.header,
            created=response.created,
            canceled=response.canceled,
            compact_revision=response.compact_revision,
            events=response.events,
        )
        self.response(kept)

    # Of lease responses etcdctl writes the header alone: its client's structures
    # embed the header, and with it the header's way to be written.

    def grant(self, response: m.LeaseGrantResponse) -> None:
        self.response(response.header)

    def revoke(self, lease_id: int, response: m.LeaseRevokeResponse) -> None:
        text = f"marshal unsupported for type clientv3.LeaseRevokeResponse ({response.header!r})"
        raise Failure(EXIT_BAD_FEATURE, text)

    def keep_alive(self, response: m.LeaseKeepAliveResponse) -> None:
        self.response(response.header)

    def time_to_live(self, response: m.LeaseTimeToLiveResponse, *, keys: bool) -> None:
        self.response(response.header)

    def leases(self, response: m.LeaseLeasesResponse) -> None:
        self.response(response.header)
