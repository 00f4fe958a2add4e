"""Three members, each in a namespace of its own, and what is done to them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import grpc

from balsad.proto import rpc_pb2 as rpc
from balsad.sim.history import DONE, FinalState, History, WatchSession
from balsad.sim.requests import Put, key_value
from tests.interop.servers import clean_environment, fetch
from tests.interop.v3 import V3, connect
from tests.nemesis.judge import PAST, judge
from tests.nemesis.load import Asker, Load
from tests.nemesis.network import Network
from tests.nemesis.watching import EVERYTHING, Watcher, create_request, note

HEARTBEAT_MS = 50
ELECTION_MS = 500
# A candidate waits up to two election timeouts, may lose once or twice, and the machine may be busy.
SERVING_S = 40 * ELECTION_MS / 1000
START_S = 30.0
FLAGS = (
    f"--heartbeat-interval={HEARTBEAT_MS}",
    f"--election-timeout={ELECTION_MS}",
    f"--log-level={os.environ.get('NEMESIS_LOG', 'warn')}",
)
T = TypeVar("T")


class Members:
    """A cluster, its load and its history."""

    def __init__(
        self,
        folder: Path,
        network: Network,
        names: Iterable[str] = ("m1", "m2", "m3"),
        flags: tuple[str, ...] = (),
        value_bytes: int = 0,
    ) -> None:
        self.folder = folder
        self.network = network
        self.names = list(names)
        self.flags = flags
        self.history = History()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.data_dirs = {name: folder / name for name in self.names}
        self._initial = list(self.names)
        self._value_bytes = value_bytes
        self._probes = 0
        self._began = time.monotonic()
        self.load: Load | None = None
        self.watchers: list[Watcher] = []

    # Processes.

    def address(self, name: str) -> str:
        return f"{self.network.addresses[name]}:2379"

    def peer_url(self, name: str) -> str:
        return f"http://{self.network.addresses[name]}:2380"

    def start(self, name: str, *flags: str, members: Iterable[str] = ()) -> None:
        """Start `name` on its data dir; `members` are the cluster it was told of, those of the start by default."""
        host = self.network.addresses[name]
        cluster = ",".join(f"{each}={self.peer_url(each)}" for each in members or self._initial)
        command = [
            *("ip", "netns", "exec", name, sys.executable, "-m", "balsad"),
            f"--name={name}",
            f"--data-dir={self.data_dirs[name]}",
            f"--listen-client-urls=http://{host}:2379",
            f"--advertise-client-urls=http://{host}:2379",
            f"--listen-peer-urls=http://{host}:2380",
            f"--initial-advertise-peer-urls=http://{host}:2380",
            f"--initial-cluster={cluster}",
            *FLAGS,
            *self.flags,
            *flags,
        ]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean_environment(),
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """kill -9, of the helper processes too."""
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)

    def pause(self, name: str) -> None:
        os.killpg(self.processes[name].pid, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        os.killpg(self.processes[name].pid, signal.SIGCONT)

    def check_running(self, *but: str) -> None:
        for name, process in self.processes.items():
            assert name in but or process.poll() is None, f"{name} ended with {process.returncode}"

    @contextlib.contextmanager
    def living(self) -> Iterator[None]:
        """Kill all in the end; tell what they logged when something was wrong."""
        try:
            yield
        except BaseException:
            print(self.logs())
            raise
        finally:
            for name in list(self.processes):
                with contextlib.suppress(Exception):
                    self.kill(name)

    def logs(self, lines: int = 25) -> str:
        parts = []
        for path in sorted(self.folder.glob("*.log")):
            text = path.read_text("utf-8", "replace").splitlines()[-lines:]
            parts.append(f"--- {path.name}\n" + "\n".join(text))
        return "\n".join(parts)

    def note(self, what: str) -> None:
        """Say how far the test is."""
        print(f"{time.monotonic() - self._began:6.2f} s: {what}", flush=True)

    # Questions.

    @contextlib.contextmanager
    def ask(self, name: str) -> Iterator[V3]:
        with connect(self.address(name)) as v3:
            yield v3

    def until(self, what: str, check: Callable[[], T], seconds: float = SERVING_S) -> T:
        """Wait for something to be true and give it."""
        deadline = time.monotonic() + seconds
        last = ""
        while time.monotonic() < deadline:
            self.check_running()
            try:
                found = check()
                if found:
                    return found
            except grpc.RpcError as error:
                last = f"{error.code().name}: {error.details()}"
            except OSError as error:
                last = str(error)
            time.sleep(0.05)
        raise AssertionError(f"not within {seconds} s: {what} {last}")

    def metrics(self, name: str) -> str:
        status, data, _ = fetch(f"http://{self.address(name)}/metrics")
        assert status == 200
        return data.decode()

    def leader(self, *but: str) -> str:
        """The leader's name, as the majority says; `but` names who is not asked."""

        def find() -> str:
            votes: dict[int, int] = {}
            ids: dict[int, str] = {}
            for name in self.processes:
                if name in but:
                    continue
                with self.ask(name) as v3:
                    status = v3.call("Maintenance/Status", rpc.StatusRequest(), rpc.StatusResponse, 2.0)
                ids[status.header.member_id] = name
                if status.leader:
                    votes[status.leader] = votes.get(status.leader, 0) + 1
            for leader, count in votes.items():
                if 2 * count > len(self.names) and leader in ids:
                    return ids[leader]
            return ""

        return self.until("a leader", find)

    def followers(self) -> list[str]:
        leader = self.leader()
        return [name for name in self.names if name != leader]

    def wait_serving(self, *names: str, seconds: float = SERVING_S) -> None:
        """Return when a write works at each of `names`, all of them by default."""
        for name in names or self.names:
            asker = Asker(self.history, f"probe-{name}", name, self.address(name))
            try:

                def works(asker: Asker = asker) -> bool:
                    self._probes += 1
                    return asker.ask(Put(b"probe", b"%d" % self._probes), 2.0).outcome == DONE

                self.until(f"{name} serves", works, seconds)
            finally:
                asker.close()

    # The course of a test.

    def start_all(self) -> None:
        for name in self.names:
            self.start(name)
        self.wait_serving(seconds=START_S)

    def start_load(self, clients_each: int = 2) -> None:
        addresses = {name: self.address(name) for name in self.names}
        self.watchers = [Watcher(self.history, name, address) for name, address in addresses.items()]
        self.load = Load(addresses, self.history, clients_each=clients_each, value_bytes=self._value_bytes)
        self.load.start()

    def stop_load(self) -> None:
        if self.load is not None:
            self.load.stop()
            self.load = None

    def run_load(self, seconds: float) -> None:
        """Let the load go on for a while, and until somebody was served."""
        before = len(self.history.operations)
        time.sleep(seconds)

        def served() -> bool:
            later = self.history.operations[before:]
            return any(each.outcome == DONE and not each.client.startswith("probe") for each in later)

        self.until("somebody is served", served)

    def past(self, name: str, revision: int) -> WatchSession:
        """A watch that tells everything up to `revision`."""
        session = WatchSession(PAST, name, EVERYTHING, EVERYTHING, 1, time.monotonic(), wants_previous=True)
        with self.ask(name) as v3:
            watch = v3.watch(create_request(session))
            told = 0
            while told < revision:
                answer = watch.next()
                assert not answer.canceled, f"watch of {name}: {answer}"
                told = note(session, answer) or told
            watch.close()
        session.ended = time.monotonic()
        return session

    def wait_equal(self) -> None:
        """All members come to the same revision and HashKV; that is written down."""

        def equal() -> bool:
            finals = []
            for name in self.names:
                with self.ask(name) as v3:
                    hashed = v3.hash_kv()
                    found = v3.range(EVERYTHING, range_end=EVERYTHING, serializable=True)
                    index = v3.status().raftAppliedIndex
                revision = hashed.header.revision
                compacted = max(0, hashed.compact_revision)
                kvs = tuple(key_value(kv) for kv in found.kvs)
                finals.append(FinalState(name, revision, compacted, revision, hashed.hash, index, kvs, ()))
            self.history.finals = finals
            return len({(each.revision, each.hash, each.compact_revision) for each in finals}) == 1

        self.until("equal HashKV", equal)

    def finish(self) -> None:
        """Stop the load and judge all that happened."""
        self.stop_load()
        self.note("load stopped")
        self.wait_serving()
        self.wait_equal()
        self.note("all hold the same")
        history = self.history
        revision = history.finals[0].revision
        for watcher in self.watchers:
            watcher.stop(revision)
        history.watches += [self.past(name, revision) for name in self.names]
        history.ended = time.monotonic()
        self.check_running()
        judge(history)
        done = sum(operation.outcome == DONE for operation in self.history.operations)
        self.note("judged")
        print(f"{len(self.history.operations)} operations, {done} answered, revision {revision}")

    # Membership.

    def remove(self, name: str, at: str) -> None:
        def removed() -> bool:
            with self.ask(at) as v3:
                ids = [each.ID for each in v3.members().members if self.peer_url(name) in each.peerURLs]
                if ids:
                    v3.call("Cluster/MemberRemove", rpc.MemberRemoveRequest(ID=ids[0]), rpc.MemberRemoveResponse)
            return True

        self.until(f"{name} is removed", removed)

    def add(self, name: str, at: str) -> None:
        def added() -> bool:
            with self.ask(at) as v3:
                if any(self.peer_url(name) in each.peerURLs for each in v3.members().members):
                    return True
                request = rpc.MemberAddRequest(peerURLs=[self.peer_url(name)])
                v3.call("Cluster/MemberAdd", request, rpc.MemberAddResponse)
            return True

        self.until(f"{name} is added", added)

    def forget(self, name: str) -> None:
        shutil.rmtree(self.data_dirs[name])
