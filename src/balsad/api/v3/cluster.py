"""etcdserverpb.Cluster.

Source: etcd server/etcdserver/api/v3rpc/member.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from balsad.api.v3.door import Door, decode
from balsad.errors import MemberBadURLsError, RequestError
from balsad.membership import new_member, parse_urls
from balsad.proto import rpc_pb2

if TYPE_CHECKING:
    from balsad.membership import Member
    from balsad.server.service import Service
    from balsad.transport import Call, RpcServer


class ClusterApi:
    def __init__(self, service: Service, door: Door) -> None:
        self._service = service
        self._door = door

    def register(self, server: RpcServer) -> None:
        prefix = "/etcdserverpb.Cluster/"
        server.unary(prefix + "MemberList", self.member_list)
        server.unary(prefix + "MemberAdd", self.member_add)
        server.unary(prefix + "MemberRemove", self.member_remove)
        server.unary(prefix + "MemberUpdate", self.member_update)
        server.unary(prefix + "MemberPromote", self.member_promote)

    def _answer(self, call: Call) -> None:
        # Remove, update, promote and list answer alike. As in etcd, none names a revision.
        response = rpc_pb2.MemberListResponse(members=self._members())
        call.respond(self._service.header.at(0) + response.SerializeToString())

    def _members(self) -> list[rpc_pb2.Member]:
        return [to_message(member) for member in self._service.members()]

    def member_list(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        request = decode(rpc_pb2.MemberListRequest, raw)

        def go_on(error: RequestError | None) -> None:
            if error is not None:
                call.fail(error.code, error.text)
            else:
                self._answer(call)

        if request.linearizable:
            self._service.linearize(go_on)
        else:
            go_on(None)

    def member_add(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        request = decode(rpc_pb2.MemberAddRequest, raw)
        try:
            urls = parse_urls(request.peerURLs)
        except ValueError:
            raise MemberBadURLsError from None
        now_s = int(self._service.env.clock.time())
        member = new_member("", urls, "", now_s=now_s, is_learner=request.isLearner)

        def done(error: RequestError | None) -> None:
            if error is not None:
                call.fail(error.code, error.text)
                return
            response = rpc_pb2.MemberAddResponse(member=to_message(member), members=self._members())
            call.respond(self._service.header.at(0) + response.SerializeToString())

        service = self._service
        service.access.for_admin(call, lambda: service.member_changes.add(member, done))

    def member_remove(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        request = decode(rpc_pb2.MemberRemoveRequest, raw)
        service = self._service
        service.access.for_admin(call, lambda: service.member_changes.remove(request.ID, self._answerer(call)))

    def member_update(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        request = decode(rpc_pb2.MemberUpdateRequest, raw)
        service, urls = self._service, tuple(request.peerURLs)
        service.access.for_admin(call, lambda: service.member_changes.update(request.ID, urls, self._answerer(call)))

    def member_promote(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        request = decode(rpc_pb2.MemberPromoteRequest, raw)
        service = self._service
        service.access.for_admin(call, lambda: service.promote_member(request.ID, self._answerer(call)))

    def _answerer(self, call: Call) -> Callable[[RequestError | None], None]:
        def done(error: RequestError | None) -> None:
            if error is not None:
                call.fail(error.code, error.text)
            else:
                self._answer(call)

        return done


def to_message(member: Member) -> rpc_pb2.Member:
    return rpc_pb2.Member(
        ID=member.id,
        name=member.name,
        peerURLs=member.peer_urls,
        clientURLs=member.client_urls,
        isLearner=member.is_learner,
    )
