"""Pages over plain HTTP: health, probes, version, metrics, variables, and who may ask."""

from __future__ import annotations

import dataclasses
import gzip
import http.client
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import urlsplit

import pytest

from balsad.api.web import Handler, ProgressStatus, RaftStatus, client_handler, monitoring_handler
from balsad.api.web.access import host_name
from balsad.api.web.mux import Mux, clean_path
from balsad.config import ServerConfig
from balsad.observe import Metrics
from balsad.transport import HttpRequest
from tests.unit.observe.real_scrape import real_member


class Member:
    """A WebBackend whose every answer can be set."""

    def __init__(self) -> None:
        self.raised: list[tuple[int, str]] = []
        self.leader = 1
        self.is_learner = False
        self.cluster_version = "3.5.0"
        self.is_auth_enabled = False
        self.errors = {True: "", False: ""}
        self.reads: list[bool] = []
        self.waiting: list[Callable[[], None]] | None = None

    def alarms(self) -> list[tuple[int, str]]:
        return self.raised

    def read(self, *, serializable: bool, done: Callable[[str], None]) -> None:
        self.reads.append(serializable)
        if self.waiting is None:
            done(self.errors[serializable])
        else:
            self.waiting.append(lambda: done(self.errors[serializable]))

    def raft_status(self) -> RaftStatus:
        progress = {0xA1: ProgressStatus(match=4, next=5, state="StateReplicate")}
        return RaftStatus(
            id=0xA1, term=2, vote=0xA1, commit=4, lead=0xA1, state="StateLeader", applied=4, progress=progress
        )


class Answer:
    """An HttpResponder that keeps what it is told."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.closed = False
        self.pending_bytes = 0
        self.on_close: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None

    def respond(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.start(status, headers)
        self.write(body)
        self.end()

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        assert self.status == 0
        self.status = status
        self.headers = dict(headers)

    def write(self, chunk: bytes) -> None:
        self.body += chunk

    def end(self) -> None:
        self.closed = True

    @property
    def text(self) -> str:
        return self.body.decode()


def ask(
    handler: Handler,
    target: str,
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    secure: bool = False,
    peer_name: str = "",
) -> Answer:
    request = HttpRequest(
        method,
        target,
        {"host": "127.0.0.1:2379", **(headers or {})},
        b"",
        version="HTTP/1.1",
        secure=secure,
        peer_name=peer_name,
        peer_address="127.0.0.1:5",
    )
    answer = Answer()
    handler(request, answer)
    return answer


@pytest.fixture
def member() -> Member:
    return Member()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def web(member: Member, metrics: Metrics) -> Handler:
    return client_handler(member, metrics, ServerConfig())


def health(answer: Answer) -> tuple[int, str, str]:
    told = json.loads(answer.text)
    return answer.status, told["health"], told["reason"]


def test_a_healthy_member(web: Handler, member: Member, metrics: Metrics) -> None:
    answer = ask(web, "/health")

    assert (answer.status, answer.text) == (200, '{"health":"true","reason":""}')
    assert member.reads == [False]
    assert (metrics.health_success.value, metrics.health_failures.value) == (1, 0)


@pytest.mark.parametrize(
    ("kind", "reason"), [("NOSPACE", "ALARM NOSPACE"), ("CORRUPT", "ALARM CORRUPT"), ("ODD", "ALARM UNKNOWN")]
)
def test_an_alarm_comes_first(web: Handler, member: Member, metrics: Metrics, kind: str, reason: str) -> None:
    member.raised = [(1, kind)]
    member.leader = 0

    assert health(ask(web, "/health")) == (503, "false", reason)
    assert member.reads == []
    assert metrics.health_failures.value == 1


def test_excluded_alarms(web: Handler, member: Member) -> None:
    """Of every member that raised it."""
    member.raised = [(1, "NOSPACE"), (2, "NOSPACE")]

    assert health(ask(web, "/health?exclude=NOSPACE")) == (200, "true", "")
    assert health(ask(web, "/health?exclude=CORRUPT")) == (503, "false", "ALARM NOSPACE")
    assert health(ask(web, "/health?exclude=NOSPACE&exclude=CORRUPT")) == (200, "true", "")


def test_no_leader(web: Handler, member: Member) -> None:
    member.leader = 0

    assert health(ask(web, "/health")) == (503, "false", "RAFT NO LEADER")
    assert health(ask(web, "/health?serializable=true")) == (200, "true", "")
    assert member.reads == [True]


def test_a_failed_read(web: Handler, member: Member) -> None:
    member.errors[False] = "etcdserver: request timed out"

    answer = ask(web, "/health")

    assert health(answer) == (503, "false", "RANGE ERROR:etcdserver: request timed out")
    assert answer.text.endswith("}\n")


def test_a_read_that_takes_its_time(web: Handler, member: Member) -> None:
    member.waiting = []
    answer = ask(web, "/health")
    assert answer.status == 0

    member.waiting[0]()

    assert answer.status == 200


def test_a_client_that_left_is_not_answered(web: Handler, member: Member, metrics: Metrics) -> None:
    member.waiting = []
    answer = ask(web, "/health")
    answer.closed = True

    member.waiting[0]()

    assert answer.status == 0
    assert metrics.health_success.value == 0


def test_livez_asks_for_a_local_read_only(web: Handler, member: Member) -> None:
    member.leader = 0
    member.errors[False] = "etcdserver: request timed out"

    answer = ask(web, "/livez?verbose")

    assert (answer.status, answer.text) == (200, "[+]serializable_read ok\nok\n")
    assert ask(web, "/livez").text == "ok\n"


def test_readyz_tells_what_failed(web: Handler, member: Member, metrics: Metrics) -> None:
    """Source: etcd 3.5.33 health.go; every check runs, and failures are told without `verbose` too."""
    member.errors[False] = "etcdserver: request timed out"
    member.raised = [(1, "CORRUPT")]

    answer = ask(web, "/readyz")

    assert answer.status == 503
    assert answer.text == (
        "[-]data_corruption failed: alarm activated: CORRUPT\n"
        "[+]serializable_read ok\n"
        "[-]linearizable_read failed: etcdserver: request timed out\n"
        "[+]non_learner ok\n"
        "\n"
    )
    assert metrics.healthcheck.of("readyz", "data_corruption").value == 0
    assert metrics.healthcheck.of("readyz", "non_learner").value == 1
    assert metrics.healthchecks.of("readyz", "linearizable_read", "error").value == 1


def test_readyz_of_a_ready_member(web: Handler) -> None:
    assert ask(web, "/readyz").text == "ok\n"
    assert ask(web, "/readyz?verbose=false").text.splitlines() == [
        "[+]data_corruption ok",
        "[+]serializable_read ok",
        "[+]linearizable_read ok",
        "[+]non_learner ok",
        "ok",
    ]


def test_checks_can_be_left_out(web: Handler, member: Member, caplog: pytest.LogCaptureFixture) -> None:
    member.errors[False] = "x"
    member.is_learner = True

    with caplog.at_level(logging.WARNING, "balsad"):
        answer = ask(web, "/readyz?exclude=linearizable_read&exclude=non_learner&exclude=nope&verbose")

    assert answer.text == "[+]data_corruption ok\n[+]serializable_read ok\nok\n"
    assert "some health checks cannot be excluded" in caplog.messages


def test_each_check_has_a_page(web: Handler, member: Member) -> None:
    member.is_learner = True

    assert ask(web, "/readyz/serializable_read").text == "ok\n"
    answer = ask(web, "/readyz/non_learner?exclude=non_learner")
    assert (answer.status, answer.text) == (503, "[-]non_learner failed: not supported for learner\n\n")
    assert ask(web, "/livez/linearizable_read").status == 404
    assert ask(web, "/readyz/nope").status == 404


def test_checks_one_after_the_other(web: Handler, member: Member) -> None:
    member.waiting = []
    answer = ask(web, "/readyz")

    for number in (1, 2):
        assert answer.status == 0
        assert len(member.waiting) == number
        member.waiting[-1]()

    assert answer.text == "ok\n"


def test_version(web: Handler, member: Member) -> None:
    assert ask(web, "/version").text == '{"etcdserver":"3.5.1","etcdcluster":"3.5.0"}'
    member.cluster_version = ""
    assert ask(web, "/version").text == '{"etcdserver":"3.5.1","etcdcluster":"not_decided"}'


def test_variables(web: Handler) -> None:
    answer = ask(web, "/debug/vars")

    told = json.loads(answer.text)
    assert list(told) == ["cmdline", "file_descriptor_limit", "memstats", "raft.status"]
    assert told["memstats"]["Sys"] > 1_000_000
    assert answer.text.splitlines()[4] == (
        '"raft.status": {"id":"a1","term":2,"vote":"a1","commit":4,"lead":"a1","raftState":"StateLeader","applied":4,'
        '"progress":{"a1":{"match":4,"next":5,"state":"StateReplicate"}},"leadtransferee":"0"}'
    )


def test_metrics_packed_when_asked(web: Handler) -> None:
    plain = ask(web, "/metrics", headers={"accept-encoding": "deflate, br"})
    packed = ask(web, "/metrics", headers={"accept-encoding": "deflate, gzip;q=1.0"})

    assert "Content-Encoding" not in plain.headers
    assert plain.text.startswith("# HELP etcd_debugging_auth_revision ")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body).startswith(b"# HELP etcd_debugging_auth_revision ")


def test_the_metrics_port_has_monitoring_only(member: Member, metrics: Metrics) -> None:
    handler = monitoring_handler(member, metrics)

    statuses = {path: ask(handler, path).status for path in ("/metrics", "/health", "/livez", "/readyz", "/version")}

    assert statuses == {"/metrics": 200, "/health": 200, "/livez": 200, "/readyz": 200, "/version": 404}
    assert "Access-Control-Allow-Origin" not in ask(handler, "/health").headers


def test_other_rooms_hang_their_handlers_beside(member: Member, metrics: Metrics) -> None:
    seen = []

    def gateway(request: HttpRequest, responder: object) -> None:
        seen.append(request.path)

    handler = client_handler(member, metrics, ServerConfig(), mounts={"/v3/": gateway})
    for target in ("/v3/kv/range", "/v3beta/kv/range", "/v3/"):
        ask(handler, target, method="POST")

    assert seen == ["/v3/kv/range", "/v3/kv/range", "/v3/"]
    assert ask(handler, "/v3").headers["Location"] == "/v3/"


def test_origins(member: Member, metrics: Metrics) -> None:
    """Source: etcd embed/serve.go accessController, addCORSHeader."""
    handler = client_handler(member, metrics, dataclasses.replace(ServerConfig(), cors=("http://a:1",)))

    allowed = ask(handler, "/version", headers={"origin": "http://a:1"}).headers
    assert allowed["Access-Control-Allow-Origin"] == "http://a:1"
    assert "Access-Control-Allow-Origin" not in ask(handler, "/version", headers={"origin": "http://b:1"}).headers
    assert "Access-Control-Allow-Origin" not in ask(handler, "/version").headers


def test_hosts_that_are_not_listed(member: Member, metrics: Metrics) -> None:
    """CVE-2018-5702. Over TLS every name will do."""
    handler = client_handler(member, metrics, dataclasses.replace(ServerConfig(), host_whitelist=("127.0.0.1",)))

    assert ask(handler, "/version").status == 200
    refused = ask(handler, "/version", headers={"host": "evil.example:2379"})
    assert refused.status == 421
    assert '--host-whitelist "evil.example"\n' in refused.text
    assert "Access-Control-Allow-Origin" not in refused.headers
    assert ask(handler, "/version", headers={"host": "evil.example"}, secure=True).status == 200


@pytest.mark.parametrize(
    ("header", "name"),
    [("a", "a"), ("a:1", "a"), ("[::1]:1", "::1"), ("[::1]", "[::1]"), ("::1", "::1"), ("", ""), ("a:", "a")],
)
def test_host_names(header: str, name: str) -> None:
    """Source: etcd pkg/httputil GetHostname."""
    assert host_name(header) == name


def test_names_in_certificates_on_the_gateway(member: Member, metrics: Metrics) -> None:
    member.is_auth_enabled = True
    handler = client_handler(member, metrics, ServerConfig(), authenticates_by_certificate=True)

    refused = ask(handler, "/v3/kv/range", method="POST", secure=True, peer_name="root")
    assert refused.status == 400
    assert refused.text == (
        "CommonName of client sending a request against gateway will be ignored and not used as expected\n"
    )
    assert ask(handler, "/v3/kv/range", method="POST", secure=True).status == 404
    assert ask(handler, "/version", secure=True, peer_name="root").status == 200
    member.is_auth_enabled = False
    assert ask(handler, "/v3/kv/range", method="POST", secure=True, peer_name="root").status == 404


@pytest.mark.parametrize(
    ("path", "clean"),
    [("", "/"), ("/", "/"), ("//a", "/a"), ("/a/../b", "/b"), ("/a/./b/", "/a/b/"), ("/..", "/"), ("a", "/a")],
)
def test_clean_paths(path: str, clean: str) -> None:
    """Source: net/http cleanPath."""
    assert clean_path(path) == clean


def test_the_longest_folder_answers() -> None:
    mux = Mux()
    for pattern in ("/", "/a/", "/a/b/", "/a/c"):
        mux.add(pattern, lambda request, responder, name=pattern: responder.respond(200, {}, name.encode()))

    answers = {path: ask(mux, path).text for path in ("/x", "/a/x", "/a/b/x", "/a/c", "/a/c/d", "/%61/c")}

    assert answers == {"/x": "/", "/a/x": "/a/", "/a/b/x": "/a/b/", "/a/c": "/a/c", "/a/c/d": "/a/", "/%61/c": "/a/c"}


# The real etcd judges what it has too.


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with real_member(tmp_path_factory.mktemp("etcd")) as url:
        yield urlsplit(url).netloc


REQUESTS = [
    ("GET", "/health"),
    ("GET", "/health?exclude=NOSPACE"),
    ("GET", "/health?serializable=true"),
    ("POST", "/health"),
    ("PUT", "/version"),
    ("GET", "/version"),
    ("GET", "/version/"),
    ("DELETE", "/debug/vars"),
    ("GET", "/"),
    ("GET", "/nope"),
    ("POST", "/nope"),
    ("GET", "/metrics/"),
    ("GET", "//health"),
    ("GET", "/a/../health?x=<y>"),
    ("POST", "//version"),
    ("GET", "/./version/../health"),
    ("GET", "//<a>"),
    ("OPTIONS", "/health"),
    ("OPTIONS", "/nope"),
    ("PATCH", "/health"),
    ("GET", "*"),
]


@pytest.mark.real
@pytest.mark.parametrize(("method", "target"), REQUESTS)
def test_answers_are_etcds(web: Handler, real: str, method: str, target: str) -> None:
    connection = http.client.HTTPConnection(real, timeout=10)
    connection.request(method, target, headers={"Host": real})
    judged = connection.getresponse()
    body = judged.read()
    wanted = {name: value for name, value in judged.getheaders() if name not in ("Date", "Content-Length")}
    connection.close()

    answer = ask(web, target, method=method)

    assert (answer.status, answer.body) == (judged.status, body)
    # Without a type Go looks at the body; a 200 of /health says what it would find.
    assert answer.headers == wanted


@pytest.mark.real
def test_types_and_shapes_are_etcds(web: Handler, real: str) -> None:
    for target in ("/metrics", "/debug/vars"):
        connection = http.client.HTTPConnection(real, timeout=10)
        connection.request("GET", target)
        judged = connection.getresponse()
        body = judged.read()
        connection.close()
        answer = ask(web, target)

        assert answer.headers["Content-Type"] == judged.getheader("Content-Type")
        if target == "/debug/vars":
            ours, theirs = json.loads(answer.text), json.loads(body)
            assert list(ours) == list(theirs)
            assert list(ours["raft.status"]) == list(theirs["raft.status"])
