"""Authentication in a cluster of balsad and the real etcd: a token of one member is good at all, at once."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from balsad.proto import auth_pb2
from balsad.proto import rpc_pb2 as rpc
from tests.interop.auth_calls import AuthCalls, connect
from tests.interop.clusters import Cluster, cluster
from tests.interop.servers import balsad, real

READWRITE: Any = 2
DENIED = ("PERMISSION_DENIED", "etcdserver: permission denied")
ROUNDS = 12


def addresses(made: Cluster) -> list[str]:
    return [member.address for member in made.members.values()]


@pytest.mark.real
@pytest.mark.parametrize("leader", ["ours", "theirs"])
def test_a_login_counts_at_every_member_at_once(leader: str, tmp_path: Path) -> None:
    """A member that has not applied the login yet lets the request wait for it."""
    programs = {"ours": balsad(), "theirs": real(), "another": balsad()}
    with cluster(tmp_path, programs, "--bcrypt-cost=4") as made, contextlib.ExitStack() as opened:
        made.make_leader(leader)
        sides: list[AuthCalls] = [opened.enter_context(connect(address)) for address in addresses(made)]
        sides[0].add_role("r", auth_pb2.Permission(permType=READWRITE, key=b"a"))
        sides[1].add_user("u", "pw", "r")
        sides[2].enable()

        for number in range(ROUNDS):
            token = sides[number % 3].login("u", "pw")
            for side in sides:
                assert side.outcome("KV/Range", rpc.RangeRequest(key=b"a", serializable=True), token).header.revision
                assert side.outcome("KV/Put", rpc.PutRequest(key=b"a", value=b"%d" % number), token).header.revision
                assert side.outcome("KV/Put", rpc.PutRequest(key=b"b"), token) == DENIED
                txn = rpc.TxnRequest(success=[rpc.RequestOp(request_put=rpc.PutRequest(key=b"b"))])
                assert side.outcome("KV/Txn", txn, token) == DENIED
                assert not side.watch(rpc.WatchCreateRequest(key=b"a"), token).canceled

        # What one changes, all know: a changed password ends every token, wherever it is shown.
        root = sides[1].login("root", "rpw")
        request = rpc.AuthUserChangePasswordRequest(name="u", password="new")
        sides[0].call("Auth/UserChangePassword", request, root)
        sides[1].login("u", "new")
        for side in sides:
            assert side.outcome("KV/Range", rpc.RangeRequest(key=b"a"), token) == (
                "UNAUTHENTICATED",
                "etcdserver: invalid auth token",
            )
            status = side.call("Auth/AuthStatus", rpc.AuthStatusRequest(), root)
            assert (status.enabled, status.authRevision) == (True, 8)

        # Nobody has changed what the others have not; and leases run out, though nobody but root may revoke them.
        side = sides[2]
        side.call("Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=7, TTL=1))
        side.call("KV/Put", rpc.PutRequest(key=b"leased", lease=7), root)
        made.until("the lease ran out", lambda: side.call("KV/Range", rpc.RangeRequest(key=b"leased"), root).count == 0)
        revision = side.call("KV/Put", rpc.PutRequest(key=b"end"), root).header.revision
        hash_kv = rpc.HashKVRequest(revision=revision)
        made.until(
            "equal HashKV",
            lambda: len({each.call("Maintenance/HashKV", hash_kv, root).hash for each in sides}) == 1,
        )
