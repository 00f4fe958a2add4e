"""What happens to members. Each fault begins, lasts while the majority must go on serving, and is over."""

from __future__ import annotations

import errno
import os
import random
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.interop.v3 import V3
from tests.nemesis.members import START_S, Members
from tests.nemesis.network import Network, NoTapsError, command

LASTS_S = 1.6
THREE = ("m1", "m2", "m3")

Fault = Callable[[Members], None]


class NotHereError(Exception):
    """The fault can't be made on this machine."""


def _others(members: Members, *names: str) -> list[str]:
    return [each for each in members.names if each not in names]


def _outlast(members: Members, *out: str) -> None:
    """The others serve while the fault lasts."""
    members.wait_serving(*_others(members, *out))
    members.run_load(LASTS_S)


# Of processes.


def _killed(members: Members, name: str) -> None:
    members.kill(name)
    _outlast(members, name)
    members.start(name)


def leader_killed(members: Members) -> None:
    _killed(members, members.leader())


def follower_killed(members: Members) -> None:
    _killed(members, members.followers()[0])


def leader_killed_and_back_at_once(members: Members) -> None:
    """It comes back into the term it led, or the next."""
    for _ in range(3):
        name = members.leader()
        members.kill(name)
        members.start(name)
        members.wait_serving(seconds=START_S)


def all_killed(members: Members) -> None:
    for name in members.names:
        members.kill(name)
    for name in members.names:
        members.start(name)
    members.wait_serving(seconds=START_S)


def _paused(members: Members, name: str) -> None:
    members.pause(name)
    _outlast(members, name)
    members.resume(name)


def leader_paused(members: Members) -> None:
    """It wakes as a leader that is none any more."""
    _paused(members, members.leader())


def follower_paused(members: Members) -> None:
    _paused(members, members.followers()[0])


def leader_paused_in_short(members: Members) -> None:
    """About as long as an election takes: now it is still the leader, now it is not."""
    for pause_s in (0.3, 0.5, 0.7, 0.9, 1.1):
        name = members.leader()
        members.pause(name)
        time.sleep(pause_s)
        members.resume(name)
        time.sleep(0.2)


# Of the network.


def leader_isolated(members: Members) -> None:
    leader = members.leader()
    members.network.isolate(leader)
    _outlast(members, leader)
    members.network.mend()


def follower_isolated(members: Members) -> None:
    follower = members.followers()[0]
    members.network.isolate(follower)
    _outlast(members, follower)
    members.network.mend()


def leader_rejected(members: Members) -> None:
    """Connections with it are refused, as those with a process that has ended: it still believes that it leads."""
    for _ in range(3):
        leader = members.leader()
        members.network.reject(leader)
        _outlast(members, leader)
        members.network.mend()
        members.wait_serving()


def leader_deaf(members: Members) -> None:
    """The leader speaks but hears nobody: it must step down, or nobody else could lead."""
    leader = members.leader()
    for other in _others(members, leader):
        members.network.cut(other, leader)
    _outlast(members, leader)
    members.network.mend()


def leader_mute(members: Members) -> None:
    leader = members.leader()
    for other in _others(members, leader):
        members.network.cut(leader, other)
    _outlast(members, leader)
    members.network.mend()


def follower_deaf(members: Members) -> None:
    """It hears nobody, so it asks for votes; nobody may lose the leader by that."""
    follower = members.followers()[0]
    for other in _others(members, follower):
        members.network.cut(other, follower)
    _outlast(members, follower)
    members.network.mend()


def one_link_cut(members: Members) -> None:
    """Leader and a follower lose each other; the third sees both."""
    leader = members.leader()
    follower = _others(members, leader)[0]
    members.network.cut_link(leader, follower)
    # One of the two is left alone, whoever leads.
    third = _others(members, leader, follower)[0]
    members.wait_serving(third)
    members.run_load(LASTS_S)
    members.network.mend()


def all_apart(members: Members) -> None:
    """Nobody has a majority; nobody may answer a write or a linearizable read from its own past."""
    for one, other in (("m1", "m2"), ("m2", "m3"), ("m1", "m3")):
        members.network.cut_link(one, other)
    time.sleep(LASTS_S)
    members.network.mend()


def next_leader_killed(members: Members) -> None:
    """A leader is cut off, and its successor killed: the old one's words that nobody heard must give way."""
    old = members.leader()
    members.network.isolate(old)
    members.wait_serving(*_others(members, old))
    members.run_load(0.5)
    new = members.leader(old)
    members.kill(new)
    members.network.mend()
    members.wait_serving(*_others(members, new))
    members.start(new)


def restless(members: Members) -> None:
    """Now this one is cut off, now that one, for about as long as an election takes."""
    chance = random.Random(len(members.history.operations))
    for _ in range(8):
        members.network.isolate(chance.choice(members.names))
        if chance.random() < 0.3:
            members.network.cut(*chance.sample(members.names, 2))
        time.sleep(chance.uniform(0.2, 1.0))
        members.network.mend()
        time.sleep(chance.uniform(0.0, 0.3))


def lossy(members: Members) -> None:
    for name in members.names:
        members.network.lose(name, 0.10)
    time.sleep(LASTS_S)
    members.network.mend()


def slow(members: Members) -> None:
    """Slower than a heartbeat, quicker than an election."""
    members.network.slow(0.060)
    members.wait_serving()
    members.run_load(LASTS_S)
    members.network.mend()


def too_slow(members: Members) -> None:
    """Words take longer than an election: leaders come and go, old words arrive late."""
    members.network.slow(0.5)
    time.sleep(2 * LASTS_S)
    members.network.mend()


# Of disks and members.


def fill(ballast: Path) -> None:
    """Take what room there is on the ballast's disk, to the last byte."""
    fd = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    try:
        chunk = 1 << 20
        while chunk:
            try:
                os.write(fd, b"\1" * chunk)
            except OSError as error:
                assert error.errno == errno.ENOSPC
                chunk //= 2
    finally:
        os.close(fd)


def disk_full(members: Members) -> None:
    """m3's disk fills up: it ends, or waits; with room again it comes back with all it had promised."""
    disk = members.folder / "disk"
    name = "m3"
    ballast = disk / "ballast"
    fill(ballast)
    # Values of some KiB make its db grow, which it can't.
    deadline = time.monotonic() + 20
    while members.processes[name].poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    ended = members.processes[name].poll()
    assert ended is not None, "the db did not grow over the disk's end, or nobody noticed"
    assert ended > 0, f"{name} ended with {ended} on a full disk"
    members.processes.pop(name).wait()
    _outlast(members, name)
    ballast.unlink()
    members.start(name)


def replaced(members: Members) -> None:
    """A follower is lost with its disk; another takes its place."""
    name = members.followers()[0]
    other = _others(members, name)[0]
    members.kill(name)
    members.remove(name, other)
    members.forget(name)
    members.wait_serving(*_others(members, name))
    members.add(name, other)
    members.start(name, "--initial-cluster-state=existing", members=members.names)
    members.wait_serving(name, seconds=START_S)


def leader_replaced(members: Members) -> None:
    """The leader is removed by its own hand, ends, and comes back as another member without a past."""
    name = members.leader()
    other = _others(members, name)[0]
    process = members.processes.pop(name)
    members.remove(name, other)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"{name} was removed but goes on") from None
    members.forget(name)
    members.wait_serving(*_others(members, name))
    members.add(name, other)
    members.start(name, "--initial-cluster-state=existing", members=members.names)
    members.wait_serving(name, seconds=START_S)


def _applied(v3: V3) -> int:
    return int(v3.status().raftIndex)


def _leave_behind(members: Members) -> str:
    """A follower is down until the log it needs is gone; who it is.

    One that only sleeps would find what it missed in its sockets.
    """
    follower = members.followers()[0]
    other = _others(members, follower)[0]
    members.kill(follower)
    with members.ask(other) as v3:
        start = _applied(v3)
        members.until("the log moves on", lambda: _applied(v3) > start + 700, 60.0)
    members.note("the log has moved on")
    return follower


def left_behind(members: Members) -> None:
    """A follower misses too much, and takes a snapshot."""
    follower = _leave_behind(members)
    members.start(follower)
    members.note("started again")
    members.until("a snapshot is taken", lambda: _snapshots_taken(members, follower))


def left_behind_and_killed(members: Members) -> None:
    """It is killed again and again before, while and after it takes the snapshot."""
    follower = _leave_behind(members)
    members.start(follower)
    for wait_s in (0.6, 0.8, 1.1, 1.4):
        time.sleep(wait_s)
        members.kill(follower)
        members.start(follower)


def _snapshots_taken(members: Members, name: str) -> int:
    found = re.search(r"^etcd_network_snapshot_receive_success\S* (\d+)", members.metrics(name), re.MULTILINE)
    return int(found[1]) if found else 0


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        leader_killed,
        follower_killed,
        leader_killed_and_back_at_once,
        all_killed,
        leader_paused,
        follower_paused,
        leader_paused_in_short,
        leader_isolated,
        follower_isolated,
        leader_rejected,
        leader_deaf,
        leader_mute,
        follower_deaf,
        one_link_cut,
        all_apart,
        next_leader_killed,
        restless,
        lossy,
        slow,
        too_slow,
        disk_full,
        replaced,
        leader_replaced,
        left_behind,
        left_behind_and_killed,
    )
}
SLOWED = ("slow", "too_slow")
DISK_MIB = 144  # two log segments of 64 MiB, and little beside

# Those that any cluster can meet in any order.
ANYTIME = [name for name in FAULTS if name not in (*SLOWED, "disk_full")]
FLAGS = ("--snapshot-count=300", "--experimental-snapshot-catchup-entries=100")


def play(names: list[str], folder: Path) -> None:
    """Start a cluster, let faults come and go under load, and judge. Raises: AssertionError, NotHereError."""
    try:
        network = Network(THREE, slow_s=0.0 if set(names) & set(SLOWED) else None)
    except NoTapsError as error:
        raise NotHereError(str(error)) from None
    fills = "disk_full" in names
    members = Members(folder, network, THREE, flags=FLAGS, value_bytes=6000 if fills else 0)
    if fills:
        disk = folder / "disk"
        disk.mkdir()
        command("mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(disk))
        members.data_dirs["m3"] = disk / "m3"
    with members.living():
        members.start_all()
        members.start_load()
        members.run_load(0.5)
        for name in names:
            _meet(members, name)
            members.run_load(0.5)
        members.finish()


def _meet(members: Members, name: str) -> None:
    members.note(name)
    FAULTS[name](members)
    members.note("over")
    members.wait_serving(seconds=START_S)
    members.note("all serve")


def play_at_random(folder: Path) -> None:
    """One fault after the other for NEMESIS_SECONDS, in an order that NEMESIS_SEED decides."""
    seed = int(os.environ.get("NEMESIS_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
    print(f"NEMESIS_SEED={seed}")
    chance = random.Random(seed)
    network = Network(THREE)
    members = Members(folder, network, THREE, flags=FLAGS)
    deadline = time.monotonic() + float(os.environ.get("NEMESIS_SECONDS", "600"))
    with members.living():
        members.start_all()
        members.start_load()
        while time.monotonic() < deadline:
            _meet(members, chance.choice(ANYTIME))
            members.run_load(chance.uniform(0.3, 1.5))
        members.finish()
