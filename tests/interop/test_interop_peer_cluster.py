"""Members of ours in a cluster with real ones: raft over the streams of both, snapshots both ways, TLS.

Ours have nothing but raft and the peer protocol behind them, so that what is judged here is the peer room alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from balsad.config import TlsConfig
from balsad.env.real import real_env
from balsad.errors import FutureRevError, LeaseNotFoundError, MemberNotFoundError, MemberNotLearnerError
from balsad.lease import Lessor
from balsad.membership import Attributes, Cluster, Version
from balsad.mvcc import Store
from balsad.peer import PeerClient, PeerTls, RemoteCluster
from balsad.peer.codec import (
    MESSAGE_STREAM_BEAT,
    AppDecoder,
    AppEncoder,
    EncodedEntries,
    MessageDecoder,
    MessageEncoder,
)
from balsad.peer.http_answer import AnswerReader
from balsad.proto import raft_internal_pb2, rpc_pb2
from balsad.raft import ConfState, Message, MessageType, Snapshot
from balsad.raft.codec import decode_message, encode_message
from balsad.storage import Backend, BackendSnapshot, schema
from balsad.v2store import Store as V2Store
from balsad.v2store import save as save_tree
from tests.interop.servers import HeldPort, clean_environment
from tests.interop.v3 import V3
from tests.real import etcd_34, real_etcd, real_etcdctl
from tests.unit.peer.certificates import Authority
from tests.unit.peer.peer_kit import RaftMember, bound, has_streams, until, url_of

pytestmark = pytest.mark.real

START_S = 30.0


def run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(work, 120))


class Etcd:
    """A real member; `url` is where others find it, which may be a proxy in front of its port."""

    def __init__(self, name: str, folder: Path, *, scheme: str = "http", program: str = "") -> None:
        self.name = name
        self.program = program or real_etcd()
        self.client_port = HeldPort()
        self.peer_port = HeldPort()
        self.listens_at = f"{scheme}://127.0.0.1:{self.peer_port.number}"
        self.url = self.listens_at
        self.client_url = f"http://127.0.0.1:{self.client_port.number}"
        self.folder = folder
        self.log_path = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, urls: dict[str, str], *flags: str) -> None:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    self.program,
                    f"--name={self.name}",
                    f"--data-dir={self.folder / self.name}",
                    f"--listen-peer-urls={self.listens_at}",
                    f"--initial-advertise-peer-urls={self.url}",
                    f"--listen-client-urls={self.client_url}",
                    f"--advertise-client-urls={self.client_url}",
                    "--initial-cluster=" + ",".join(f"{name}={url}" for name, url in urls.items()),
                    *flags,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean_environment(),
                start_new_session=True,
            )

    def id_in(self, cluster: Cluster) -> int:
        member = cluster.member_by_name(self.name)
        assert member is not None
        return member.id

    def logs(self) -> str:
        return self.log_path.read_text("utf-8", "replace")

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)

    async def ctl(self, *arguments: str, tries: int = 60) -> str:
        """What etcdctl prints; asked again while the member is not up yet."""
        text = ""
        for _ in range(tries):
            process = await asyncio.create_subprocess_exec(
                real_etcdctl(),
                f"--endpoints={self.client_url}",
                "--command-timeout=5s",
                *arguments,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=clean_environment(),
            )
            output, _ = await process.communicate()
            text = output.decode()
            if process.returncode == 0:
                return text.strip()
            await asyncio.sleep(0.25)
        raise AssertionError(f"etcdctl {' '.join(arguments)}: {text}\n{self.logs()[-4000:]}")


@contextlib.contextmanager
def stopping(*members: Etcd) -> Any:
    try:
        yield
    finally:
        for member in members:
            member.stop()


FAST = ("--heartbeat-interval=50", "--election-timeout=500")
PATIENT = ("--heartbeat-interval=50", "--election-timeout=8000", "--initial-election-tick-advance=false")
"""A member that leaves the leading to others."""


# Ours and a real one.


@pytest.mark.parametrize("find", [real_etcd, etcd_34])
def test_ours_leads_a_real_follower(tmp_path: Path, find: Callable[[], str]) -> None:
    """A real member takes our streams as a follower: everything it commits came over them."""

    async def work() -> None:
        mine = bound()
        theirs = Etcd("real", tmp_path, program=find())
        urls = {"real": theirs.url, "ours": url_of(mine)}
        with stopping(theirs):
            theirs.start(urls, *PATIENT)
            async with RaftMember("ours", mine, urls, tmp_path / "ours") as ours:
                await until(lambda: ours.leader == ours.id, "our leadership", START_S)
                assert await theirs.ctl("put", "key", "value") == "OK"
                assert await theirs.ctl("get", "key") == "key\nvalue"
                await until(lambda: ours.has_applied(b"value"))
                # Large entries, so that one append takes many reads.
                ours.propose(put(b"large", bytes(1 << 20)))
                await until(lambda: ours.has_applied(bytes(1 << 20)))
                assert len(await theirs.ctl("get", "large", "--print-value-only")) >= 1 << 20
                (peer,) = ours.transport.peers
                assert peer.status.is_active
                assert peer.counts.send_failures == 0
                assert peer.counts.appends_sent > 3
                assert "dropped internal" not in theirs.logs()

    run(work())


def put(key: bytes, value: bytes) -> bytes:
    request = raft_internal_pb2.InternalRaftRequest(put=rpc_pb2.PutRequest(key=key, value=value))
    request.header.ID = 1
    return request.SerializeToString()


def test_ours_follows_a_real_leader_through_a_bad_line(tmp_path: Path) -> None:
    """Without our port the leader's posts fail; when it is back the streams are, and nothing was lost."""

    async def work() -> None:
        mine = bound()
        one, other = Etcd("one", tmp_path), Etcd("two", tmp_path)
        urls = {"one": one.url, "two": other.url, "ours": url_of(mine)}
        with stopping(one, other):
            one.start(urls, *FAST)
            other.start(urls, *FAST)
            await one.ctl("put", "before", "1")
            async with RaftMember("ours", mine, urls, tmp_path / "ours") as ours:
                await until(lambda: ours.has_applied(b"before"), "the first put", START_S)
                assert ours.leader in {peer.id for peer in ours.transport.peers}
                for number in range(20):
                    await one.ctl("put", f"key{number}", f"value{number}")
                await until(lambda: ours.has_applied(b"value19"))
                # Everything that is open breaks at once.
                for connection in list(ours.listener._connections):
                    connection.abort()
                await one.ctl("put", "after", "the cut")
                await until(lambda: ours.has_applied(b"the cut"))
                await until(lambda: all(has_streams_of(ours, peer.id) for peer in ours.transport.peers))
                # Followers forward what they are asked to propose.
                ours.propose(put(b"forwarded", b"by us"))
                await until(lambda: ours.has_applied(b"by us"))
                assert await other.ctl("get", "forwarded") == "forwarded\nby us"
                indexes = [entry.index for entry in ours.applied]
                assert indexes == list(range(1, len(indexes) + 1))

    run(work())


def has_streams_of(ours: RaftMember, peer_id: int) -> bool:
    return has_streams(ours, peer_id)  # type: ignore[arg-type]


def test_ours_asks_a_real_member_and_is_asked(tmp_path: Path) -> None:
    """Members, versions, hashes, leases, promotions: answered by etcd as our client expects."""

    async def work() -> None:
        theirs = Etcd("real", tmp_path)
        with stopping(theirs):
            theirs.start({"real": theirs.url})
            await theirs.ctl("put", "a", "b")
            client = PeerClient()
            found: RemoteCluster = await client.get_cluster_from_peers([theirs.url])
            (member,) = found.members
            assert (member.name, member.peer_urls) == ("real", (theirs.url,))
            versions = await client.get_versions([member])
            assert versions[member.id] is not None
            assert versions[member.id].server == "3.5.1"  # type: ignore[union-attr]
            assert not await client.is_downgrade_enabled([member])
            told = json.loads(await theirs.ctl("endpoint", "hashkv", "-w", "json"))[0]["HashKV"]
            ours = await client.hashkv([theirs.url], 0, found.cluster_id)
            assert (ours.hash, ours.compact_revision) == (told["hash"], told["compact_revision"])
            lease = (await theirs.ctl("lease", "grant", "100")).split()[1]
            await theirs.ctl("put", "leased", "x", f"--lease={lease}")
            assert await client.renew_lease([theirs.url], int(lease, 16)) == 100
            times = await client.lease_time_to_live([theirs.url], int(lease, 16), True)
            assert (times.granted_ttl_s, tuple(times.keys)) == (100, (b"leased",))
            assert 90 < times.ttl_s <= 100
            with pytest.raises(LeaseNotFoundError):
                await client.renew_lease([theirs.url], 5)
            with pytest.raises(LeaseNotFoundError):
                await client.lease_time_to_live([theirs.url], 5, False)
            with pytest.raises(FutureRevError):
                await client.hashkv([theirs.url], 999, found.cluster_id)
            with pytest.raises(MemberNotFoundError):
                await client.promote_member([theirs.url], 5)
            # A conf change right behind another would be dropped by raft.
            await theirs.ctl("put", "between", "them")
            with pytest.raises(MemberNotLearnerError):
                await client.promote_member([theirs.url], member.id)
            client.close()

    run(work())


def test_members_speak_tls_with_real_ones(tmp_path: Path) -> None:
    """Both sides show certificates and look at the other's."""
    authority = Authority(tmp_path)

    async def work() -> None:
        mine = bound()
        theirs = Etcd("real", tmp_path, scheme="https")
        urls = {"real": theirs.url, "ours": url_of(mine, "https")}
        cert, key = authority.issue("real")
        our_cert, our_key = authority.issue("ours")
        tls = PeerTls(
            TlsConfig(cert_file=our_cert, key_file=our_key, trusted_ca_file=authority.file, client_cert_auth=True)
        )
        with stopping(theirs):
            theirs.start(
                urls,
                f"--peer-cert-file={cert}",
                f"--peer-key-file={key}",
                f"--peer-trusted-ca-file={authority.file}",
                "--peer-client-cert-auth",
                *FAST,
            )
            async with RaftMember("ours", mine, urls, tmp_path / "ours", tls=tls) as ours:
                await until(lambda: ours.leader != 0, "a leader", START_S)
                await theirs.ctl("put", "over", "tls")
                await until(lambda: ours.has_applied(b"tls"))
                assert all(has_streams_of(ours, peer.id) for peer in ours.transport.peers)

    run(work())


# Snapshots.


def test_a_real_leader_sends_us_its_database(tmp_path: Path) -> None:
    """More entries than a leader keeps: what we get is the whole db, and then the log from there on."""
    entries = 5200

    def fill(address: str) -> None:
        v3 = V3(address)
        stub = v3.channel.unary_unary(
            "/etcdserverpb.KV/Put",
            request_serializer=rpc_pb2.PutRequest.SerializeToString,
            response_deserializer=rpc_pb2.PutResponse.FromString,
        )
        under_way = [
            stub.future(rpc_pb2.PutRequest(key=b"k%05d" % number, value=b"x" * 100), timeout=60)
            for number in range(entries)
        ]
        for one in under_way:
            one.result()
        v3.close()

    async def work() -> None:
        mine = bound()
        one, other = Etcd("one", tmp_path), Etcd("two", tmp_path)
        urls = {"one": one.url, "two": other.url, "ours": url_of(mine)}
        with stopping(one, other):
            for member in (one, other):
                member.start(urls, *FAST, "--snapshot-count=50", "--unsafe-no-fsync")
            await one.ctl("put", "first", "1")
            await asyncio.to_thread(fill, f"127.0.0.1:{one.client_port.number}")
            async with RaftMember("ours", mine, urls, tmp_path / "ours") as ours:
                await until(lambda: bool(ours.snapshots), "the snapshot", START_S)
                await one.ctl("put", "last", "one")
                await until(lambda: ours.has_applied(b"last"))
                (snapshot,) = ours.snapshots
                assert snapshot.index > 5000
                assert set(snapshot.conf_state.voters) == {member.id for member in ours.pages.known}
                # The founding entries came from the flags, all others with the snapshot or after it.
                after = [entry.index for entry in ours.applied if entry.index > len(urls)]
                assert after[0] == snapshot.index + 1
                counts = [peer.counts for peer in ours.transport.peers]
                assert sum(count.snapshot_receives for count in counts) == 1
                (db,) = (tmp_path / "ours").glob("*.snap.db")
                assert db.name == f"{snapshot.index:016x}.snap.db"
                backend = Backend.open(real_env().disk, str(db))
                try:
                    assert schema.read_consistent_index(backend)[0] >= snapshot.index
                    assert len(backend.scan(schema.KEY, b"", None)) > 5000
                finally:
                    backend.close()

    run(work())


class OurState:
    """A database and a v2 tree as a member has them after applying up to `index`."""

    def __init__(self, folder: Path, members: Cluster, index: int, term: int) -> None:
        env = real_env()
        folder.mkdir(parents=True)
        self.backend = Backend.open(env.disk, str(folder / "db"))
        schema.create_all_buckets(self.backend)
        self._tree = V2Store()
        cluster = Cluster(server_version=Version.parse("3.5.1"), cluster_id=members.cluster_id)
        cluster.use_tree(self._tree)
        cluster.use_buckets(self.backend)
        for member in members.members():
            cluster.add(member, apply_v3=True)
            cluster.update_attributes(member.id, Attributes(name=member.name), apply_v3=True)
        cluster.set_version(Version.parse("3.5.0"), apply_v3=True)
        store = Store(self.backend, leases=Lessor(1, self.backend))
        store.restore()
        for number in range(500):
            txn = store.write()
            txn.put(b"ours%03d" % number, b"v" * 1000, 0)
            txn.end()
        self._state = ConfState(tuple(member.id for member in members.members()))
        schema.write_consistent_index(self.backend, index, term)
        schema.write_conf_state(self.backend, self._state)
        self.backend.commit()
        self.index = index
        self.term = term

    def complete(self, message: Message) -> BackendSnapshot:
        message.snapshot = Snapshot(self.index, self.term, self._state, save_tree(self._tree))
        return self.backend.snapshot()


def test_a_real_follower_takes_our_database(tmp_path: Path) -> None:
    """Two of ours hold the quorum; a real member that comes late gets log's beginning as our snapshot."""

    async def work() -> None:
        socks = {"a": bound(), "b": bound()}
        late = Etcd("late", tmp_path)
        urls = {**{name: url_of(sock) for name, sock in socks.items()}, "late": late.url}
        members = Cluster.from_initial(
            {name: [url] for name, url in urls.items()}, "etcd-cluster", server_version=Version.parse("3.5.1")
        )
        with stopping(late):
            async with (
                RaftMember("a", socks["a"], urls, tmp_path / "a") as a,
                RaftMember("b", socks["b"], urls, tmp_path / "b") as b,
            ):
                await until(lambda: a.leader != 0 and a.leader == b.leader)
                leader, follower = (a, b) if a.leader == a.id else (b, a)
                for number in range(30):
                    leader.propose(put(b"log%d" % number, b"x"))
                await until(lambda: leader.has_applied(b"log29"))
                last = leader.applied[-1]
                await until(lambda: follower.applied[-1].index == last.index)
                for one in (leader, follower):
                    state = OurState(tmp_path / f"{one.name}-state", members, last.index, last.term)
                    one.log.create_snapshot(last.index, ConfState(tuple(members.voter_ids())), b"{}")
                    one.log.compact(last.index)
                    one.make_db = state.complete
                late.start(urls, *PATIENT)
                await until(lambda: (late.id_in(members), True) in leader.snapshot_results, "the snapshot", START_S)
                # It serves what only the database had, and follows the log from there.
                assert await late.ctl("get", "ours499", "--consistency=s", "--print-value-only") == "v" * 1000
                leader.propose(put(b"after", b"the snapshot"))
                await until(lambda: leader.has_applied(b"the snapshot"))
                assert await late.ctl("get", "after") == "after\nthe snapshot"
                assert (await late.ctl("member", "list")).count("started") == 3
                assert "applied snapshot" in late.logs()
                assert leader.transport.counts[late.id_in(members)].snapshot_sends == 1

    run(work())


# What real members say to each other.


class Recorder:
    """Proxies in front of real members that keep every byte of every connection."""

    def __init__(self) -> None:
        self.connections: list[tuple[list[bytes], list[bytes]]] = []
        self._servers: list[asyncio.Server] = []

    async def in_front_of(self, port: int) -> str:
        """The URL of a new proxy to `port`."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                writer.close()
                return
            asked: list[bytes] = []
            answered: list[bytes] = []
            self.connections.append((asked, answered))
            await asyncio.gather(pump(reader, to_writer, asked), pump(to_reader, writer, answered))

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self._servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        for server in self._servers:
            server.close()

    def bodies(self, path: str) -> list[tuple[int, int, bytes]]:
        """Who asked, whom, and what came, of every stream of this kind."""
        found = []
        for asked, answered in self.connections:
            head = b"".join(asked).split(b"\r\n\r\n")[0].decode()
            if not head.startswith(f"GET {path}/"):
                continue
            lines = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
            answer = AnswerReader()
            body = answer.feed(b"".join(answered))
            if answer.status == 200:
                found.append((int(lines["X-Server-From"], 16), int(lines["X-Raft-To"], 16), body))
        return found

    def posts(self) -> list[bytes]:
        """The bodies of all POST /raft."""
        found = []
        for asked, _ in self.connections:
            rest = b"".join(asked)
            while rest:
                head, _, rest = rest.partition(b"\r\n\r\n")
                length = next((line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")), b": 0")
                size = int(length.partition(b": ")[2])
                if head.startswith(b"POST /raft HTTP"):
                    found.append(rest[:size])
                rest = rest[size:]
        return found


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: list[bytes]) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            kept.append(data)
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def recorder() -> AsyncIterator[Recorder]:
    one = Recorder()
    try:
        yield one
    finally:
        one.close()
        await asyncio.sleep(0.1)


def same_but_for_beats(data: bytes, beat: bytes, frames: list[bytes]) -> bool:
    pos = 0
    for frame in frames:
        while data.startswith(beat, pos) and not data.startswith(frame, pos):
            pos += len(beat)
        if not data.startswith(frame, pos):
            return False
        pos += len(frame)
    rest = data[pos:]
    return len(rest) % len(beat) == 0 and rest == beat * (len(rest) // len(beat))


def test_what_real_members_say_reads_and_writes_the_same(tmp_path: Path) -> None:
    """Two etcd 3.5.1 with a recorder on every line: decoded and encoded again, byte for byte."""

    async def work() -> None:
        async with recorder() as tape:
            members = [Etcd("one", tmp_path), Etcd("two", tmp_path)]
            for member in members:
                member.url = await tape.in_front_of(member.peer_port.number)
            urls = {member.name: member.url for member in members}
            with stopping(*members):
                for member in members:
                    member.start(urls, *FAST)
                for number in range(12):
                    await members[number % 2].ctl("put", f"k{number}", "v" * (number * 50))
                await members[0].ctl("lease", "grant", "60")
                await asyncio.sleep(2)
                await asyncio.to_thread(members[1].stop)
                await asyncio.sleep(0.5)
                await asyncio.to_thread(members[0].stop)
            kinds: set[int] = set()
            entries = 0
            for to, sender, body in tape.bodies("/raft/stream/msgapp"):
                messages = AppDecoder(to, sender).feed(body)
                encoder = AppEncoder(EncodedEntries())
                assert same_but_for_beats(body, AppEncoder.beat, [encoder.encode(message) for message in messages])
                assert all(message.type == MessageType.APP for message in messages)
                assert {message.from_ for message in messages} <= {sender}
                entries += sum(len(message.entries) for message in messages)
            for _, _, body in tape.bodies("/raft/stream/message"):
                messages = MessageDecoder().feed(body)
                frames = [MessageEncoder().encode(message) for message in messages]
                assert same_but_for_beats(body, MESSAGE_STREAM_BEAT, frames)
                kinds |= {message.type for message in messages}
            for body in tape.posts():
                assert encode_message(decode_message(body)) == body
            assert entries >= 12
            assert kinds >= {
                MessageType.APP_RESP,
                MessageType.HEARTBEAT,
                MessageType.HEARTBEAT_RESP,
                MessageType.PROP,
            }
            assert MESSAGE_STREAM_BEAT in b"".join(body for _, _, body in tape.bodies("/raft/stream/message"))

    run(work())
