"""More clients than descriptors: the member keeps its files, other members get in, and whoever leaves makes room."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.interop.servers import HeldPort, Program, balsad, fetch, program, real, start
from tests.interop.test_interop_bad_input import last_words, try_to_start
from tests.interop.v3 import connect
from tests.unit.transport.running_server import wait_for

pytestmark = [pytest.mark.real]


def limited(who: Program, descriptors: int) -> Program:
    return Program(who.name, ("/bin/sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *who.command))


def crowd(port: HeldPort, count: int) -> list[socket.socket]:
    """Clients that connect, as far as the kernel lets them, and say nothing."""
    found = []
    for _ in range(count):
        sock = socket.socket()
        sock.settimeout(0.5)
        found.append(sock)
        try:
            sock.connect(("127.0.0.1", port.number))
        except TimeoutError:
            break
    return found


@pytest.mark.parametrize("name", ["balsad", "real"])
def test_a_crowd_of_clients_leaves_the_member_its_files(tmp_path: Path, name: str) -> None:
    """Of 200 descriptors 150 are not for clients: segments and snapshots are written meanwhile."""
    who = limited(program(name), 200)
    with start(who, tmp_path / "data", "--snapshot-count=50") as member, connect(member.address) as client:
        client.put(b"first", b"1")
        held = crowd(member.client_port, 300)
        descriptors = Path(f"/proc/{member.process.pid}/fd")
        wait_for(lambda: len(os.listdir(descriptors)) > 60)
        # Who was there before is served, and what it does needs files.
        for number in range(200):
            client.put(b"k%d" % number, bytes(1000))
        client.defragment()
        client.snapshot()
        assert len(os.listdir(descriptors)) < 120
        # Other members come in by another door.
        assert fetch(member.peer_url + "/members")[0] == 200
        with connect(member.address) as late:
            future = late.channel.unary_unary("/etcdserverpb.KV/Range").future(b"\x0a\x05first", timeout=20)
            assert not future.done()
            for sock in held:
                sock.close()
            assert b"first" in future.result()
        assert "cannot accept" not in member.logs()


def test_a_crowd_of_peers_leaves_the_member_its_files_and_its_clients(tmp_path: Path) -> None:
    """Where etcd has no bound."""
    with start(limited(balsad(), 200), tmp_path / "data", "--snapshot-count=50") as member:
        held = crowd(member.peer_port, 300)
        descriptors = Path(f"/proc/{member.process.pid}/fd")
        wait_for(lambda: len(os.listdir(descriptors)) > 60)
        with connect(member.address) as client:
            for number in range(200):
                client.put(b"k%d" % number, bytes(1000))
            client.defragment()
        assert len(os.listdir(descriptors)) < 120
        for sock in held:
            sock.close()
        wait_for(lambda: fetch(member.peer_url + "/members")[0] == 200, 20)


def test_too_few_descriptors_to_begin_with(tmp_path: Path) -> None:
    """The same words as etcd's, which has them in fields of their own."""
    words = []
    for who in (balsad(), real()):
        code, lines = try_to_start(limited(who, 140), tmp_path / who.name.replace(" ", "-"))
        assert code == 1
        assert not (tmp_path / who.name.replace(" ", "-")).exists()
        fatal = next(line for line in lines if line["level"] == "fatal")
        words.append(f"{fatal['msg']}: limit {fatal.get('limit')}, recommended-limit {fatal.get('recommended-limit')}")
        if who.name == "balsad":
            words[-1] = last_words(lines)
    assert words[0] == words[1]
