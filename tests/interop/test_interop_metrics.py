"""Metrics that dashboards and alerts ask for: what ours counts is what the real etcd 3.5.1 counts of the same calls."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from balsad.proto import rpc_pb2 as rpc
from tests.interop.clusters import cluster
from tests.interop.servers import Member, balsad, fetch, finish, program, programs, real, start
from tests.interop.v3 import connect
from tests.real import real_etcdctl

pytestmark = pytest.mark.real

FLAGS = ("--enable-v2", "--metrics=extensive", "--bcrypt-cost=4", "--snapshot-count=10")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
CALLS = """
put a 1
put a 2
put b 1
get a
get a --consistency=s
get a --rev=99
get a --limit=1 --prefix
del b
put a 3 --prev-kv
put a --ignore-value
put c 1
put c2 2
del c --prefix --prev-kv
lease grant 100
lease grant 3000
lease timetolive 1234
lease revoke 1234
member list
endpoint status
endpoint hashkv
user add u:p
user add u:p
role list
compaction 3
get a --rev=1
get a --rev=1 --consistency=s
defrag
alarm list
snapshot save SNAPSHOT
""".strip().splitlines()
IS_THERE = {"key": "Yg==", "target": "VERSION", "result": "GREATER"}
PUT = {"requestPut": {"key": "Yg==", "value": "MQ=="}}
READ = {"requestRange": {"key": "Yg==", "serializable": True}}
DELETE = {"requestDeleteRange": {"key": "Yg==", "prevKv": True}}
TXNS: list[dict[str, object]] = [
    {"success": [PUT]},
    {"compare": [IS_THERE, IS_THERE], "success": [DELETE], "failure": [PUT]},
    {"compare": [IS_THERE, IS_THERE], "success": [PUT], "failure": [READ, PUT]},
    {"compare": [IS_THERE], "success": [READ]},
    {"success": [READ]},
    {"compare": [IS_THERE], "success": [{"requestTxn": {"compare": [IS_THERE], "success": [PUT, READ]}}]},
    {"success": [{"requestPut": {"key": "Yg==", "prevKv": True, "ignoreValue": True}}, READ]},
]
# How often things were done: the same calls must give the same numbers.
COUNTS = re.compile(
    r"grpc_server_(started|handled|msg_received|msg_sent)_total|grpc_server_handling_seconds_count"
    r"|etcd_server_client_requests_total|etcd_http_(received_total|failed_total|successful_duration_seconds_count)"
    r"|etcd_disk_backend_(defrag|snapshot)_duration_seconds_count|etcd_mvcc_(put|delete|txn)_total"
    r"|etcd_mvcc_db_open_read_transactions|etcd_debugging_mvcc_(total_put_size_in_bytes|pending_events_total)"
    r"|etcd_mvcc_hash_(rev_)?duration_seconds_count|etcd_debugging_mvcc_db_compaction_(keys_total|total_.*_count)"
    r"|etcd_debugging_lease_(granted_total|revoked_total|ttl_total_count|ttl_total_sum|ttl_total_bucket)"
    r"|etcd_debugging_store_(writes|watch_requests|expires)_total|etcd_debugging_store_watchers"
    r"|etcd_snap_fsync_duration_seconds_count|etcd_debugging_snap_save_(total|marshalling)_duration_seconds_count"
    r"|etcd_server_apply_duration_seconds_count"
    r"|etcd_server_(has_leader|is_leader|leader_changes_seen_total|quota_backend_bytes|proposals_failed_total)"
)
NOT_OURS = re.compile(
    # What tells of the inside of Go's allocator and collector.
    r"go_gc_|go_memstats_(alloc_bytes_total|buck|frees|gc_|last_gc|lookups|mallocs|mcache|mspan|next_gc|other|stack)"
)


def scrape(member: Member) -> dict[str, float]:
    """Values by name and labels."""
    text = fetch(f"{member.client_url}/metrics")[1].decode()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def counted(member: Member) -> dict[str, float]:
    # etcd also asks its v2 tree, through the log, whether anybody enabled authentication there.
    return {name: value for name, value in scrape(member).items() if COUNTS.match(name) and "op=QGET" not in name}


def use(member: Member) -> None:
    for line in CALLS:
        words = line.replace("SNAPSHOT", str(member.data_dir) + ".snapshot").split()
        finish(real_etcdctl(), f"--endpoints={member.client_url}", *words)
    for txn in TXNS:
        fetch(f"{member.client_url}/v3/kv/txn", "POST", json.dumps(txn).encode())
    keys = f"{member.client_url}/v2/keys"
    fetch(f"{keys}/a", "PUT", b"value=1", FORM)
    fetch(f"{keys}/a?prevExist=false", "PUT", b"value=1", FORM)
    fetch(f"{keys}/a?quorum=true")
    fetch(f"{keys}/nope")
    fetch(f"{keys}/a", "DELETE")


def test_the_same_calls_are_counted_alike(tmp_path: Path) -> None:
    with (
        start(balsad(), tmp_path / "ours", *FLAGS) as ours,
        start(real(), tmp_path / "theirs", *FLAGS) as theirs,
    ):
        for member in (ours, theirs):
            deadline = time.monotonic() + 20
            while member.get("/version")["etcdcluster"] == "not_decided":
                assert time.monotonic() < deadline
                time.sleep(0.05)
            use(member)
            # A compaction goes on behind the answer.
            while not counted(member).get("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count{}"):
                assert time.monotonic() < deadline
                time.sleep(0.05)
        found, wanted = counted(ours), counted(theirs)
        times = scrape(ours)
        for timed in ("etcd_disk_backend_snapshot", "etcd_mvcc_hash_rev", "etcd_disk_backend_defrag"):
            assert 0 < times[f"{timed}_duration_seconds_sum{{}}"] < 60
        names, wanted_names = ({name.partition("{")[0] for name in scrape(member)} for member in (ours, theirs))

    different = {
        name: (found.get(name), wanted.get(name))
        for name in sorted({*found, *wanted})
        if found.get(name, 0) != wanted.get(name, 0)
    }
    assert different == {}
    assert sorted(name for name in wanted_names - names if not NOT_OURS.match(name)) == []
    assert not any(value for name, value in found.items() if "compaction" in name and "_count" in name and value > 1)


@pytest.mark.parametrize("name", programs())
def test_round_trips_between_members_are_told(name: str, tmp_path: Path) -> None:
    """The alert etcdMemberCommunicationSlow asks for them."""
    with cluster(tmp_path, {one: program(name) for one in ("m1", "m2", "m3")}) as members:
        members.wait_healthy("m1", "m2", "m3")
        urls = [members.seat(one).client_url for one in ("m1", "m2", "m3")]

        def all_tell() -> bool:
            return all(
                len(re.findall(r"(?m)^etcd_network_peer_round_trip_time_seconds_count\{", text)) == 2
                for text in (fetch(f"{url}/metrics")[1].decode() for url in urls)
            )

        members.until("round trips are told", all_tell, 20)


@pytest.mark.parametrize("name", programs())
def test_heartbeats_that_a_leader_sends_late_are_told(name: str, tmp_path: Path) -> None:
    flags = ("--heartbeat-interval=100", "--election-timeout=3000")
    with cluster(tmp_path, {one: program(name) for one in ("m1", "m2", "m3")}, *flags) as members:
        members.wait_healthy("m1", "m2", "m3")
        member = members.members[members.leader()]
        before = scrape(member)["etcd_server_heartbeat_send_failures_total{}"]
        member.process.send_signal(signal.SIGSTOP)
        time.sleep(0.6)
        member.process.send_signal(signal.SIGCONT)

        members.until(
            "late heartbeats are told",
            lambda: scrape(member)["etcd_server_heartbeat_send_failures_total{}"] >= before + 2,
            20,
        )
        assert "leader failed to send out heartbeat on time" in member.log_path.read_text()


@pytest.mark.parametrize("who", programs())
def test_streams_that_fail_for_what_was_sent(who: str, tmp_path: Path) -> None:
    name = "etcd_network_server_stream_failures_total"
    with start(program(who), tmp_path / "data") as member:
        with connect(member.address) as v3:
            for path in ("/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/LeaseKeepAlive"):
                for noise in (b"\xff\xff\xff", bytes(3_000_000)):
                    with pytest.raises(grpc.RpcError):
                        list(v3.channel.stream_stream(path)(iter([noise]), timeout=10))
        wanted = {f"{name}{{API={api},Type=receive}}": 2.0 for api in ("watch", "lease-keepalive")}
        deadline = time.monotonic() + 20
        while {key: value for key, value in scrape(member).items() if key.startswith(name)} != wanted:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("name", programs())
def test_what_takes_too_long_is_counted_and_told(name: str, tmp_path: Path) -> None:
    """Here everything does; and a compaction tells that it is over."""
    flags = ("--experimental-warning-apply-duration=0", "--log-level=info")
    with start(program(name), tmp_path / "data", *flags) as member:
        for number in range(5):
            member.etcdctl("put", "a", str(number))
        member.etcdctl("compaction", "4")
        deadline = time.monotonic() + 20
        while "finished scheduled compaction" not in member.log_path.read_text("utf-8"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert scrape(member)["etcd_server_slow_apply_total{}"] >= 5
        assert '"msg":"apply request took too long"' in member.log_path.read_text("utf-8")


@pytest.mark.parametrize("name", programs())
def test_reads_that_no_quorum_confirms_are_told_of(name: str, tmp_path: Path) -> None:
    with cluster(tmp_path, dict.fromkeys(("m0", "m1"), program(name))) as one:
        member = one.members["m0"]
        one.members.pop("m1").kill()
        one.ctl("get", "a", "--command-timeout=9s", check=False)

        one.until("told of late reads", lambda: "ReadIndex response took too long, retrying" in log_of(member))
        one.until("told of lost reads", lambda: "timed out waiting for read index response" in log_of(member))


def log_of(member: Member) -> str:
    return member.log_path.read_text("utf-8", "replace")


@pytest.mark.parametrize("name", programs())
def test_what_streams_count_as_whose_clients_go(name: str, tmp_path: Path) -> None:
    """Source: etcd api/v3rpc lease.go (LeaseKeepAlive), watch.go."""
    streams = {"etcdserverpb.Lease": ("LeaseKeepAlive", "Unavailable"), "etcdserverpb.Watch": ("Watch", "Canceled")}
    with start(program(name), tmp_path / "data") as member:
        lease = member.etcdctl("lease", "grant", "100").split()[1]
        member.etcdctl("lease", "keep-alive", "--once", lease)
        with connect(member.address) as v3:
            v3.watch(rpc.WatchCreateRequest(key=b"a")).next()
        deadline = time.monotonic() + 20
        for service, (method, code) in streams.items():
            labels = f"grpc_code={code},grpc_method={method},grpc_service={service},grpc_type=bidi_stream"
            while scrape(member)[f"grpc_server_handled_total{{{labels}}}"] != 1:
                assert time.monotonic() < deadline, method
                time.sleep(0.1)
