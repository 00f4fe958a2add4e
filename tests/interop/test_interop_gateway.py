"""The JSON gateway of ours and of the real etcd 3.5.1, asked the same, right and wrong: equal statuses and bodies."""

from __future__ import annotations

import base64
import http.client
import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from balsad.proto import rpc_pb2 as rpc
from tests.interop.servers import Member, balsad, fetch, program, programs, real, start

pytestmark = pytest.mark.real

Answer = tuple[int, str, str | None, str | None]


def ask(member: Member, path: str, body: str, method: str = "POST", **headers: str) -> Answer:
    """Status, body without what is different by nature, and two headers."""
    status, data, fields = fetch(member.client_url + path, method, body.encode("utf-8", "surrogateescape"), headers)
    text = data.decode("utf-8", "backslashreplace")
    text = re.sub(r'"(cluster_id|member_id|raft_term|ID|memberID|token|leader|version)":"[^"]*"', r'"\1":"X"', text)
    text = re.sub(r'"(raftIndex|raftAppliedIndex|raftTerm|dbSize|dbSizeInUse|hash)":"?\d+"?', r'"\1":X', text)
    text = re.sub(r"127\.0\.0\.1:\d+", "HOST", text)
    # Users and roles come in the order of a Go map.
    text = re.sub(r'"(?:users|roles)":\[([^]]*)\]', lambda found: str(sorted(found[1].split(","))), text)
    return status, text, fields.get("Content-Type"), fields.get("Grpc-Metadata-Content-Type")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Member, Member]]:
    folder = tmp_path_factory.mktemp("gateway")
    with start(balsad(), folder / "ours") as ours, start(real(), folder / "theirs") as theirs:
        yield ours, theirs


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


STEPS: list[tuple[str, str]] = [
    ("/v3/kv/put", json.dumps({"key": b64("a"), "value": b64("1"), "prev_kv": True})),
    ("/v3/kv/put", json.dumps({"key": b64("a"), "value": b64("2"), "prevKv": True})),
    ("/v3/kv/put", json.dumps({"key": b64("a"), "value": b64("2"), "ignore_value": True})),
    ("/v3/kv/put", json.dumps({"key": b64("a"), "lease": "77"})),
    ("/v3/kv/range", json.dumps({"key": b64("a"), "range_end": b64("b"), "limit": 1, "sort_order": "DESCEND"})),
    ("/v3/kv/range", json.dumps({"key": b64("a"), "sortTarget": 3, "sort_order": "1"})),
    ("/v3/kv/range", json.dumps({"key": b64("a"), "revision": "99"})),
    ("/v3/kv/range", json.dumps({"key": None})),
    ("/v3beta/kv/range", json.dumps({"key": b64("a"), "count_only": True})),
    (
        "/v3/kv/txn",
        json.dumps(
            {
                "compare": [{"key": b64("a"), "target": "VERSION", "result": "GREATER", "version": "0"}],
                "success": [
                    {"request_put": {"key": b64("b"), "value": b64("<&>")}},
                    {"requestRange": {"key": b64("b")}},
                    {"request_txn": {"success": [{"request_delete_range": {"key": b64("zz")}}]}},
                ],
                "failure": [],
            }
        ),
    ),
    ("/v3/kv/txn", json.dumps({"success": [{}]})),
    ("/v3/kv/txn", json.dumps({"success": [{"request_range": {"key": b64("a")}, "request_put": {"key": b64("c")}}]})),
    ("/v3/kv/txn", json.dumps({"compare": [{"key": b64("a"), "target": "VALUE", "value": b64("x"), "lease": 1}]})),
    ("/v3/kv/deleterange", json.dumps({"key": b64("b"), "prev_kv": True})),
    ("/v3/kv/compaction", json.dumps({"revision": 99})),
    ("/v3/lease/grant", json.dumps({"TTL": 1000, "ID": "1001"})),
    ("/v3/lease/grant", json.dumps({"TTL": "1000", "ID": 1001})),
    ("/v3/lease/keepalive", json.dumps({"ID": 1001})),
    ("/v3/lease/keepalive", '{"ID":1001}{"ID":"5"} {"ID":1001}'),
    ("/v3/lease/keepalive", ""),
    ("/v3/lease/keepalive", '{"ID":1001} nonsense'),
    ("/v3/lease/keepalive", "[]"),
    ("/v3/lease/keepalive", "{"),
    ("/v3/lease/timetolive", json.dumps({"ID": 1001, "keys": True})),
    ("/v3/lease/leases", ""),
    ("/v3/kv/lease/leases", "{}"),
    ("/v3/lease/revoke", json.dumps({"ID": 1001})),
    ("/v3/cluster/member/list", "{}"),
    ("/v3/maintenance/status", "{}"),
    ("/v3/maintenance/alarm", "{}"),
    ("/v3/maintenance/alarm", json.dumps({"action": "ACTIVATE", "alarm": "NOPE"})),
    # Of no member, and of no kind: what is zero is not written.
    ("/v3/maintenance/alarm", json.dumps({"action": "ACTIVATE", "alarm": "NOSPACE"})),
    ("/v3/maintenance/status", "{}"),
    ("/v3/maintenance/alarm", json.dumps({"action": "DEACTIVATE", "alarm": "NOSPACE"})),
    ("/v3/maintenance/alarm", json.dumps({"action": "ACTIVATE", "memberID": 7})),
    ("/v3/maintenance/status", "{}"),
    ("/v3/maintenance/alarm", json.dumps({"action": "DEACTIVATE", "memberID": 7})),
    ("/v3/maintenance/status", "{}"),
    ("/v3/maintenance/hash", "{}"),
    ("/v3/maintenance/transfer-leadership", json.dumps({"targetID": 5})),
    ("/v3/auth/user/add", json.dumps({"name": "ü<", "password": "p"})),
    ("/v3/auth/user/add", '{"name":"\\ud800x","password":"p"}'),
    ("/v3/auth/user/list", ""),
    ("/v3/auth/role/add", json.dumps({"name": "r"})),
    ("/v3/auth/role/grant", json.dumps({"name": "r", "perm": {"permType": "READWRITE", "key": b64("a")}})),
    ("/v3/auth/role/get", json.dumps({"role": "r"})),
    ("/v3/auth/status", ""),
    ("/v3/auth/enable", ""),
    ("/v3/kv/nope", "{}"),
    ("/v3/", "{}"),
    ("/v3", "{}"),
]
BROKEN = [
    *(
        "{",
        '{"key"',
        '{"key":',
        '{"key":}',
        '{"key":"YQ==",}',
        '{"key":"YQ==" "x"}',
        "[1,2",
        "[]",
        "[1 2]",
        "nul",
        "nulL",
    ),
    *(
        "tru",
        "truE",
        "1",
        '"x"',
        "'x'",
        "{1:2}",
        '{"key":"\\x"}',
        '{"key":"\\u12g4"}',
        '{"key":"a\nb"}',
        "-",
        "-x",
        "01",
    ),
    *("1.", "1.x", "1e", "1ex", "1e+", '{"key":1}', '{"key":true}', '{"key":{}}', '{"key":[97,98]}', '{"key":[300]}'),
    *(
        '{"key":["a"]}',
        '{"key":[1.5]}',
        '{"key":"!!"}',
        '{"key":"YQ"}',
        '{"key":"YQ="}',
        '{"key":"Y==="}',
        '{"key":"YQ=x"}',
    ),
    *('{"key":"YQ==x"}', '{"key":"Y\\nQ=="}', '{"key":"YWFh!"}', '{"limit":1.5}', '{"limit":"x"}', '{"limit":""}'),
    *(
        '{"limit":true}',
        '{"limit":"true"}',
        '{"limit":[]}',
        '{"limit":{}}',
        '{"limit":9223372036854775808}',
        '{"limit":" 1"}',
    ),
    *(
        '{"limit":"1 2"}',
        '{"limit":"null"}',
        '{"limit":"\\"1\\""}',
        '{"limit":1e3}',
        '{"limit":-0}',
        '{"limit":"0x10"}',
    ),
    *('{"sort_order":"nope"}', '{"sort_order":"1"}', '{"sort_order":[]}', '{"sort_order":1.5}', '{"sort_order":99}'),
    *(
        '{"serializable":"true"}',
        '{"serializable":1}',
        '{"key":"YQ==","key":"Yg=="}',
        '{"unknown":{"x":[1]}}',
        " {} trailing",
    ),
    *("\x00", "\xff", '{"\xff":1}', '{"key":"YQ==","limit":null,"keys_only":null}', "\ufeff{}"),
]


def test_each_request_is_answered_alike(pair: tuple[Member, Member]) -> None:
    different = []
    for path, body in STEPS:
        found, wanted = (ask(member, path, body) for member in pair)
        if found != wanted:
            different.append(f"{path} {body}:\n  ours   {found}\n  theirs {wanted}")
    for method in ("GET", "PUT", "DELETE"):
        found, wanted = (ask(member, "/v3/kv/range", "{}", method) for member in pair)
        if found != wanted:
            different.append(f"{method}:\n  ours   {found}\n  theirs {wanted}")
    assert not different, "\n".join(different)


def test_broken_json_is_refused_in_the_same_words(pair: tuple[Member, Member]) -> None:
    different = []
    for body in BROKEN:
        found, wanted = (ask(member, "/v3/kv/range", body) for member in pair)
        if found != wanted:
            different.append(f"{body!r}:\n  ours   {found}\n  theirs {wanted}")
    assert not different, "\n".join(different)


@pytest.mark.parametrize("seed", range(2))
def test_mangled_requests_are_answered_alike(pair: tuple[Member, Member], seed: int) -> None:
    dice = random.Random(seed)
    good = [body for path, body in STEPS if path == "/v3/kv/txn"]
    for _ in range(150):
        body = list(dice.choice(good))
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(body))
            body[at] = dice.choice(['"', "{", "}", "[", "]", ",", ":", "1", "x", "", " ", "null", "\\", "é"])
        text = "".join(body)
        found, wanted = (ask(member, "/v3/kv/txn", text) for member in pair)
        assert found == wanted, text


@pytest.mark.parametrize("who", programs())
def test_a_watch_tells_line_by_line(who: str, tmp_path: Path) -> None:
    with start(program(who), tmp_path / "data") as member:
        connection = http.client.HTTPConnection("127.0.0.1", member.client_port.number, timeout=20)
        create = {"create_request": {"key": b64("w"), "range_end": b64("x"), "prev_kv": True}}
        connection.request("POST", "/v3/watch", json.dumps(create))
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/json"
        created = json.loads(answer.readline())["result"]
        assert created["created"] is True and "watch_id" not in created
        for value in ("1", "2"):
            ask(member, "/v3/kv/put", json.dumps({"key": b64("w"), "value": b64(value)}))
        first = json.loads(answer.readline())["result"]["events"]
        second = json.loads(answer.readline())["result"]["events"]
        assert [event["kv"]["value"] for event in (first[0], second[0])] == [b64("1"), b64("2")]
        assert second[0]["prev_kv"]["value"] == b64("1")
        assert "type" not in first[0]
        connection.close()
        _eventually(lambda: b"etcd_debugging_mvcc_watcher_total 0" in fetch(member.client_url + "/metrics")[1])


def _eventually(holds: Any) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("who", programs())
def test_a_snapshot_comes_as_lines(who: str, tmp_path: Path) -> None:
    with start(program(who), tmp_path / "data") as member:
        ask(member, "/v3/kv/put", json.dumps({"key": b64("a"), "value": b64("x" * 100_000)}))
        status, data, _ = fetch(member.client_url + "/v3/maintenance/snapshot", "POST", b"{}")
        assert status == 200
        parts = [json.loads(line)["result"] for line in data.splitlines()]
        blob = b"".join(base64.b64decode(part.get("blob", "")) for part in parts)
        assert len(blob) % 512 == 32  # pages, and the hash of them
        assert rpc.SnapshotResponse.DESCRIPTOR.fields_by_name["remaining_bytes"].name in parts[0]


@pytest.mark.parametrize("who", programs())
def test_a_token_is_taken_from_the_authorization_header(who: str, tmp_path: Path) -> None:
    with start(program(who), tmp_path / "data") as member:
        ask(member, "/v3/auth/user/add", json.dumps({"name": "root", "password": "p"}))
        ask(member, "/v3/auth/user/grant", json.dumps({"user": "root", "role": "root"}))
        ask(member, "/v3/auth/enable", "{}")
        login = json.dumps({"name": "root", "password": "p"}).encode()
        token = json.loads(fetch(member.client_url + "/v3/auth/authenticate", "POST", login)[1])["token"]
        body = json.dumps({"key": b64("a")})
        refused = ask(member, "/v3/kv/range", body)
        assert (refused[0], json.loads(refused[1])["code"]) == (400, 3)
        assert ask(member, "/v3/kv/range", body, Authorization=token)[0] == 200
        assert ask(member, "/v3/kv/range", body, Authorization="wrong")[0] == 401
