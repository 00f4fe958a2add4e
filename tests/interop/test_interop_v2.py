"""The v2 API of ours and of the real etcd 3.5.1, asked the same: the same statuses, headers and bodies.

What cannot be equal is put out of the comparison: ids of members, raft's indexes, moments in time.
"""

from __future__ import annotations

import http.client
import json
import random
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.interop.servers import HeldPort, Member, balsad, fetch, program, programs, real, start

pytestmark = pytest.mark.real

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
KEPT = ("Content-Type", "X-Etcd-Index", "Allow")
Answer = tuple[int, str, dict[str, str]]


def ask(
    member: Member, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None
) -> Answer:
    data = body.encode("utf-8", "surrogateescape") if body is not None else None
    status, answer, fields = fetch(member.client_url + path, method, data, headers)
    text = answer.decode("utf-8", "surrogateescape")
    text = re.sub(r'"expiration":"[^"]*"', '"expiration":"T"', text)
    text = re.sub(r'"(ttl)":(-?\d+)', lambda found: f'"ttl":{round(int(found[2]) / 10)}', text)
    return status, text, {name: value for name, value in fields.items() if name in KEPT}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Member, Member]]:
    folder = tmp_path_factory.mktemp("v2")
    # With a heartbeat of 10 ms the version of the cluster may be set later than the first request: both have been up.
    with (
        start(balsad(), folder / "ours", "--enable-v2") as ours,
        start(real(), folder / "theirs", "--enable-v2") as theirs,
    ):
        for member in (ours, theirs):
            deadline = time.monotonic() + 20
            while member.get("/version")["etcdcluster"] == "not_decided":
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield ours, theirs


def form(**fields: Any) -> str:
    return urlencode({name.rstrip("_"): value for name, value in fields.items()})


STEPS: list[tuple[str, str, str | None]] = [
    ("GET", "/v2/keys", None),
    ("GET", "/v2/keys/", None),
    ("GET", "/v2/keys/nope", None),
    ("PUT", "/v2/keys/a", form(value="1")),
    ("PUT", "/v2/keys/a", form(value="2")),
    ("PUT", "/v2/keys/a?value=query", None),
    ("PUT", "/v2/keys/a?value=query", form(value="body first")),
    ("HEAD", "/v2/keys/a", None),
    ("GET", "/v2/keys/a?quorum=true", None),
    ("GET", "/v2/keys/a/b", None),
    ("PUT", "/v2/keys/a/b", form(value="a file is on the way")),
    ("PUT", "/v2/keys/dir/sub/leaf", form(value="x")),
    ("PUT", "/v2/keys/dir/_hidden", form(value="x")),
    ("PUT", "/v2/keys/dir", form(value="x")),
    ("PUT", "/v2/keys/dir", form(dir="true")),
    ("PUT", "/v2/keys/dir2", form(dir="true")),
    ("PUT", "/v2/keys/dir2", form(dir="true", prevExist="false")),
    ("GET", "/v2/keys/dir", None),
    ("GET", "/v2/keys/dir?recursive=true&sorted=true", None),
    ("GET", "/v2/keys/dir/_hidden", None),
    ("GET", "/v2/keys/?recursive=true&sorted=true", None),
    ("PUT", "/v2/keys/a", form(value="3", prevExist="true")),
    ("PUT", "/v2/keys/new", form(value="3", prevExist="true")),
    ("PUT", "/v2/keys/a", form(value="3", prevExist="false")),
    ("PUT", "/v2/keys/new", form(value="3", prevExist="false")),
    ("PUT", "/v2/keys/a", form(value="4", prevValue="no")),
    ("PUT", "/v2/keys/a", form(value="4", prevValue="3")),
    ("PUT", "/v2/keys/a", form(value="4", prevIndex="1")),
    ("PUT", "/v2/keys/a", form(value="4", prevValue="no", prevIndex="1")),
    ("PUT", "/v2/keys/dir", form(value="4", prevValue="no")),
    ("PUT", "/v2/keys/a", form(value="5", noValueOnSuccess="true")),
    ("POST", "/v2/keys/queue", form(value="first")),
    ("POST", "/v2/keys/queue", form(value="second", ttl="100")),
    ("POST", "/v2/keys/queue", form(dir="true", noValueOnSuccess="1")),
    ("GET", "/v2/keys/queue?sorted=true", None),
    ("DELETE", "/v2/keys/dir", None),
    ("DELETE", "/v2/keys/dir?dir=true", None),
    ("DELETE", "/v2/keys/dir2?dir=true", None),
    ("DELETE", "/v2/keys/dir?recursive=true", None),
    ("DELETE", "/v2/keys/a?prevValue=no", None),
    ("DELETE", "/v2/keys/a?prevIndex=3", None),
    ("DELETE", "/v2/keys/a?prevValue=5", None),
    ("DELETE", "/v2/keys/a", None),
    ("DELETE", "/v2/keys/", None),
    ("DELETE", "/v2/keys/?recursive=true", None),
    ("PUT", "/v2/keys/", form(value="x")),
    ("PUT", "/v2/keys/ttl", form(value="x", ttl="1000")),
    ("PUT", "/v2/keys/ttl", form(ttl="2000", refresh="true")),
    ("PUT", "/v2/keys/ttl", form(ttl="2000", refresh="true", prevExist="true")),
    ("PUT", "/v2/keys/ttl", form(value="y", ttl="2000", refresh="true")),
    ("PUT", "/v2/keys/ttl", form(refresh="true")),
    ("PUT", "/v2/keys/ttl", form(refresh="maybe")),
    ("PUT", "/v2/keys/ttl", form(value="x", ttl="")),
    ("PUT", "/v2/keys/ttl", form(value="x", ttl="soon")),
    ("PUT", "/v2/keys/ttl", form(value="x", ttl="-1")),
    ("PUT", "/v2/keys/ttl", form(value="x", ttl="99999999999999999999")),
    ("PUT", "/v2/keys/x", form(value="x", prevIndex="x")),
    ("PUT", "/v2/keys/x", form(value="x", prevIndex="")),
    ("PUT", "/v2/keys/x", form(value="x", prevValue="")),
    ("PUT", "/v2/keys/x", form(value="x", prevExist="")),
    ("PUT", "/v2/keys/x", form(value="x", dir="yes")),
    ("PUT", "/v2/keys/x?wait=true", form(value="x")),
    ("GET", "/v2/keys/x?recursive=maybe", None),
    ("GET", "/v2/keys/x?sorted=2", None),
    ("GET", "/v2/keys/x?wait=T&waitIndex=-1", None),
    ("GET", "/v2/keys/x?stream=y", None),
    ("GET", "/v2/keys/x?quorum=y", None),
    ("PUT", "/v2/keys/x?noValueOnSuccess=y", form(value="x")),
    ("PUT", "/v2/keys/x", "value=%zz"),
    ("PUT", "/v2/keys/x?value=%z", None),
    ("PUT", "/v2/keys/x", "value=1;dir=false"),
    ("PUT", "/v2/keys/" + quote("ünï/cödé <&>"), form(value='quotes " and <tags> & \u2028 and \x01')),
    ("GET", "/v2/keys/" + quote("ünï/cödé <&>"), None),
    ("PUT", "/v2/keys/bytes", "value=%ff%fe"),
    ("GET", "/v2/keys/bytes", None),
    ("PUT", "/v2/keys/a//b", form(value="x")),
    ("PUT", "/v2/keys/a/../b", form(value="x")),
    ("PUT", "/v2/keys/empty", None),
    ("GET", "/v2/keys/ttl?wait=true&waitIndex=1&recursive=true", None),
    ("PATCH", "/v2/keys/a", None),
    ("GET", "/v2/keysandmore", None),
    ("GET", "/v2/", None),
    ("GET", "/v2/nothing", None),
    ("PUT", "/v2/machines", None),
    ("POST", "/v2/stats/self", None),
    ("GET", "/v2/stats/nothing", None),
    ("PATCH", "/v2/members", None),
    ("GET", "/v2/members/nobody", None),
    ("POST", "/v2/members", "{}"),
    ("PUT", "/v2/members", "{}"),
    ("DELETE", "/v2/members", None),
    ("DELETE", "/v2/members/zz", None),
    ("DELETE", "/v2/members/1234", None),
]


def test_each_request_is_answered_alike(pair: tuple[Member, Member]) -> None:
    ours, theirs = pair
    different = []
    for method, path, body in STEPS:
        headers = FORM if body is not None else None
        found, wanted = (ask(member, method, path, body, headers) for member in (ours, theirs))
        if found != wanted:
            different.append(f"{method} {path} {body}:\n  ours   {found}\n  theirs {wanted}")
    # Stores that counted alike have refused alike. etcd asks the store, too, whether there are users of v2.
    counts = [re.sub(r'"getsFail":\d+', "", ask(member, "GET", "/v2/stats/store")[1]) for member in (ours, theirs)]
    if counts[0] != counts[1]:
        different.append(f"stats/store: {counts[0]} {counts[1]}")
    assert not different, "\n".join(different)


@pytest.mark.parametrize("seed", range(3))
def test_random_histories_are_answered_alike(pair: tuple[Member, Member], seed: int) -> None:
    ours, theirs = pair
    dice = random.Random(seed)
    names = [f"/r{seed}/{'/'.join(dice.choices('abc_', k=dice.randint(1, 3)))}" for _ in range(12)]
    for step in range(150):
        path = "/v2/keys" + dice.choice(names)
        fields: dict[str, str] = {}
        method = dice.choice(("GET", "GET", "PUT", "PUT", "PUT", "POST", "DELETE", "HEAD"))
        for name, values in (
            ("recursive", ("true", "false")),
            ("sorted", ("true",)),
            ("dir", ("true", "false")),
            ("quorum", ("true",)),
            ("prevValue", ("1", "2")),
            ("prevIndex", (str(dice.randint(1, 400)),)),
            ("prevExist", ("true", "false")),
            ("ttl", ("1000", "")),
            ("refresh", ("true",)),
            ("noValueOnSuccess", ("true",)),
        ):
            if dice.random() < 0.12:
                fields[name] = dice.choice(values)
        if method == "GET":
            fields["sorted"] = "true"  # without it both list in an order of their own
        if method in ("PUT", "POST"):
            fields["value"] = dice.choice("123")
        text = urlencode(fields)
        if method in ("PUT", "POST"):
            answers = [ask(member, method, path, text, FORM) for member in pair]
        else:
            answers = [ask(member, method, f"{path}?{text}") for member in pair]
        assert answers[0] == answers[1], f"step {step}: {method} {path} {text}"
    assert ours is not theirs


class Waiting:
    """A GET that waits, in a thread; `lines` are what has come."""

    def __init__(self, member: Member, path: str) -> None:
        self.lines: list[str] = []
        self._connection = http.client.HTTPConnection("127.0.0.1", member.client_port.number, timeout=20)
        self._connection.request("GET", path)
        self.answer = self._connection.getresponse()  # the headers come at once
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for line in self.answer:
                self.lines.append(re.sub(r'"expiration":"[^"]*"', '"expiration":"T"', line.decode()))
        except OSError:
            pass

    def wait_for(self, count: int) -> list[str]:
        deadline = time.monotonic() + 15
        while len(self.lines) < count:
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.01)
        return self.lines

    def wait_end(self) -> list[str]:
        self._thread.join(15)
        assert not self._thread.is_alive(), self.lines
        return self.lines


def test_who_waits_is_told_alike(pair: tuple[Member, Member]) -> None:
    told: list[list[object]] = []
    for member in pair:
        ask(member, "PUT", "/v2/keys/w/dir/leaf", form(value="1"), FORM)
        one = Waiting(member, "/v2/keys/w/a?wait=true")
        deep = Waiting(member, "/v2/keys/w?wait=true&recursive=true")
        stream = Waiting(member, "/v2/keys/w?wait=true&recursive=true&stream=true")
        below = Waiting(member, "/v2/keys/w/dir/leaf?wait=true")
        first = int(one.answer.headers["X-Etcd-Index"])
        for method, path, body in (
            ("PUT", "/v2/keys/w/b", form(value="1")),
            ("PUT", "/v2/keys/w/_hidden", form(value="1")),
            ("PUT", "/v2/keys/w/a", form(value="1", ttl="1")),
            ("PUT", "/v2/keys/w/dir/x", form(value="1")),
            ("DELETE", "/v2/keys/w/dir?recursive=true", None),
        ):
            ask(member, method, path, body, FORM)
        # The expiry of /w/a is the last that the stream sees.
        events = stream.wait_for(5)
        past = ask(member, "GET", f"/v2/keys/w/b?wait=true&waitIndex={first + 1}")
        numbered = "\n".join([*one.wait_end(), *deep.wait_end(), *below.wait_end(), *events, past[1]])
        told.append(
            [
                re.sub(r'Index":(\d+)', lambda found, first=first: f'Index":{int(found[1]) - first}', numbered),
                one.answer.status,
                one.answer.headers["Content-Type"],
            ]
        )
    assert told[0] == told[1]


@pytest.mark.parametrize("who", programs())
def test_members_are_listed_changed_and_refused(who: str, tmp_path: Path) -> None:
    absent = HeldPort()
    with start(program(who), tmp_path / "data", "--enable-v2") as member:
        listed = json.loads(ask(member, "GET", "/v2/members")[1])["members"]
        assert [(one["name"], one["peerURLs"], one["clientURLs"]) for one in listed] == [
            ("default", [member.peer_url], [member.client_url])
        ]
        own = listed[0]["id"]
        assert json.loads(ask(member, "GET", "/v2/members/leader")[1]) == listed[0]
        assert ask(member, "GET", "/v2/machines")[1] == member.client_url
        url = f"http://127.0.0.1:{absent.number}"
        bad = ask(member, "POST", "/v2/members", "{}", {"Content-Type": "text/plain"})
        assert bad[:2] == (415, '{"message":"Bad Content-Type text/plain, accept application/json"}')
        assert ask(member, "POST", "/v2/members", "nonsense", JSON)[0] == 400
        # Raft drops a change while the one before is not applied, and etcd then lets the client wait in vain.
        time.sleep(0.3)
        same = ask(member, "POST", "/v2/members", json.dumps({"peerURLs": [member.peer_url]}), JSON)
        assert same[:2] == (409, '{"message":"membership: peerURL exists"}')
        time.sleep(0.3)
        missing = ask(member, "PUT", "/v2/members/1234", json.dumps({"peerURLs": [url]}), JSON)
        assert missing[:2] == (404, '{"message":"No such member: 1234"}')
        time.sleep(0.3)
        changed = ask(member, "PUT", f"/v2/members/{own}", json.dumps({"peerURLs": [url]}), JSON)
        assert changed[:2] == (204, "")
        assert json.loads(ask(member, "GET", "/v2/members")[1])["members"][0]["peerURLs"] == [url]
        state = json.loads(ask(member, "GET", "/v2/stats/self")[1])
        assert (state["name"], state["id"], state["state"]) == ("default", own, "StateLeader")
        assert state["leaderInfo"]["leader"] == own
        assert json.loads(ask(member, "GET", "/v2/stats/leader")[1]) == {"leader": own, "followers": {}}
        # Last, as its quorum is gone with it: who has not started yet has no client URLs, which is [] and not null.
        status, body, _ = ask(member, "POST", "/v2/members", json.dumps({"peerURLs": [f"{url}0"]}), JSON)
        assert status == 201, body
        assert body.endswith(f',"name":"","peerURLs":["{url}0"],"clientURLs":[]}}\n'), body
        listed = json.loads(ask(member, "GET", "/v2/members")[1])["members"]
        assert [one["clientURLs"] for one in listed if not one["name"]] == [[]]


@pytest.mark.parametrize("flags", [("--enable-v2=false",), ("--v2-deprecation=write-only",)])
def test_v2_can_be_turned_off(flags: tuple[str, ...], tmp_path: Path) -> None:
    answers: list[Answer] = []
    for name, who in (("ours", balsad()), ("theirs", real())):
        with start(who, tmp_path / name, *flags) as member:
            answers.append(ask(member, "GET", "/v2/keys/a"))
            assert answers[-1][0] == 404
    assert answers[0] == answers[1]
