"""A network of members, each in a namespace of its own on one bridge, whose links can be cut, made lossy or slow.

10.99.0.1 m1 --+
10.99.0.2 m2 --+-- bridge -- 10.99.0.254, the clients
10.99.0.3 m3 --+
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import selectors
import struct
import subprocess
import threading
import time
from collections.abc import Iterable

SUBNET = "10.99.0"
FRAME_BYTES_MAX = 65536

# Of linux/if_tun.h.
TUNSETIFF = 0x400454CA
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000


class NoTapsError(Exception):
    """The kernel gives no virtual Ethernet devices to user space."""


def command(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {(done.stderr or done.stdout).strip()}")


class Network:
    """The namespaces `names`, with links that can be slowed when `slow_s` is not None.

    Their addresses are those of `subnet` from `first` on; 254 is the clients'.
    """

    def __init__(
        self, names: Iterable[str], *, slow_s: float | None = None, subnet: str = SUBNET, first: int = 1
    ) -> None:
        self.addresses: dict[str, str] = {}
        self._subnet = subnet
        self._first = first
        self._relay = _Relay(slow_s) if slow_s is not None else None
        command("mount", "-t", "tmpfs", "tmpfs", "/run")
        command("ip", "link", "set", "lo", "up")
        command("ip", "link", "add", "bridge0", "type", "bridge")
        command("ip", "address", "add", f"{subnet}.254/24", "dev", "bridge0")
        command("ip", "link", "set", "bridge0", "up")
        for name in names:
            self.add(name)
        if self._relay is not None:
            self._relay.start()

    def add(self, name: str) -> None:
        address = f"{self._subnet}.{self._first + len(self.addresses)}"
        self.addresses[name] = address
        command("ip", "netns", "add", name)
        if self._relay is not None:
            self._relay.link(f"far-{name}", f"near-{name}")
        else:
            command("ip", "link", "add", f"far-{name}", "type", "veth", "peer", "name", f"near-{name}")
        command("ip", "link", "set", f"near-{name}", "netns", name)
        command("ip", "link", "set", f"far-{name}", "master", "bridge0", "up")
        self.inside(name, "ip", "address", "add", f"{address}/24", "dev", f"near-{name}")
        self.inside(name, "ip", "link", "set", f"near-{name}", "up")
        self.inside(name, "ip", "link", "set", "lo", "up")

    def inside(self, name: str, *words: str) -> None:
        command("ip", "netns", "exec", name, *words)

    # Misfortune.

    def cut(self, source: str, target: str) -> None:
        """Nothing that `source` sends arrives at `target`."""
        self.inside(target, "iptables", "-w", "-A", "INPUT", "-s", self.addresses[source], "-j", "DROP")

    def cut_link(self, one: str, other: str) -> None:
        self.cut(one, other)
        self.cut(other, one)

    def isolate(self, name: str) -> None:
        """Cut it off from all other members; clients still reach it."""
        for other in self.addresses:
            if other != name:
                self.cut_link(name, other)

    def reject(self, name: str) -> None:
        """As `isolate`, by something in between that breaks every connection off and refuses new ones."""
        for other in self.addresses:
            if other != name:
                for source, target in ((name, other), (other, name)):
                    # What breaks connections off gets through.
                    packets = ("-s", self.addresses[source], "-p", "tcp", "!", "--tcp-flags", "RST", "RST")
                    refused = ("-j", "REJECT", "--reject-with", "tcp-reset")
                    self.inside(target, "iptables", "-w", "-A", "INPUT", *packets, *refused)

    def lose(self, name: str, part: float) -> None:
        """Lose this part of all packets that arrive at `name`, clients' as well."""
        rule = ("-m", "statistic", "--mode", "random", "--probability", f"{part:.3f}", "-j", "DROP")
        self.inside(name, "iptables", "-w", "-A", "INPUT", "-i", f"near-{name}", *rule)

    def slow(self, seconds: float) -> None:
        """Let everything take this long, from now on, give or take the half of it."""
        assert self._relay is not None, "this network can't be slowed"
        self._relay.delay_s = seconds

    def mend(self) -> None:
        """Undo all cuts, losses and delays."""
        for name in self.addresses:
            self.inside(name, "iptables", "-w", "-F", "INPUT")
        if self._relay is not None:
            self._relay.delay_s = 0.0


class _Relay:
    """Carries frames between pairs of taps, as slowly as it is told: what netem does where the kernel has it.

    Frames of one direction keep their order.
    """

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self._pairs: list[tuple[int, int]] = []
        self._chance = random.Random(1)

    def link(self, one: str, other: str) -> None:
        """Make two devices that are the ends of one cable."""
        self._pairs.append((_tap(one), _tap(other)))

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        selector = selectors.DefaultSelector()
        for one, other in self._pairs:
            selector.register(one, selectors.EVENT_READ, other)
            selector.register(other, selectors.EVENT_READ, one)
        due_last: dict[int, float] = {}
        waiting: list[tuple[float, int, int, bytes]] = []
        count = 0
        while True:
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                _, _, target, frame = heapq.heappop(waiting)
                _write(target, frame)
            timeout = max(0.0, waiting[0][0] - now) if waiting else None
            for key, _ in selector.select(timeout):
                target = key.data
                for frame in _read_all(key.fd):
                    delay_s = self.delay_s
                    if not delay_s and not waiting:
                        _write(target, frame)
                        continue
                    due = time.monotonic() + delay_s * self._chance.uniform(0.5, 1.5)
                    due_last[target] = due = max(due, due_last.get(target, 0.0))
                    count += 1
                    heapq.heappush(waiting, (due, count, target, frame))


def _tap(name: str) -> int:
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        raise NoTapsError(f"/dev/net/tun: {error.strerror}") from None
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return fd


def _read_all(fd: int) -> list[bytes]:
    frames: list[bytes] = []
    while len(frames) < 64:
        try:
            frames.append(os.read(fd, FRAME_BYTES_MAX))
        except OSError:  # nothing more, or the device is down
            break
    return frames


def _write(fd: int, frame: bytes) -> None:
    try:
        os.write(fd, frame)
    except OSError:
        pass  # lost, as frames may be
