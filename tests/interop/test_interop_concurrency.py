"""Lock and Election as services of the server, ours and the real one asked the same."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from balsad.proto import rpc_pb2 as rpc
from balsad.proto import v3election_pb2 as election
from balsad.proto import v3lock_pb2 as lock
from tests.interop.servers import Member, fetch, program, programs, start
from tests.interop.v3 import V3, connect

pytestmark = pytest.mark.real

KINDS: dict[str, tuple[Any, Any]] = {
    "Lock": (lock.LockRequest, lock.LockResponse),
    "Unlock": (lock.UnlockRequest, lock.UnlockResponse),
    "Campaign": (election.CampaignRequest, election.CampaignResponse),
    "Proclaim": (election.ProclaimRequest, election.ProclaimResponse),
    "Leader": (election.LeaderRequest, election.LeaderResponse),
    "Resign": (election.ResignRequest, election.ResignResponse),
}


@pytest.fixture(params=programs())
def member(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Member]:
    with start(program(request.param), tmp_path / "data") as one:
        yield one


@pytest.fixture
def v3(member: Member) -> Iterator[V3]:
    with connect(member.address) as client:
        yield client


def call(v3: V3, method: str, /, timeout: float = 10.0, metadata: Any = None, **fields: Any) -> Any:
    request, response = KINDS[method]
    service = "v3lockpb.Lock" if method in ("Lock", "Unlock") else "v3electionpb.Election"
    stub = v3.channel.unary_unary(
        f"/{service}/{method}", request_serializer=request.SerializeToString, response_deserializer=response.FromString
    )
    return stub(request(**fields), timeout=timeout, metadata=metadata)


def refusal(ask: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        ask()
    error: Any = caught.value
    return error.code(), error.details()


def test_a_lock_goes_from_one_to_the_next(v3: V3) -> None:
    v3.lease_grant(0x11, 100)
    v3.lease_grant(0x22, 100)
    first = call(v3, "Lock", name=b"l", lease=0x11)
    assert first.key == b"l/11"
    assert call(v3, "Lock", name=b"l", lease=0x11).key == b"l/11"  # it holds it already
    with ThreadPoolExecutor(1) as pool:
        second: Future[Any] = pool.submit(call, v3, "Lock", name=b"l", lease=0x22)
        time.sleep(0.3)
        assert not second.done()
        assert call(v3, "Unlock", key=first.key).header.revision == 4
        answer = second.result(10)
    assert (answer.key, answer.header.revision) == (b"l/22", 4)


def test_who_gives_up_waiting_leaves_no_key(v3: V3) -> None:
    v3.lease_grant(0x11, 100)
    v3.lease_grant(0x22, 100)
    call(v3, "Lock", name=b"l", lease=0x11)
    code, words = refusal(lambda: call(v3, "Lock", timeout=0.5, name=b"l", lease=0x22))
    # Whose clock strikes first, the caller's or the member's: the member's own word for it is UNKNOWN.
    assert (code, words.lower()) in (
        (grpc.StatusCode.DEADLINE_EXCEEDED, "deadline exceeded"),
        (grpc.StatusCode.UNKNOWN, "context deadline exceeded"),
    )
    deadline = time.monotonic() + 10
    while v3.range(b"l/", range_end=b"l0").count > 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_lock_without_a_lease_gets_one_of_a_minute(v3: V3) -> None:
    key = call(v3, "Lock", name=b"l").key
    lease = int(key.removeprefix(b"l/"), 16)
    assert v3.leases() == [lease]
    found = v3.lease_keys(lease)
    assert found.grantedTTL == 60
    assert list(found.keys) == [key]


def test_an_unknown_lease_is_refused(v3: V3) -> None:
    assert refusal(lambda: call(v3, "Lock", name=b"l", lease=0x99)) == (
        grpc.StatusCode.UNKNOWN,
        "etcdserver: requested lease not found",
    )
    assert refusal(lambda: call(v3, "Campaign", name=b"e", lease=0x99))[0] == grpc.StatusCode.UNKNOWN


def test_an_election_from_beginning_to_end(v3: V3) -> None:
    for lease in (0x11, 0x22):
        v3.lease_grant(lease, 100)
    assert refusal(lambda: call(v3, "Leader", name=b"e")) == (grpc.StatusCode.UNKNOWN, "election: no leader")
    observed: queue.Queue[bytes] = queue.Queue()
    watching = threading.Thread(target=_observe, args=(v3, b"e", observed), daemon=True)
    watching.start()
    one = call(v3, "Campaign", name=b"e", lease=0x11, value=b"one").leader
    assert (one.name, one.key, one.rev, one.lease) == (b"e", b"e/11", 2, 0x11)
    assert observed.get(timeout=10) == b"one"
    assert call(v3, "Leader", name=b"e").kv.value == b"one"
    call(v3, "Proclaim", leader=one, value=b"more")
    assert observed.get(timeout=10) == b"more"
    with ThreadPoolExecutor(1) as pool:
        second: Future[Any] = pool.submit(call, v3, "Campaign", name=b"e", lease=0x22, value=b"two")
        time.sleep(0.3)
        assert not second.done()
        call(v3, "Resign", leader=one)
        assert second.result(10).leader.key == b"e/22"
    assert observed.get(timeout=10) == b"two"
    assert call(v3, "Leader", name=b"e").kv.value == b"two"
    assert refusal(lambda: call(v3, "Proclaim", leader=one, value=b"late")) == (
        grpc.StatusCode.UNKNOWN,
        "election: not leader",
    )
    again = call(v3, "Campaign", name=b"e", lease=0x22, value=b"two again").leader
    assert again.key == b"e/22"
    assert observed.get(timeout=10) == b"two again"


def _observe(v3: V3, name: bytes, found: queue.Queue[bytes]) -> None:
    stub = v3.channel.unary_stream(
        "/v3electionpb.Election/Observe",
        request_serializer=election.LeaderRequest.SerializeToString,
        response_deserializer=election.LeaderResponse.FromString,
    )
    try:
        for answer in stub(election.LeaderRequest(name=name), timeout=60):
            found.put(answer.kv.value)
    except grpc.RpcError:
        pass


def test_a_leader_key_must_be_given(v3: V3) -> None:
    words = (grpc.StatusCode.UNKNOWN, '"leader" field must be provided')
    assert refusal(lambda: call(v3, "Proclaim", value=b"x")) == words
    assert refusal(lambda: call(v3, "Resign")) == words


def test_the_server_acts_as_who_calls(v3: V3) -> None:
    """Nobody gets by a lock what he may not put himself."""
    for name in ("root", "u"):
        v3.call("Auth/UserAdd", rpc.AuthUserAddRequest(name=name, password="p"), rpc.AuthUserAddResponse)
    grant = rpc.AuthUserGrantRoleRequest(user="root", role="root")
    v3.call("Auth/UserGrantRole", grant, rpc.AuthUserGrantRoleResponse)
    v3.call("Auth/RoleAdd", rpc.AuthRoleAddRequest(name="r"), rpc.AuthRoleAddResponse)
    permission = {"permType": 2, "key": b"mine/", "range_end": b"mine0"}
    give = rpc.AuthRoleGrantPermissionRequest(name="r", perm=permission)
    v3.call("Auth/RoleGrantPermission", give, rpc.AuthRoleGrantPermissionResponse)
    v3.call("Auth/UserGrantRole", rpc.AuthUserGrantRoleRequest(user="u", role="r"), rpc.AuthUserGrantRoleResponse)
    v3.call("Auth/AuthEnable", rpc.AuthEnableRequest(), rpc.AuthEnableResponse)
    login = rpc.AuthenticateRequest(name="u", password="p")
    token = v3.call("Auth/Authenticate", login, rpc.AuthenticateResponse).token

    assert call(v3, "Lock", name=b"mine", metadata=(("token", token),)).key.startswith(b"mine/")
    denied = refusal(lambda: call(v3, "Lock", name=b"others", metadata=(("token", token),)))
    assert denied == (grpc.StatusCode.UNKNOWN, "etcdserver: permission denied")
    assert refusal(lambda: call(v3, "Lock", name=b"mine"))[1] == "etcdserver: user name is empty"


def test_by_the_gateway(member: Member) -> None:
    def post(path: str, **fields: Any) -> Any:
        return json.loads(fetch(member.client_url + path, "POST", json.dumps(fields).encode())[1])

    locked = post("/v3/lock/lock", name="bA==")
    assert "revision" in locked["header"] and locked["key"]
    assert "header" in post("/v3/lock/unlock", key=locked["key"])
    leader = post("/v3/election/campaign", name="ZQ==", value="dg==")["leader"]
    assert post("/v3/election/leader", name="ZQ==")["kv"]["value"] == "dg=="
    assert "header" in post("/v3/election/proclaim", leader=leader, value="dw==")
    assert "header" in post("/v3/election/resign", leader=leader)
    assert post("/v3/election/leader", name="ZQ==")["message"] == "election: no leader"
