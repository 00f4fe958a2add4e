"""Files that are not what was written: the log, the bbolt file, .snap files. Checksums are mended, so that what lies
behind them is met too: read as it stands or refused by name, never an error of another kind, never a loop."""

from __future__ import annotations

import struct
from functools import cache
from typing import Final

from crc32c import crc32c

from balsad.raft.messages import ConfState, Entry, HardState, Snapshot
from balsad.storage import Backend, StorageError
from balsad.storage.bolt import check
from balsad.storage.bolt.db import empty_database
from balsad.storage.bolt.meta import fnv1a
from balsad.storage.snap import SnapError, decode_snap_file, encode_snap_file
from balsad.storage.wal import INLINE, Wal, WalOptions, WalSnapshot, read_log, repair, valid_snapshot_entries
from balsad.v2store import SavedStoreError, Store, recover, save
from balsad.wire import WireError, read_uvarint, skip_field, uvarint
from tests.fuzz.engine import Target
from tests.property.memory_disk import Inode, MemoryDisk
from tests.unit.storage.bolt_disks import MappingDisk

_OPTIONS: Final = WalOptions(sync=INLINE, segment_bytes=1200, clock=lambda: 0.0)


def _inode(content: bytes) -> Inode:
    inode = Inode()
    inode.content[:] = content
    inode.sync()
    return inode


def both(outcomes: list[str]) -> str:
    """What came of an input and of the same with good checksums; refused only if both were."""
    return " / ".join(sorted(outcomes, key=lambda outcome: outcome.startswith("refused")))


# The log.


@cache
def _log() -> dict[str, bytes]:
    disk = MemoryDisk()
    wal = Wal.create(disk, "/wal", b"whose", _OPTIONS)
    for at in range(1, 25, 3):
        batch = [Entry(0, 1, index, bytes([index]) * (index * 3)) for index in range(at, at + 3)]
        wal.save(HardState(1, 1, at - 1), batch)
    wal.save_snapshot(WalSnapshot(5, 1, ConfState((1,))))
    wal.save(HardState(2, 1, 24), [Entry(1, 2, 23, b"another"), Entry(0, 2, 24, b"")], must_sync=True)
    wal.close()
    return {name: bytes(disk.names[f"/wal/{name}"].content) for name in disk.listdir("/wal")}  # type: ignore[union-attr]


def _segments() -> list[bytes]:
    """The last byte says which segment of the log the rest stands in for."""
    return [content.rstrip(b"\0") + bytes(24) + bytes((number,)) for number, content in enumerate(_log().values())]


def _mend_records(content: bytes) -> bytes:
    """The same with every checksum as it should be, as far as the frames can be told apart."""
    out = bytearray(content)
    at = crc = 0
    while at + 8 <= len(out):
        (head,) = struct.unpack_from("<Q", out, at)
        size = head & (1 << 56) - 1
        total = 8 + size + (head >> 56 & 7 if head >> 63 else 0)
        if not size or at + total > len(out):
            break
        record = bytes(out[at + 8 : at + 8 + size])
        try:
            kind, place, data = _record(record)
        except WireError:
            break
        if kind == 4:
            crc = int.from_bytes(out[place[0] : place[1]], "little") if place else crc
            crc = read_uvarint(record, place[0])[0] if place else 0
        else:
            crc = crc32c(data, crc)
            if place:
                width = place[1] - place[0]
                encoded = uvarint(crc)
                if len(encoded) <= width:
                    # Longer than it need be, so that it takes the same room.
                    padded = bytes(byte | 128 for byte in encoded) + b"\x80" * (width - len(encoded))
                    padded = padded[:-1] + bytes((padded[-1] & 127,))
                    out[at + 8 + place[0] : at + 8 + place[1]] = padded
        at += total
    return bytes(out)


def _record(record: bytes) -> tuple[int, tuple[int, int] | None, bytes]:
    """Kind, where the checksum stands, and data."""
    kind, place, data = 0, None, b""
    pos = 0
    while pos < len(record):
        tag, start = read_uvarint(record, pos)
        pos = skip_field(record, start, tag)
        if tag == 0x08:
            kind = read_uvarint(record, start)[0]
        elif tag == 0x10:
            place = (start, pos)
        elif tag == 0x1A:
            size, begin = read_uvarint(record, start)
            data = record[begin : begin + size]
    return kind, place, data


def _check_log(data: bytes) -> str:
    return both([_open_log(content) for content in {data: 1, _mend_records(data[:-1]) + data[-1:]: 1}])


def _open_log(data: bytes) -> str:
    names = list(_log())
    which = data[-1] % len(names) if data else 0
    disk = MemoryDisk()
    disk.makedirs("/wal")
    for number, name in enumerate(names):
        disk.names[f"/wal/{name}"] = _inode(data[:-1] if number == which else _log()[name])
    outcome = ""
    try:
        found = read_log(disk, "/wal", WalSnapshot()).entries
        assert [entry.index for entry in found] == list(range(1, len(found) + 1))
    except StorageError as error:
        assert error.path.startswith("/wal")
        outcome = f"refused: {str(error).partition(':')[2]}"
    for step in (valid_snapshot_entries, repair):
        try:
            step(disk, "/wal")
        except StorageError as error:
            assert error.path.startswith("/wal")
    try:
        wal, replay = Wal.open_and_read(disk, "/wal", WalSnapshot(), _OPTIONS)
    except StorageError as error:
        return outcome or f"refused: {str(error).partition(':')[2]}"
    # What opens takes more, and is read again with it.
    last = replay.entries[-1].index if replay.entries else 0
    term = max([entry.term for entry in replay.entries] + [replay.hard_state.term])
    if last < 1 << 62:
        wal.save(HardState(term, 1, 0), [Entry(0, term, last + 1, b"more")], must_sync=True)
    wal.close()
    wal, again = Wal.open_and_read(disk, "/wal", WalSnapshot(), _OPTIONS)
    wal.close()
    assert again.entries[: len(replay.entries)] == replay.entries
    assert again.entries[-1].data == b"more"
    return outcome or f"{len(replay.entries).bit_length()} {len(replay.metadata)}"


# The bbolt file.

PAGE: Final = 1024


@cache
def _database() -> bytes:
    disk = MappingDisk()
    disk.makedirs("/snap")
    disk.names["/snap/db"] = _inode(empty_database(PAGE))
    backend = Backend.open(disk, "/snap/db")
    for name in (b"key", b"lease", b"meta"):
        backend.create_bucket(name)
    backend.put(b"meta", b"consistent_index", bytes(8))
    for number in range(60):
        backend.put(b"key", struct.pack(">Q", number), bytes([number]) * (30 + 10 * (number % 7)))
    backend.put(b"key", b"large", b"v" * 2500)
    backend.commit()
    for number in range(0, 60, 4):
        backend.delete(b"key", struct.pack(">Q", number))
    backend.commit()
    content = bytes(disk.names["/snap/db"].content)  # type: ignore[union-attr]
    backend.close()
    return content


def _changes_of_database() -> list[bytes]:
    """An input is a row of changes: two bytes of place, one of length, as many bytes."""
    return [b"", b"\x04\x08\x00", b"\x08\x10\x00\x04\x08\x00"]


def _changed_database(data: bytes) -> bytes:
    content = bytearray(_database())
    pos = 0
    while pos + 3 <= len(data):
        place = int.from_bytes(data[pos : pos + 2], "big") % len(content)
        size = data[pos + 2] % 32
        piece = data[pos + 3 : pos + 3 + size]
        content[place : place + len(piece)] = piece[: len(content) - place]
        pos += 3 + size
    for page in (0, 1):
        body = content[page * PAGE + 16 : page * PAGE + 16 + 56]
        content[page * PAGE + 16 + 56 : page * PAGE + 16 + 64] = fnv1a(bytes(body)).to_bytes(8, "little")
    return bytes(content)


def _check_database(data: bytes) -> str:
    disk = MappingDisk()
    disk.makedirs("/snap")
    content = _changed_database(data)
    disk.names["/snap/db"] = _inode(content)
    try:
        backend = Backend.open(disk, "/snap/db")
    except StorageError as error:
        assert error.path == "/snap/db"
        return f"refused: {error}"
    problems = check(backend.database.view, backend.database.freelist)
    outcome = f"unsound: {problems[0]}" if problems else "sound"
    try:
        before = {}
        for name in sorted(backend.database.view.buckets):
            before[name] = backend.scan(name, b"", None)
            for key, _ in before[name][:3]:
                backend.get(name, key)
            backend.get(name, b"")
            backend.scan(name, b"\0\0", b"\xff", 5)
        backend.hash()
        name = next(iter(before), b"key")
        backend.create_bucket(name)
        for number in range(8):
            backend.put(name, b"new%d" % number, bytes(300))
        for key, _ in before.get(name, [])[:20]:
            backend.delete(name, key)
        backend.commit()
        backend.commit()
    except StorageError as error:
        assert problems, f"{error} in a file without problems"
        assert error.path == "/snap/db"
        return f"{outcome} {type(error).__name__}"
    if not problems:
        assert check(backend.database.view, backend.database.freelist) == []
        after = backend.scan(name, b"", None)
        backend.close()
        backend = Backend.open(disk, "/snap/db")
        assert check(backend.database.view, backend.database.freelist) == []
        assert backend.scan(name, b"", None) == after
        # `before` may have keys twice where a flipped bit made two alike; a sound file has none.
        kept = dict(before.get(name, []))
        for key, _ in before.get(name, [])[:20]:
            kept.pop(key, None)
        kept.update({b"new%d" % number: bytes(300) for number in range(8)})
        assert dict(after) == kept
    backend.close()
    return outcome


# .snap files and the v2 tree in them.


@cache
def _tree() -> bytes:
    store = Store()
    store.set("/1/a", value="v", expires_ns=5_000_000_000, now_ns=1)
    store.set("/1/d/e", value='"\u00e9\\', now_ns=1)
    return save(store)


def _check_snap_file(data: bytes) -> str:
    outcomes = []
    for content in {data: 1, _mend_snap_file(data): 1}:
        try:
            snapshot = decode_snap_file("/snap/a.snap", content)
        except SnapError as error:
            assert error.path == "/snap/a.snap"
            outcomes.append(f"refused: {error}")
            continue
        assert decode_snap_file("/snap/a.snap", encode_snap_file(snapshot)) == snapshot
        outcomes.append("whole, " + _check_tree(snapshot.data))
    return both(outcomes)


def _mend_snap_file(content: bytes) -> bytes:
    pos = 0
    data = b""
    try:
        while pos < len(content):
            tag, pos = read_uvarint(content, pos)
            if tag == 0x12:
                size, start = read_uvarint(content, pos)
                data = content[start : start + size]
            pos = skip_field(content, pos, tag)
    except WireError:
        return content
    return b"\x08" + uvarint(crc32c(data)) + b"\x12" + uvarint(len(data)) + data


def _check_tree(data: bytes) -> str:
    store = Store()
    try:
        recover(store, data)
    except SavedStoreError as error:
        return f"refused: {error}"[:60]
    saved = save(store)
    again = Store()
    recover(again, saved)
    assert save(again) == saved
    return f"tree {len(saved).bit_length()}"


FILES: Final = (
    Target("wal", _check_log, _segments, (bytes(8), bytes(64), b"\x08\x01\x10\x00", b"\x08\x05\x10\x00\x1a\x00")),
    Target("bolt", _check_database, _changes_of_database, tuple(struct.pack("<Q", number) for number in range(14))),
    Target(
        "snap",
        _check_snap_file,
        lambda: [encode_snap_file(Snapshot(5, 2, ConfState((1, 2)), _tree()))],
        (b"{", b"}", b"[", b"null", b"-1", b"1e400", b'"', b"\\ud800"),
    ),
    Target(
        "v2_tree",
        _check_tree,
        lambda: [_tree()],
        (b"{", b"[" * 200, b"null", b"-1", b"1e400", b'"', b"\\ud800", b"NaN", b'"Children":{}', b"9" * 30),
    ),
)
