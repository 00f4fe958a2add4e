"""A store opens after every power cut, with all of its last finished commit or all of the one under way."""

from __future__ import annotations

import os
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from balsad.storage import Backend, DefragJob, Next, defragment, schema
from balsad.storage.bolt import check
from tests.property.memory_disk import PowerCut
from tests.unit.storage.bolt_disks import MappingDisk

PATH = "/snap/db"


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


@settings(max_examples=2000 if os.environ.get("BALSAD_SOAK") else 40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_power_cut_leaves_a_whole_commit(seed: int) -> None:
    rnd = random.Random(seed)
    disk = MappingDisk()
    disk.makedirs("/snap")
    disk.sync_dir("/")
    story = Story(rnd)

    for _ in range(6):
        disk.cut_at = disk.operations + rnd.choice((3, 12, 60, 120))
        try:
            story.live(disk)
        except PowerCut:
            disk = disk.restart(rnd)

    disk.cut_at = -1
    backend = Backend.open(disk, PATH)
    assert check(backend.database.view, backend.database.freelist, strict=True) == []
    assert story.content(backend) in (story.promised, story.attempted)
