"""etcdserverpb.Cluster.

Source: etcd server/etcdserver/api/v3rpc/member.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from balsad.api.v3.door import Door, decode
from balsad.errors import (
    Code,
    MemberBadURLsError,
    MemberNotFoundError,
    MemberNotLearnerError,
    PeerURLExistError,
    RequestError,
)
from balsad.membership import parse_urls
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
        service = self._service
        response = rpc_pb2.MemberListResponse(members=[to_message(member) for member in service.members()])
        # As in etcd, answers of this service do not name a revision.
        call.respond(service.header.at(0) + response.SerializeToString())

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
        taken = set(self._service.cluster.peer_urls())
        if any(url in taken for url in urls):
            raise PeerURLExistError
        self._refuse(call, "adding a member")

    def member_remove(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        if self._service.cluster.member(decode(rpc_pb2.MemberRemoveRequest, raw).ID) is None:
            raise MemberNotFoundError
        self._refuse(call, "removing a member")

    def member_update(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        request = decode(rpc_pb2.MemberUpdateRequest, raw)
        if self._service.cluster.member(request.ID) is None:
            raise MemberNotFoundError
        self._refuse(call, "updating a member")

    def member_promote(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        member = self._service.cluster.member(decode(rpc_pb2.MemberPromoteRequest, raw).ID)
        if member is None:
            raise MemberNotFoundError
        if not member.is_learner:
            raise MemberNotLearnerError
        self._refuse(call, "promoting a member")

    def _refuse(self, call: Call, what: str) -> None:
        # Without the peer protocol a second voter could never answer, and the cluster would be lost.
        call.fail(
            Code.UNIMPLEMENTED, f"etcdserver: {what} needs the peer protocol, which this member does not speak yet"
        )


def to_message(member: Member) -> rpc_pb2.Member:
    return rpc_pb2.Member(
        ID=member.id,
        name=member.name,
        peerURLs=member.peer_urls,
        clientURLs=member.client_urls,
        isLearner=member.is_learner,
    )
