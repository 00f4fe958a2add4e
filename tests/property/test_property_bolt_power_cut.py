"""A store opens after every power cut, with all of its last finished commit or all of the one under way.

Sectors that were not synced may be there, or not, or up to any byte of them. The real etcdutl looks at the rest, too.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balsad.storage import Backend, DefragJob, Next, defragment, schema
from balsad.storage.bolt import check
from tests.property.memory_disk import PowerCut
from tests.real import real_etcdutl
from tests.unit.storage.bolt_disks import MappingDisk

PATH = "/snap/db"
SOAK = bool(os.environ.get("BALSAD_SOAK"))


class Story:
    """A store's owner: what the last finished commit held, and what the one under way is to hold."""

    def __init__(self, rnd: random.Random) -> None:
        self.rnd = rnd
        self.promised: dict[bytes, bytes] | None = None
        self.attempted: dict[bytes, bytes] | None = None
        self.revision = 0
        self.commits = 0
        self.defrags = 0

    def live(self, disk: MappingDisk) -> None:
        """Open the store, check what it holds, and write on until the power goes."""
        backend = Backend.open(disk, PATH)
        assert check(backend.database.view, backend.database.freelist, strict=True) == []
        found = self.content(backend)
        if self.promised is not None or found is not None:
            assert found in (self.promised, self.attempted)
        self.promised = self.attempted = found
        backend.create_bucket(schema.KEY)
        model = dict(found or {})
        job: DefragJob | None = None
        while True:
            self.change(backend, model)
            self.attempted = dict(model)
            backend.commit()
            self.promised = self.attempted
            self.commits += 1
            if job is not None:
                job = self.go_on_defragmenting(backend, job)
            elif self.rnd.random() < 0.1:
                defragment(backend)
            elif self.rnd.random() < 0.2:
                job = DefragJob(backend, leaves_per_step=2)

    def go_on_defragmenting(self, backend: Backend, job: DefragJob) -> DefragJob | None:
        """Some steps, then more commits; but none between the switch and its end."""
        following = Next.STEP
        for _ in range(self.rnd.choice((1, 2, 30))):
            following = job.step()
            if following is Next.FLUSH:
                job.flush()
            elif following is Next.SWITCH:
                assert job.switch() is Next.FLUSH
                job.flush()
                assert job.step() is Next.CLOSE
                job.close()
                self.defrags += 1
                return None
        return job

    def content(self, backend: Backend) -> dict[bytes, bytes] | None:
        return dict(backend.scan(schema.KEY, b"", None)) if backend.has_bucket(schema.KEY) else None

    def change(self, backend: Backend, model: dict[bytes, bytes]) -> None:
        rnd = self.rnd
        for _ in range(rnd.choice((1, 3, 40))):
            self.revision += 1
            key = schema.encode_revision(self.revision, 0)
            model[key] = rnd.randbytes(rnd.choice((10, 300, 1024, 5000)))
            backend.put(schema.KEY, key, model[key])
        if rnd.random() < 0.5:
            for key in rnd.sample(sorted(model), len(model) // 3):
                del model[key]
                backend.delete(schema.KEY, key)


def new_disk() -> MappingDisk:
    disk = MappingDisk()
    disk.makedirs("/snap")
    disk.sync_dir("/")
    return disk


def lose_power(story: Story, disk: MappingDisk, tears: bool) -> MappingDisk:
    """Let the owner live until the power goes, at some operation soon; what the disk holds then."""
    disk.cut_at = disk.operations + story.rnd.choice((3, 12, 60, 120))
    try:
        story.live(disk)
    except PowerCut:
        return disk.restart(story.rnd, tears)
    raise AssertionError("not reached")


@settings(max_examples=2000 if SOAK else 40, deadline=None)
@given(seed=st.integers(0, 2**32), tears=st.booleans())
def test_every_power_cut_leaves_a_whole_commit(seed: int, tears: bool) -> None:
    rnd = random.Random(seed)
    story = Story(rnd)
    disk = new_disk()
    for _ in range(6):
        disk = lose_power(story, disk, tears)

    disk.cut_at = -1
    backend = Backend.open(disk, PATH)
    assert check(backend.database.view, backend.database.freelist, strict=True) == []
    assert story.content(backend) in (story.promised, story.attempted)


@pytest.mark.real
@pytest.mark.parametrize("seed", range(200 if SOAK else 3))
def test_the_real_etcdutl_finds_the_same_after_a_power_cut(seed: int, tmp_path: Path) -> None:
    """bbolt's own check finds no fault with what is left, nor does its defragmentation; both find what we find."""
    story = Story(random.Random(seed))
    disk = new_disk()
    judged = 0
    for turn in range(6):
        disk = lose_power(story, disk, tears=True)
        if story.promised is None:
            continue  # not even the making of it was through: perhaps there is no file yet
        inode = disk.names[PATH]
        assert inode is not None
        folder = tmp_path / str(turn)
        db = folder / "member/snap/db"
        db.parent.mkdir(parents=True)
        db.write_bytes(inode.content)
        expected = content_of(bytes(inode.content))
        status = json.loads(etcdutl("snapshot", "status", str(db), "-w", "json"))
        assert status["totalKey"] == len(expected)
        if expected:
            assert status["revision"] == schema.decode_revision(max(expected))[0]
        etcdutl("defrag", "--data-dir", str(folder))
        assert content_of(db.read_bytes()) == expected
        assert expected in (story.promised, story.attempted)
        judged += 1
    assert judged


def content_of(db: bytes) -> dict[bytes, bytes]:
    """What a file of its own with these bytes holds."""
    disk = new_disk()
    fd = disk.open(PATH, os.O_RDWR | os.O_CREAT)
    disk.pwrite(fd, db, 0)
    disk.close(fd)
    backend = Backend.open(disk, PATH)
    found = dict(backend.scan(schema.KEY, b"", None)) if backend.has_bucket(schema.KEY) else {}
    backend.close()
    return found


def etcdutl(*arguments: str) -> str:
    done = subprocess.run([real_etcdutl(), *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"etcdutl {arguments[0]}: {done.stdout}{done.stderr}"
    return done.stdout
