"""`etcd grpc-proxy` beside the real one: the same words in, the same words out."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import ssl
import struct
import time
import urllib.request
from pathlib import Path

import grpc
import pytest

from balsad.proto import rpc_pb2 as rpc
from balsad.proxy.services import PASSED, STREAMS, TOLD_BY_WORDS
from tests.interop.proxies import at_once, start_proxy
from tests.interop.servers import HeldPort, balsad, fetch, finish, program, programs, real, start
from tests.interop.v3 import V3
from tests.real import real_etcdctl

METHODS = (*PASSED, *TOLD_BY_WORDS, *(f"/etcdserverpb.KV/{name}" for name in ("Range", "Put", "DeleteRange", "Txn")))
# What is typed at a proxy, each in front of a member of its own kind; what differs by nature is blotted out below.
TYPED = (
    "put a 1",
    "put b 2 --prev-kv",
    "get a -w json",
    "get --prefix --consistency=s ''",
    "get a --rev=99",
    "get ''",
    "del b --prev-kv",
    "put c 3 --lease=1234",
    "lease grant 600 -w fields",
    "lease timetolive 1234",
    "lease revoke 1234",
    "lease keep-alive 1234 --once",
    "compaction 3",
    "get a --rev=2",
    "member list",
    "member list -w json",
    "member add x --peer-urls=nonsense",
    "member promote 1234",
    "endpoint health",
    "alarm list",
    "defrag",
    "move-leader 1234",
    "user add u:p",
    "role add r",
    "role grant-permission r readwrite a",
    "user grant-role u r",
    "user get u --detail",
    "user add root:r",
    "user grant-role root root",
    "auth enable",
    "get a",
    "get a --user u:p",
    "get a --user u:wrong",
    "put a 9 --user u:p",
    "user list --user u:p",
    "auth disable --user root:r",
    "get a",
)


@pytest.mark.real
def test_the_same_is_typed_and_read(tmp_path: Path) -> None:
    def typed(who: str) -> list[str]:
        with (
            start(program(who), tmp_path / f"{who}-data") as member,
            start_proxy(program(who), tmp_path, member.address) as proxy,
        ):
            printed = [_blotted(proxy.etcdctl(*_words(line), check=False), proxy.port.number) for line in TYPED]
            assert fetch(f"{proxy.url}/health")[:2] == (200, b'{"health":"true","reason":""}')
            assert fetch(f"{proxy.url}/proxy/health")[:2] == (200, b'{"health":"true","reason":""}')
            assert b"etcd_server_has_leader 1" in fetch(f"{proxy.url}/metrics")[1]
            assert fetch(f"{proxy.url}/version")[0] == 404
            member.stop()
            status, body, _ = fetch(f"{proxy.url}/health")
            assert (status, body[:28]) == (503, b'{"health":"false","reason":"')
            return printed

    printed = at_once(typed)
    for line, ours, theirs in zip(TYPED, printed["balsad"], printed["real"], strict=True):
        assert ours == theirs, line


def _words(line: str) -> list[str]:
    return [word.strip("'") for word in line.split(" ")]


def _blotted(text: str, port: int) -> str:
    lines = [line for line in text.splitlines() if '"level":"warn"' not in line]
    text = "\n".join(lines).replace(str(port), "PORT")
    text = re.sub(r'"(cluster_id|member_id|raft_term)":\d+', r'"\1":N', text)
    text = re.sub(r'"(ClusterID|MemberID|RaftTerm|ID)" : \d+', r'"\1" : N', text)
    text = re.sub(r"(?m)^[0-9a-f]{16}$", "LEASE", text)
    return re.sub(r"\d+(\.\d+)?(ms|µs)", "T", text)


# Typed at a proxy with a namespace. What follows `:` goes to the member itself. Ranges without an end come last: those
# etcd's proxy never forgets, whoever writes there; and then a compaction, after which it remembers nothing new.
NAMESPACED = (
    "put a 1",
    "put b 2",
    ":put other 9",
    ":put ns0 9",
    "get a --consistency=s",
    "get a --consistency=s",
    "get a",
    "get a z --consistency=s",
    "get a z --consistency=s",
    "get a c",
    "get ''",
    "put a 3 --prev-kv",
    "get a --consistency=s",
    ":put ns/a 4",
    "get a --consistency=s",
    "get a --rev=2 --consistency=s",
    "get b --rev=3 --consistency=s",
    "lease grant 600",
    "del a z --prev-kv",
    "get a z --consistency=s",
    ":get '' --prefix",
    "put '' x",
    "del ''",
    "put c 1",
    "get '' --from-key -w json",
    "get '' --prefix",
    "compaction 5",
    "get a --rev=2 --consistency=s",
)
CACHE_METRICS = ("hits", "misses", "keys")
TXN = rpc.TxnRequest(
    compare=[rpc.Compare(target=rpc.Compare.VERSION, key=b"t", version=0)],
    success=[
        rpc.RequestOp(request_put=rpc.PutRequest(key=b"t", value=b"1", prev_kv=True)),
        rpc.RequestOp(request_range=rpc.RangeRequest(key=b"s", range_end=b"u")),
        rpc.RequestOp(
            request_txn=rpc.TxnRequest(
                failure=[rpc.RequestOp(request_range=rpc.RangeRequest(key=b"never"))],
                success=[rpc.RequestOp(request_put=rpc.PutRequest(key=b"u", value=b"2"))],
            )
        ),
    ],
    failure=[rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=b"t", prev_kv=True))],
)


@pytest.mark.real
def test_a_namespace_and_a_memory_of_ranges(tmp_path: Path) -> None:
    """Serializable ranges come from memory, until somebody writes there through the same proxy."""

    def typed(who: str) -> list[object]:
        with (
            start(real(), tmp_path / f"{who}-data") as member,
            start_proxy(program(who), tmp_path, member.address, "--namespace=ns/", healthy=False) as proxy,
        ):
            deadline = time.monotonic() + 20
            while not proxy.etcdctl("member", "list", check=False).startswith("0, started"):
                assert time.monotonic() < deadline, proxy.logs()
            found: list[object] = []
            for line in NAMESPACED:
                asked = member if line.startswith(":") else proxy
                text = asked.etcdctl(*_words(line.lstrip(":")), check=False)
                text = re.sub(r"lease [0-9a-f]{16}", "lease ID", _blotted(text, proxy.port.number))
                numbers = [proxy.metric(f"etcd_grpc_proxy_cache_{each}_total") for each in CACHE_METRICS]
                found.append((line, text, numbers))
            v3 = V3(proxy.address)
            for _ in range(2):
                answer = v3.txn(TXN)
                answer.header.Clear()
                found.append(str(answer))
            v3.close()
            found.append(member.etcdctl("get", "", "--prefix"))
            return found

    printed = at_once(typed)
    for ours, theirs in zip(printed["balsad"], printed["real"], strict=True):
        assert ours == theirs


@pytest.mark.real
@pytest.mark.parametrize(
    "flags",
    [
        ("--help",),
        ("--nosuch",),
        ("--resolver-prefix=a",),
        ("--resolver-ttl=5",),
        ("--resolver-prefix=a", "--resolver-ttl=5", "--advertise-client-url="),
        ("--auto-tls", "--self-signed-cert-validity=0"),
        ("--self-signed-cert-validity=-1",),
    ],
)
def test_command_lines_that_start_nothing(flags: tuple[str, ...]) -> None:
    ours = finish(*balsad().command, "grpc-proxy", "start", *flags)
    assert ours == finish(*real().command, "grpc-proxy", "start", *flags)
    assert finish(*balsad().command, "grpc-proxy") == finish(*real().command, "grpc-proxy")


@pytest.mark.real
def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = [finish(*who.command, "grpc-proxy", "start", f"--listen-addr={address}") for who in (balsad(), real())]
    assert said[0][0] == said[1][0] == 1
    assert said[0][1].splitlines()[-1] == said[1][1].splitlines()[-1]


def test_what_is_not_supported_says_so() -> None:
    code, said = finish(*balsad().command, "grpc-proxy", "start", "--experimental-leasing-prefix=x")
    assert (code, said) == (
        1,
        "--experimental-leasing-prefix is not supported by balsad's grpc-proxy: start it without\n",
    )


@pytest.mark.real
def test_codes_are_the_real_ones(tmp_path: Path) -> None:
    """What etcd's proxy asks by its own client comes back as Unknown, with etcd's words; the rest keeps its code."""
    seen = {}
    asked = (
        ("KV/Range", rpc.RangeRequest(key=b"a", revision=99), rpc.RangeResponse),
        ("KV/Put", rpc.PutRequest(), rpc.PutResponse),
        ("KV/Compact", rpc.CompactionRequest(revision=99), rpc.CompactionResponse),
        ("Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=5), rpc.LeaseRevokeResponse),
        ("Lease/LeaseGrant", rpc.LeaseGrantRequest(TTL=1 << 60), rpc.LeaseGrantResponse),
        ("Auth/UserGet", rpc.AuthUserGetRequest(name="x"), rpc.AuthUserGetResponse),
        ("Maintenance/MoveLeader", rpc.MoveLeaderRequest(targetID=5), rpc.MoveLeaderResponse),
        ("KV/Put", rpc.PutRequest(key=b"k", value=b"v" * 1_600_000), rpc.PutResponse),
        ("KV/Put", rpc.PutRequest(key=b"k", value=b"v" * 5_000_000), rpc.PutResponse),
    )
    with start(real(), tmp_path / "data") as member:
        for who in programs():
            with start_proxy(program(who), tmp_path, member.address) as proxy:
                v3 = V3(proxy.address)
                seen[who] = [_refusal(v3, *question) for question in asked]
                v3.close()
    assert seen["balsad"] == seen["real"]


def _refusal(v3: V3, method: str, request: object, response: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as refused:
        v3.call(method, request, response)
    return refused.value.code(), refused.value.details() or ""


def test_a_member_goes_and_comes_back(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with start(real(), data) as member, start_proxy(balsad(), tmp_path, member.address) as proxy:
        v3 = V3(proxy.address)
        v3.put(b"a", b"1")
        member.kill()
        with pytest.raises(grpc.RpcError) as refused:
            v3.put(b"a", b"2")
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        with start(real(), data, like=member):
            proxy.wait_healthy()
            v3.put(b"a", b"3")
            assert v3.range(b"a").kvs[0].value == b"3"
        v3.close()


def test_hostile_clients_harm_nobody_else(tmp_path: Path) -> None:
    """Garbage, calls begun and dropped, and a stream that says more than the member takes."""
    with start(real(), tmp_path / "data") as member, start_proxy(balsad(), tmp_path, member.address) as proxy:
        v3 = V3(proxy.address)
        v3.put(b"a", b"1")
        for garbage in (b"\0" * 100, b"GET / HTTP/1.1\r\n" + b"a" * 100_000, b"\x16\x03\x01" + b"\xff" * 50):
            with socket.create_connection(("127.0.0.1", proxy.port.number), timeout=10) as client:
                client.sendall(garbage)
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
        with socket.create_connection(("127.0.0.1", proxy.port.number), timeout=10) as client:
            # Frames of all kinds on streams that nobody opened, of a size that nobody sends.
            client.sendall(
                preface + b"".join(struct.pack(">IBI", 9 << 8 | kind, 0, 7) + b"\xff" * 9 for kind in range(12))
            )
            with contextlib.suppress(ConnectionError):
                while client.recv(65536):
                    pass
        for _ in range(50):
            call = v3.channel.unary_unary("/etcdserverpb.KV/Range")
            call.future(rpc.RangeRequest(key=b"a").SerializeToString()).cancel()
        nonsense = v3.channel.unary_unary("/etcdserverpb.KV/Txn")
        with pytest.raises(grpc.RpcError):
            nonsense(b"\xff\xff\xff", timeout=10)
        random.seed(3)
        for path in METHODS:
            for _ in range(5):
                # No request of any kind, or one that is cut short, or too long.
                noise = random.choice([b"", b"\x0a\x03abc"]) + random.randbytes(random.randrange(1, 40))
                with contextlib.suppress(grpc.RpcError):
                    v3.channel.unary_unary(path)(noise, timeout=1)
        for path in (*STREAMS, "/etcdserverpb.Watch/Watch"):
            with contextlib.suppress(grpc.RpcError):
                list(v3.channel.stream_stream(path)(iter([random.randbytes(30) for _ in range(5)]), timeout=1))
        flood = v3.channel.stream_stream("/etcdserverpb.Lease/LeaseKeepAlive")
        answers = flood(iter([b"\x08\x01"] * 5_000), timeout=20)
        assert sum(1 for _ in answers) == 5_000
        deadline = time.monotonic() + 10
        while v3.range(b"a").kvs[0].value != b"1":
            assert time.monotonic() < deadline
        assert proxy.process.poll() is None
        v3.close()


@pytest.mark.real
def test_proxies_of_a_prefix_list_each_other(tmp_path: Path) -> None:
    """Ours and the real one read each other's keys; who is gone is listed no more."""
    flags = ("--resolver-prefix=___proxies", "--resolver-ttl=2")
    with (
        start(real(), tmp_path / "data") as member,
        start_proxy(balsad(), tmp_path, member.address, *flags) as ours,
    ):
        with start_proxy(real(), tmp_path, member.address, *flags) as theirs:
            both = sorted([ours.address, theirs.address])
            for proxy in (ours, theirs):
                deadline = time.monotonic() + 20
                while _listed(proxy.etcdctl("member", "list")) != both:
                    assert time.monotonic() < deadline, proxy.logs()
                    time.sleep(0.05)
            kept = member.etcdctl("get", "--prefix", "___proxies").splitlines()
            assert {kept[0], kept[2]} == {f"___proxies/{address}" for address in both}
            assert kept[1].replace(both[0], "") == kept[3].replace(both[1], "")
        deadline = time.monotonic() + 20
        while _listed(ours.etcdctl("member", "list")) != [ours.address]:
            assert time.monotonic() < deadline, ours.logs()
            time.sleep(0.1)


def _listed(printed: str) -> list[str]:
    return sorted(line.split(", ")[4] for line in printed.splitlines())


def test_tls_either_way(tmp_path: Path) -> None:
    """The member's clients show certificates, and so do the proxy's; its pages and the member's are read over TLS."""
    port = HeldPort()
    url = f"https://127.0.0.1:{port.number}"
    flags = ("--auto-tls", f"--listen-client-urls={url}", f"--advertise-client-urls={url}")
    with start(real(), tmp_path / "data", *flags, healthy=False) as member:
        trusted = tmp_path / "data/fixtures/client/cert.pem"
        deadline = time.monotonic() + 20
        while "serving client traffic securely" not in member.logs(400):
            assert time.monotonic() < deadline, member.logs()
            time.sleep(0.05)
        with start_proxy(
            balsad(), tmp_path, url, f"--cacert={trusted}", "--auto-tls", f"--data-dir={tmp_path}/proxy", healthy=False
        ) as proxy:
            own = tmp_path / "proxy/fixtures/proxy/cert.pem"
            while "started gRPC proxy" not in proxy.logs():
                assert time.monotonic() < deadline, proxy.logs()
                time.sleep(0.05)
            ctl = (real_etcdctl(), f"--endpoints=https://{proxy.address}", f"--cacert={own}")
            assert finish(*ctl, "put", "a", "1") == (0, "OK\n")
            assert finish(*ctl, "get", "a") == (0, "a\n1\n")
            context = ssl.create_default_context(cafile=own)
            opener = urllib.request.build_opener(
                urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
            )
            for path in ("/health", "/proxy/health"):
                assert b'"health":"true"' in opener.open(f"https://{proxy.address}{path}", timeout=10).read()
            assert b"etcd_server_has_leader 1" in opener.open(f"https://{proxy.address}/metrics", timeout=10).read()
            # A client that speaks plainly, or trusts somebody else, comes to nothing.
            code, _ = finish(real_etcdctl(), f"--endpoints=http://{proxy.address}", "--command-timeout=1s", "get", "a")
            assert code == 1


def test_ordered_ranges_never_go_back(tmp_path: Path) -> None:
    """Two members that know nothing of each other stand for one that is behind."""
    with start(real(), tmp_path / "far") as far, start(real(), tmp_path / "behind") as behind:
        for number in range(5):
            far.etcdctl("put", "a", str(number))
        behind.etcdctl("put", "a", "old")
        both = f"{far.address},{behind.address}"
        ordering = "--experimental-serializable-ordering"
        with (
            start_proxy(balsad(), tmp_path, both) as either,
            start_proxy(balsad(), tmp_path, both, ordering) as ordered,
        ):
            v3 = V3(either.address)
            deadline = time.monotonic() + 20
            seen: list[int] = []
            while seen == sorted(seen):
                assert time.monotonic() < deadline, "it asks but one of them"
                seen.append(v3.range(b"a").header.revision)
            v3.close()
            v3 = V3(ordered.address)
            found = [v3.range(b"a").header.revision for _ in range(12)]
            while found[-1] != 6:
                assert time.monotonic() < deadline, found
                found.append(v3.range(b"a").header.revision)
            found += [v3.range(b"a").header.revision for _ in range(12)]
            assert found == sorted(found)
            far.kill()
            said = ""
            while "no cluster members have a revision higher" not in said:
                assert time.monotonic() < deadline, said
                said = _refusal(v3, "KV/Range", rpc.RangeRequest(key=b"a"), rpc.RangeResponse)[1]
            v3.close()


def test_a_certificate_with_a_name_is_refused(tmp_path: Path) -> None:
    """The same words, and for the same: members would take all clients for the proxy."""
    pytest.importorskip("cryptography")
    path = tmp_path / "cert.pem"
    _named_certificate(path)
    flags = ("grpc-proxy", "start", f"--cert={path}", f"--key={path}", "--listen-addr=127.0.0.1:0")
    said = [finish(*who.command, *flags) for who in (balsad(), real())]
    assert said[0][0] == said[1][0] == 1
    assert said[0][1].splitlines()[-1] == said[1][1].splitlines()[-1]


def _named_certificate(path: Path) -> None:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "someone")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    path.write_bytes(certificate.public_bytes(Encoding.PEM) + secret)
