"""A whole member on a mount of its own that gets full, or that the kernel makes read-only.

`python -m tests.nemesis.mounts NAME FOLDER`, as the first process of new namespaces:

    full_log    the log's tmpfs has room for one segment and half of another
    full_db     the data dir's tmpfs is filled to the last byte
    read_only   the data dir's ext4 meets an error and goes read-only under load, as `errors=remount-ro` has it

The same is done to the real etcd beside it, in the same world.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from tests.interop.servers import Member, Program, balsad, real, start
from tests.interop.test_interop_faults import END_S, last_words
from tests.interop.v3 import V3, connect
from tests.nemesis.faults import NotHereError, fill
from tests.nemesis.network import command
from tests.nemesis.sandbox import SKIPPED

VALUE = bytes(range(256)) * 24
BEFORE = 30
MOST = 4000
IMAGE_MIB = 260  # two segments of the log of 64 MiB, and as much again for ext4's own


@dataclass
class Place:
    """A mount, and how it is broken and mended."""

    path: Path
    flags: tuple[str, ...]
    spoil: Callable[[], None]
    mend: Callable[[], None]
    value: bytes
    says: tuple[str, ...]
    data: Path


@contextlib.contextmanager
def full_log(folder: Path) -> Iterator[Place]:
    wal = folder / "log"
    wal.mkdir()
    command("mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(wal))
    yield Place(
        path=wal,
        flags=(f"--wal-dir={wal / 'wal'}",),
        spoil=lambda: None,  # it is too small from the start; that shows when the first segment is full
        mend=lambda: command("mount", "-o", "remount,size=400m", str(wal)),
        value=VALUE * 160,
        says=(str(wal), "no space left on device"),
        data=folder / "data",
    )
    command("umount", "-l", str(wal))


@contextlib.contextmanager
def full_db(folder: Path) -> Iterator[Place]:
    disk = folder / "disk"
    disk.mkdir()
    command("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk))
    ballast = disk / "ballast"
    yield Place(
        path=disk,
        flags=(f"--wal-dir={folder / 'wal'}",),
        spoil=lambda: fill(ballast),
        mend=ballast.unlink,
        value=VALUE,
        says=("/snap/db", "no space left on device"),
        data=disk,  # its log lies beside it, on a disk that works
    )
    command("umount", "-l", str(disk))


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[Place]:
    image, disk = folder / "image", folder / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(IMAGE_MIB << 20)
    try:
        command("mkfs.ext4", "-q", "-F", str(image))
        command("mount", "-o", "loop,errors=remount-ro", str(image), str(disk))
    except (OSError, AssertionError, RuntimeError) as error:
        raise NotHereError(f"no ext4 on a loop device: {error}") from None
    device = os.stat(disk).st_dev
    loop = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
    trigger = Path("/sys/fs/ext4") / loop / "trigger_fs_error"
    if not trigger.exists():
        command("umount", str(disk))
        raise NotHereError("ext4 can't be told to fail here")

    def mend() -> None:
        command("umount", str(disk))
        command("mount", "-o", "loop,errors=remount-ro", str(image), str(disk))

    yield Place(
        path=disk,
        flags=(),
        spoil=lambda: trigger.write_text("spoiled by a test"),
        mend=mend,
        value=VALUE,
        says=(str(disk), ""),
        data=disk,  # its log lies beside it, on a disk that works
    )
    command("umount", "-l", str(disk))


PLACES = {make.__name__: make for make in (full_log, full_db, read_only)}


def _key(number: int) -> bytes:
    return b"k%05d" % number


def put_until_refused(client: V3, place: Place) -> tuple[int, str]:
    """Put key after key while the place goes bad; how many were acknowledged, and how the last one ended."""
    for number in range(MOST):
        if number == BEFORE:
            place.spoil()
        try:
            client.put(_key(number), place.value)
        except grpc.RpcError as error:
            return number, error.code().name
    return MOST, "OK"


def suffer(program: Program, name: str, folder: Path) -> tuple[int, str]:
    """How the member ends there; nothing it acknowledged may be missing once the place is mended."""
    folder.mkdir()
    with PLACES[name](folder) as place:
        with start(program, place.data, *place.flags) as member, connect(member.address) as client:
            acknowledged, code = put_until_refused(client, place)
            assert acknowledged >= BEFORE
            assert code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"), f"{program.name}: {code}"
            ended = member.process.wait(END_S)
            if program.name == "balsad":
                _check_words(member, place)
        place.mend()
        _check_kept(program, place, member, acknowledged)
        return ended, code


def _check_words(member: Member, place: Place) -> None:
    words = last_words(member)
    for part in place.says:
        assert part in words, words
    print(words)


def _check_kept(program: Program, place: Place, like: Member, acknowledged: int) -> None:
    with start(program, place.data, *place.flags, like=like) as member, connect(member.address) as client:
        found = [kv.key for kv in client.range(b"k", range_end=b"l").kvs] if len(place.value) < 1 << 16 else None
        if found is None:
            count = client.range(b"k", range_end=b"l", count_only=True).count
            found = [_key(number) for number in range(count)]
        print(f"{program.name}: {acknowledged} acknowledged, {len(found)} found")
        if program.name != "balsad":
            # A lone member of etcd 3.5.1 answers before its log is written (its issue 14370): the last one may be lost.
            acknowledged -= 1
        # The one that was refused may have happened, no other.
        assert found[:acknowledged] == [_key(number) for number in range(acknowledged)]
        assert len(found) <= acknowledged + 2 - (program.name == "balsad")
        client.put(b"after", b"1")


def play(name: str, folder: Path) -> None:
    command("ip", "link", "set", "lo", "up")
    begun = time.monotonic()
    ours = suffer(balsad(), name, folder / "ours")
    theirs = suffer(real(), name, folder / "theirs")
    print(f"{name}: balsad {ours}, the real etcd {theirs}, {time.monotonic() - begun:.1f} s")
    assert ours[0] == 1
    # The real one panics in some of these places, which is a 2.
    assert theirs[0] in (1, 2)


def main() -> int:
    try:
        play(sys.argv[1], Path(sys.argv[2]))
    except NotHereError as reason:
        print(reason)
        return SKIPPED
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
