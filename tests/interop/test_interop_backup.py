"""`backup`: a member's folder written anew without its cluster, ours and the real one's taken up by either server."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.interop.servers import (
    Member,
    balsad,
    etcdutl,
    fetch,
    finish,
    our_etcdutl,
    program,
    programs,
    run_tool,
    start,
)
from tests.interop.v3 import connect
from tests.real import etcdctl_34

pytestmark = pytest.mark.real
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
OUR_ETCDCTL = (sys.executable, "-c", "import sys; from balsad.ctl.etcdctl import main; sys.exit(main())")


def set_v2(member: Member, key: str, value: str) -> None:
    status, body, _ = fetch(f"{member.client_url}/v2/keys/{key}", "PUT", urlencode({"value": value}).encode(), FORM)
    assert status in (200, 201), body


def get_v2(member: Member, key: str) -> str | None:
    node = json.loads(fetch(f"{member.client_url}/v2/keys/{key}")[1]).get("node")
    return None if node is None else str(node["value"])


def fill(member: Member, count: int) -> None:
    for number in range(count):
        set_v2(member, f"test{number}", f"wzxmt{number}")
    with connect(member.address) as v3:
        for number in range(count):
            v3.put(b"key%d" % number, b"value%d" % number)


def check(member: Member, count: int, *, has_v3: bool) -> None:
    assert [get_v2(member, f"test{number}") for number in range(count)] == [f"wzxmt{number}" for number in range(count)]
    with connect(member.address) as v3:
        assert v3.range(b"key", range_end=b"kez").count == (count if has_v3 else 0)
        # It serves, alone, under the name and URLs it was started with.
        v3.put(b"after", b"1")
        assert [(one.name, list(one.clientURLs)) for one in v3.members().members] == [("default", [member.client_url])]


@pytest.mark.parametrize("reader", programs())
@pytest.mark.parametrize("writer", programs())
@pytest.mark.parametrize("snapshots", [False, True])
@pytest.mark.parametrize("with_v3", [True, False])
def test_our_backup_is_taken_up(writer: str, reader: str, snapshots: bool, with_v3: bool, tmp_path: Path) -> None:
    flags = ("--enable-v2", *(("--snapshot-count=10",) if snapshots else ()))
    with start(program(writer), tmp_path / "data", *flags) as member:
        fill(member, 15)
        if not with_v3:
            # The log is read beside a member that writes it.
            our_etcdutl(*_folders(tmp_path), "--with-v3=false")
            set_v2(member, "late", "x")
    if with_v3:
        our_etcdutl(*_folders(tmp_path))
    again = tmp_path / "again"
    with start(program(reader), tmp_path / "backup", "--enable-v2", "--force-new-cluster") as member:
        check(member, 15, has_v3=with_v3)
    shutil.copytree(tmp_path / "backup", again)
    with start(program(reader), again, "--enable-v2") as member:
        check(member, 15, has_v3=with_v3)


def test_what_was_answered_just_before_a_kill_is_committed(tmp_path: Path) -> None:
    """Its log says so at once: --force-new-cluster, which forgets what is not, and a backup lose nothing of it."""
    with start(balsad(), tmp_path / "data", "--enable-v2") as member:
        fill(member, 3)
        member.kill()
    our_etcdutl(*_folders(tmp_path))
    for folder in ("backup", "data"):
        with start(balsad(), tmp_path / folder, "--enable-v2", "--force-new-cluster") as member:
            check(member, 3, has_v3=True)


def _folders(tmp_path: Path) -> tuple[str, ...]:
    return ("backup", f"--data-dir={tmp_path / 'data'}", f"--backup-dir={tmp_path / 'backup'}")


@pytest.mark.parametrize("with_v3", [True, False])
def test_the_real_backup_is_taken_up_by_ours(with_v3: bool, tmp_path: Path) -> None:
    with start(balsad(), tmp_path / "data", "--snapshot-count=10") as member:
        fill(member, 15)
    etcdutl(*_folders(tmp_path), f"--with-v3={str(with_v3).lower()}")
    with start(balsad(), tmp_path / "backup", "--force-new-cluster") as member:
        check(member, 15, has_v3=with_v3)


@pytest.mark.parametrize("who", ["ours", "3.4"])
def test_as_the_guide_and_its_cron_script_have_it(who: str, tmp_path: Path) -> None:
    """ETCDCTL_API=2 etcdctl backup --data-dir D -backup-dir B, beside the running member, without v3 data."""
    command: Callable[[], tuple[str, ...]] = lambda: OUR_ETCDCTL if who == "ours" else (etcdctl_34(),)  # noqa: E731
    tool = command()
    with start(balsad(), tmp_path / "data") as member:
        fill(member, 3)
        words = ("backup", "--data-dir", f"{tmp_path / 'data'}/", "-backup-dir", str(tmp_path / "dir/etcd-1"))
        assert run_tool(*tool, *words, env={"ETCDCTL_API": "2"}) == ""
    with start(balsad(), tmp_path / "dir/etcd-1", "--force-new-cluster") as member:
        check(member, 3, has_v3=False)


def test_what_cannot_be_backed_up_is_said(tmp_path: Path) -> None:
    env = {"ETCDCTL_API": "2"}
    for words, begins, text in (
        (("--data-dir", str(tmp_path / "none"), "--backup-dir", str(tmp_path / "b")), "Error: ", "no such directory"),
        (("--data-dir", str(tmp_path / "none")), "Error: ", "--backup-dir is required"),
        (("--nonsense",), "Incorrect Usage: ", "flag provided but not defined: -nonsense"),
    ):
        status, said = finish(*OUR_ETCDCTL, "backup", *words, env=env)
        assert status == 1 and said.startswith(begins) and text in said, said
        assert "Traceback" not in said
    with start(balsad(), tmp_path / "data") as member:
        fill(member, 1)
        said = our_etcdutl(*_folders(tmp_path), check=False)
        assert "timed out waiting to acquire lock on" in said
        assert not (tmp_path / "backup").exists()
    our_etcdutl(*_folders(tmp_path))
    assert "to be empty" in our_etcdutl(*_folders(tmp_path), check=False)
