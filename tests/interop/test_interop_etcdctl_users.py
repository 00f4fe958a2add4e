"""etcdctl as a user that the server knows or refuses: ours and the real one on one member, words and logs compared."""

from __future__ import annotations

import re
import shlex
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.interop.servers import Member, balsad, clean_environment, start
from tests.real import real_etcdctl
from tests.unit.transport.running_server import Authority

pytestmark = pytest.mark.real
OURS = (sys.executable, "-c", "import sys; from balsad.ctl.etcdctl import main; sys.exit(main())")
MASKS = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d{4})", "TIME"),
    (r"etcd-endpoints://0x[0-9a-f]+/", "etcd-endpoints://CLIENT/"),
    (r"\d+ kB", "SIZE"),
    (r"true, false, \d+, \d+, \d+", "LEADER, TERM, INDEX"),
)


def said(tool: tuple[str, ...], member: Member, *words: str) -> tuple[int, str, str]:
    command = (*tool, f"--endpoints={member.client_url}", *words)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean_environment(), check=False)
    out, err = done.stdout, done.stderr
    for pattern, instead in MASKS:
        out, err = re.sub(pattern, instead, out), re.sub(pattern, instead, err)
    return done.returncode, out, err


def test_what_users_are_told(tmp_path: Path) -> None:
    with start(balsad(), tmp_path / "data") as member:
        without: list[tuple[str, ...]] = [
            ("put", "a", "1", "--user=root:pw"),
            ("lease", "revoke", "1234"),
            ("move-leader", "1234"),
        ]
        told = {words: [said(tool, member, *words) for tool in (OURS, (real_etcdctl(),))] for words in without}
        for words in (("user", "add", "root:pw"), ("user", "add", "u:pw"), ("auth", "enable")):
            member.etcdctl(*words)
        for user in ("root:pw", "u:pw", "root:wrong"):
            for line in ("defrag", "defrag --cluster", "endpoint hashkv", "endpoint status", "member list", "get a"):
                asked = (*line.split(), f"--user={user}")
                told[asked] = [said(tool, member, *asked) for tool in (OURS, (real_etcdctl(),))]

    assert {words: ours for words, (ours, _real) in told.items()} == {
        words: real for words, (_ours, real) in told.items()
    }
    assert told[("defrag", "--user=root:pw")][0] == (
        0,
        f"Finished defragmenting etcd member[{member.client_url}]\n",
        "",
    )
    assert "retrying of unary invoker failed" in told[("put", "a", "1", "--user=root:pw")][0][2]


def test_a_server_that_hangs_up_does_not_end_etcdctl_by_a_signal(tmp_path: Path) -> None:
    """What it still writes then finds a broken pipe, which is no reason to die of SIGPIPE without a word."""
    authority = Authority(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.issue("server", "server"))
    tls.set_alpn_protocols(["h2"])
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            while True:
                try:
                    accepted, _ = server.accept()
                    # Over before the client, which has said its last word of the handshake, writes its first request.
                    tls.wrap_socket(accepted, server_side=True).close()
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        threading.Thread(target=hang_up, daemon=True).start()
        endpoint = f"--endpoints=https://127.0.0.1:{server.getsockname()[1]}"
        for _ in range(5):
            words = (*OURS, endpoint, f"--cacert={authority.ca}", "--command-timeout=1s", "put", "a", "1")
            done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
            assert (done.returncode, done.stderr.splitlines()[-1:]) == (1, ["Error: context deadline exceeded"])
        server.shutdown(socket.SHUT_RDWR)


def test_output_that_nobody_reads_ends_etcdctl_by_a_signal(tmp_path: Path) -> None:
    words = " ".join(shlex.quote(word) for word in (*OURS, "help"))
    done = subprocess.run(
        ["bash", "-c", f"{{ sleep 0.5; {words}; echo $? >&2; }} | true"], capture_output=True, check=True
    )
    assert done.stderr.split() == [b"141"]
