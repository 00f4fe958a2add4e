"""Alarms asked about, raised and disarmed through the log.

Source: etcd server/etcdserver/apply.go (Alarm).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from balsad.errors import UnknownError
from balsad.proto import rpc_pb2
from balsad.server.alarms import CORRUPT, NONE, NOSPACE
from balsad.wire import bytes_field

if TYPE_CHECKING:
    from balsad.server.alarms import Alarms
    from balsad.server.propose import Result

log = logging.getLogger(__name__)


def apply(alarms: Alarms, header: bytes, request: rpc_pb2.AlarmRequest) -> Result:
    """The AlarmResponse behind `header`, or the refusal."""
    changed: list[rpc_pb2.AlarmMember] = []
    if request.action == rpc_pb2.AlarmRequest.GET:
        changed = alarms.get(request.alarm)
    elif request.action == rpc_pb2.AlarmRequest.ACTIVATE:
        if request.alarm in (NOSPACE, CORRUPT):
            before = len(alarms.get(request.alarm))
            changed = [alarms.activate(request.memberID, request.alarm)]
            if before == 0:
                _log("alarm raised", changed[0])
        elif request.alarm != NONE:
            return UnknownError(f"etcdserver: unknown alarm type {request.alarm}")
    elif request.action == rpc_pb2.AlarmRequest.DEACTIVATE:
        member = alarms.deactivate(request.memberID, request.alarm)
        if member is not None:
            changed = [member]
            if not alarms.get(request.alarm):
                _log("alarm disarmed", member)
    else:
        return UnknownError(f"etcdserver: unknown alarm action {request.action}")
    return b"".join([header, *(bytes_field(2, member.SerializeToString()) for member in changed)])


def _log(what: str, member: rpc_pb2.AlarmMember) -> None:
    log.warning(what, extra={"alarm": rpc_pb2.AlarmType.Name(member.alarm), "from": f"{member.memberID:x}"})
