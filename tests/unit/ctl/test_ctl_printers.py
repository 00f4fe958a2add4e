"""Formats: what each prints of the same responses. Shapes were taken from etcdctl 3.5.1."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from balsad.client import messages as m
from balsad.client.codec import decode
from balsad.ctl.console import Console, Failure
from balsad.ctl.printers import make_printer
from balsad.ctl.printers.base import Health, Printer

HEADER = m.ResponseHeader(cluster_id=2**64 - 1, member_id=2, revision=3, raft_term=4)
KV = m.KeyValue(key=b"k", create_revision=1, mod_revision=2, version=3, value=b"<v>\xff", lease=7)

Printed = Callable[[str, Callable[[Printer], None]], bytes]


@pytest.fixture
def printed(tmp_path: Path) -> Printed:
    """What a format prints."""

    def run(format_name: str, action: Callable[[Printer], None]) -> bytes:
        name, _, is_hex = format_name.partition(" ")
        path = tmp_path / "out"
        with open(path, "wb") as out:
            console = Console(out.fileno(), out.fileno())
            printer = make_printer(name, console, bool(is_hex))
            assert printer is not None
            action(printer)
            console.flush()
        return path.read_bytes()

    return run


def get(printer: Printer) -> None:
    printer.get(m.RangeResponse(header=HEADER, kvs=[KV], count=1, more=True))


def test_get(printed: Printed) -> None:
    assert printed("simple", get) == b"k\n<v>\xff\n"
    assert printed("simple hex", get) == b"\\x6b\n\\x3c\\x76\\x3e\\xff\n"
    assert printed("json", get) == (
        b'{"header":{"cluster_id":18446744073709551615,"member_id":2,"revision":3,"raft_term":4},'
        b'"kvs":[{"key":"aw==","create_revision":1,"mod_revision":2,"version":3,"value":"PHY+/w==","lease":7}],'
        b'"more":true,"count":1}\n'
    )
    assert printed("fields", get).splitlines()[4:] == [
        b'"Key" : "k"',
        b'"CreateRevision" : 1',
        b'"ModRevision" : 2',
        b'"Version" : 3',
        b'"Value" : "<v>\\xff"',
        b'"Lease" : 7',
        b'"More" : true',
        b'"Count" : 1',
    ]
    assert decode(m.RangeResponse, printed("protobuf", get)).kvs[0] == KV


def test_a_table_of_keys_is_refused(printed: Printed) -> None:
    with pytest.raises(Failure, match="4") as raised:
        printed("table", get)
    assert raised.value.text == "table not supported as output format"


def test_an_unknown_format() -> None:
    assert make_printer("yaml", Console(), False) is None


def test_txn_in_json_has_gos_oneof(printed: Printed) -> None:
    response = m.TxnResponse(
        header=HEADER,
        succeeded=True,
        responses=[
            m.ResponseOp(response_put=m.PutResponse(header=m.ResponseHeader(revision=9))),
            m.ResponseOp(response_range=m.RangeResponse(header=m.ResponseHeader())),
        ],
    )

    assert printed("json", lambda printer: printer.txn(response)).partition(b',"succeeded"')[2] == (
        b':true,"responses":[{"Response":{"response_put":{"header":{"revision":9}}}},'
        b'{"Response":{"response_range":{"header":{}}}}]}\n'
    )


def test_watch_in_json(printed: Printed) -> None:
    response = m.WatchResponse(header=HEADER, events=[m.Event(type=m.Event.DELETE, kv=m.KeyValue(key=b"k"))])
    tail = b',"CompactRevision":0,"Canceled":false,"Created":false}\n'

    assert printed("json", lambda printer: printer.watch(response)).endswith(
        b'"Events":[{"type":1,"kv":{"key":"aw=="}}]' + tail
    )
    failed = m.WatchResponse(canceled=True)
    assert printed("json", lambda printer: printer.watch(failed)).startswith(b'{"Header":{},"Events":null,')


def test_lease_responses_in_json_are_flat(printed: Printed) -> None:
    header = m.ResponseHeader(member_id=2)
    ttl = m.LeaseTimeToLiveResponse(header=header, ID=5, TTL=3, grantedTTL=9)

    assert printed("json", lambda p: p.time_to_live(ttl, keys=False)) == (
        b'{"member_id":2,"id":5,"ttl":3,"granted-ttl":9,"keys":null}\n'
    )
    grant = m.LeaseGrantResponse(header=header, ID=5, TTL=3)
    assert printed("json", lambda p: p.grant(grant)) == b'{"member_id":2,"ID":5,"TTL":3,"Error":""}\n'
    leases = m.LeaseLeasesResponse(header=header)
    assert printed("json", lambda p: p.leases(leases)) == b'{"member_id":2,"leases":[]}\n'


def test_members_with_hexadecimal_ids(printed: Printed) -> None:
    members = [m.Member(ID=255, name="a", peerURLs=["http://p"]), m.Member(ID=16, clientURLs=["http://c"])]
    response = m.MemberListResponse(header=HEADER, members=members)

    assert printed("json hex", lambda printer: printer.member_list(response)) == (
        b'{"header":{"cluster_id":"ffffffffffffffff","member_id":"2","raft_term":4},"members":['
        b'{"ID":"ff","name":"a","peerURLs":["http://p"],"clientURLS":null},'
        b'{"ID":"10","name":"","peerURLs":null,"clientURLS":["http://c"]}]}\n'
    )
    assert printed("simple", lambda printer: printer.member_list(response)) == (
        b"ff, started, a, http://p, , false\n10, unstarted, , , http://c, false\n"
    )


def test_alarms(printed: Printed) -> None:
    response = m.AlarmResponse(alarms=[m.AlarmMember(memberID=7, alarm=m.ALARM_NOSPACE)])

    assert printed("simple", lambda printer: printer.alarms(response)) == b"memberID:7 alarm:NOSPACE \n"
    assert printed("json", lambda printer: printer.alarms(response)) == b'{"alarms":[{"memberID":7,"alarm":1}]}\n'
    assert printed("json", lambda printer: printer.alarms(m.AlarmResponse())) == b"{}\n"


def test_health(printed: Printed) -> None:
    healths = [
        Health("a:1", is_healthy=True, took="1ms"),
        Health("b:2", is_healthy=False, took="5s", error="too slow"),
    ]

    assert printed("simple", lambda printer: printer.endpoint_health(healths)) == (
        b"a:1 is healthy: successfully committed proposal: took = 1ms\n"
        b"b:2 is unhealthy: failed to commit proposal: too slow\n"
    )
    assert printed("json", lambda printer: printer.endpoint_health(healths)) == (
        b'[{"endpoint":"a:1","health":true,"took":"1ms"},'
        b'{"endpoint":"b:2","health":false,"took":"5s","error":"too slow"}]\n'
    )


def test_roles(printed: Printed) -> None:
    response = m.AuthRoleGetResponse(
        perm=[
            m.Permission(permType=m.Permission.READWRITE, key=b"a"),
            m.Permission(permType=m.Permission.READ, key=b"b/", range_end=b"b0"),
            m.Permission(permType=m.Permission.WRITE, key=b"c", range_end=b"\0"),
            m.Permission(permType=m.Permission.WRITE, key=b"d", range_end=b"z"),
        ]
    )

    assert printed("simple", lambda printer: printer.role_get("r", response)) == (
        b"Role r\nKV Read:\n\ta\n\t[b/, b0) (prefix b/)\nKV Write:\n\ta\n\t[c, <open ended>\n\t[d, z)\n"
    )


def test_status_for_people(printed: Printed) -> None:
    status = m.StatusResponse(
        header=m.ResponseHeader(member_id=255),
        version="3.5.1",
        dbSize=20480,
        leader=255,
        raftTerm=2,
        raftIndex=9,
        raftAppliedIndex=8,
        errors=["one", "two"],
    )

    assert printed("simple", lambda printer: printer.endpoint_status([("e:1", status)])) == (
        b"e:1, ff, 3.5.1, 20 kB, true, false, 2, 9, 8, one, two\n"
    )
    assert b'"Errors" : [one two]\n' in printed("fields", lambda p: p.endpoint_status([("e:1", status)]))


def test_a_closed_pipe_is_not_a_crash() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    console = Console(writer, 2)
    console.print("x")
    with pytest.raises(BrokenPipeError):
        console.flush()
    os.close(writer)
