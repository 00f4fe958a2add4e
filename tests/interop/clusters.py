"""Clusters of several members under test, of ours and of the real etcd, on free ports."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.interop.servers import HeldPort, Member, Program, run_tool
from tests.interop.v3 import connect
from tests.real import real_etcdctl

READY_S = 40.0
QUICK = ("--heartbeat-interval=50", "--election-timeout=500", "--log-level=warn")


@dataclass
class Seat:
    """A place in the cluster: ports that stay whoever sits there."""

    name: str
    client: HeldPort = field(default_factory=HeldPort)
    peer: HeldPort = field(default_factory=HeldPort)

    @property
    def peer_url(self) -> str:
        return f"http://127.0.0.1:{self.peer.number}"

    @property
    def client_url(self) -> str:
        return f"http://127.0.0.1:{self.client.number}"


class _Ports:
    """Looks like a Member as far as ports go."""

    def __init__(self, seat: Seat) -> None:
        self.client_port = seat.client
        self.peer_port = seat.peer


class Cluster:
    def __init__(self, folder: Path, seats: list[Seat], flags: tuple[str, ...]) -> None:
        self.folder = folder
        self.seats = seats
        self.flags = flags
        self.members: dict[str, Member] = {}
        self._generation = 0

    @property
    def initial(self) -> str:
        return ",".join(f"{seat.name}={seat.peer_url}" for seat in self.seats)

    def seat(self, name: str) -> Seat:
        return next(seat for seat in self.seats if seat.name == name)

    def start(self, name: str, program: Program, *flags: str, data: str = "") -> Member:
        """Start a member on its seat; `data` names another data dir than its own."""
        seat = self.seat(name)
        member = Member(
            program,
            self.folder / (data or name),
            (f"--name={name}", f"--initial-cluster={self.initial}", *QUICK, *self.flags, *flags),
            _Ports(seat),  # type: ignore[arg-type]
        )
        self.members[name] = member
        return member

    def ctl(self, *arguments: str, at: str = "", check: bool = True) -> str:
        """What the real etcdctl says, asked of one member or of all that were started."""
        names = [at] if at else list(self.members)
        endpoints = ",".join(self.seat(name).client_url for name in names)
        return run_tool(real_etcdctl(), f"--endpoints={endpoints}", *arguments, check=check, logs=self.logs)

    def logs(self) -> str:
        return "\n".join(member.logs(30) for member in self.members.values())

    def wait_healthy(self, *names: str) -> None:
        for name in names or tuple(self.members):
            self.members[name].wait_healthy(READY_S)

    def until(self, what: str, check: Callable[[], bool], seconds: float = READY_S) -> None:
        """Wait for something to become true. Fails the test with all logs when it does not."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(Exception, pytest.fail.Exception):
                if check():
                    return
            time.sleep(0.1)
        pytest.fail(f"not within {seconds} s: {what}\n{self.logs()}")

    def id_of(self, name: str) -> str:
        """The member's id as its peers print it."""
        for line in self.ctl("member", "list").splitlines():
            fields = line.split(", ")
            if fields[3] == self.seat(name).peer_url:
                return fields[0]
        pytest.fail(f"no member {name}\n{self.logs()}")

    def leader(self) -> str:
        """The leader's name."""
        for name in self.members:
            with connect(f"127.0.0.1:{self.seat(name).client.number}") as v3:
                status = v3.status()
                if status.leader and status.leader == status.header.member_id:
                    return name
        pytest.fail(f"no leader\n{self.logs()}")

    def make_leader(self, name: str) -> None:
        if self.leader() != name:
            self.ctl("move-leader", self.id_of(name))
            self.until(f"{name} leads", lambda: self.leader() == name)

    def assert_equal(self) -> None:
        """All members hold the same, by HashKV."""

        def same() -> bool:
            hashes = {line.split(", ")[1] for line in self.ctl("endpoint", "hashkv").splitlines()}
            return len(hashes) == 1

        self.until("equal HashKV", same, 15.0)

    def stop(self) -> None:
        for member in self.members.values():
            with contextlib.suppress(Exception):
                member.kill()


@contextlib.contextmanager
def cluster(folder: Path, programs: dict[str, Program], *flags: str) -> Iterator[Cluster]:
    """A new cluster of these members, healthy; ended at the end."""
    made = Cluster(folder, [Seat(name) for name in programs], flags)
    try:
        for name, program in programs.items():
            made.start(name, program)
        made.wait_healthy()
        yield made
    finally:
        made.stop()
        for seat in made.seats:
            seat.client.release()
            seat.peer.release()
