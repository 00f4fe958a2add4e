"""etcdctl as a user that the server knows or refuses: ours and the real one on one member, words and logs compared."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.servers import Member, balsad, clean_environment, start
from tests.real import real_etcdctl

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
        without = [("put", "a", "1", "--user=root:pw"), ("lease", "revoke", "1234"), ("move-leader", "1234")]
        told = {words: [said(tool, member, *words) for tool in (OURS, (real_etcdctl(),))] for words in without}
        for words in (("user", "add", "root:pw"), ("user", "add", "u:pw"), ("auth", "enable")):
            member.etcdctl(*words)
        for user in ("root:pw", "u:pw", "root:wrong"):
            for line in ("defrag", "defrag --cluster", "endpoint hashkv", "endpoint status", "member list", "get a"):
                words = (*line.split(), f"--user={user}")
                told[words] = [said(tool, member, *words) for tool in (OURS, (real_etcdctl(),))]

    assert {words: ours for words, (ours, _real) in told.items()} == {
        words: real for words, (_ours, real) in told.items()
    }
    assert told[("defrag", "--user=root:pw")][0] == (
        0,
        f"Finished defragmenting etcd member[{member.client_url}]\n",
        "",
    )
    assert "retrying of unary invoker failed" in told[("put", "a", "1", "--user=root:pw")][0][2]
