"""WAL records: what is written is read again, and no bytes on disk surprise the reader."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from balsad.proto import record_pb2
from balsad.raft.codec import decode_entry, decode_hard_state
from balsad.raft.messages import ConfState, Entry, HardState
from balsad.storage import StorageError
from balsad.storage.wal import INLINE, Wal, WalOptions, WalSnapshot, read_log, repair, valid_snapshot_entries
from balsad.storage.wal.record import (
    ENTRY,
    STATE,
    decode_frame_head,
    decode_record,
    decode_wal_snapshot,
    encode_batch,
    encode_record,
    encode_wal_snapshot,
)
from balsad.wire import WireError
from tests.property.memory_disk import MemoryDisk

uint64 = st.integers(0, 2**64 - 1) | st.integers(0, 300)
entries = st.lists(st.builds(Entry, st.integers(0, 2), uint64, uint64, st.binary(max_size=200)), max_size=5)
hard_states = st.none() | st.builds(HardState, uint64, uint64, uint64)
checksums = st.integers(0, 2**32 - 1)


def frames(data: bytes) -> list[tuple[int, int, bytes]]:
    """All records of a row of frames."""
    found: list[tuple[int, int, bytes]] = []
    pos = 0
    while pos < len(data):
        size, padding = decode_frame_head(data, pos)
        assert (size + padding) % 8 == 0
        found.append(decode_record(data, pos + 8, pos + 8 + size))
        assert not any(data[pos + 8 + size : pos + 8 + size + padding])
        pos += 8 + size + padding
    assert pos == len(data)
    return found


@given(entries, hard_states, checksums)
def test_a_batch_reads_back(batch: list[Entry], state: HardState | None, crc: int) -> None:
    data, after = encode_batch(batch, state, crc)
    found = frames(data)

    assert [decode_entry(content) for kind, _crc, content in found if kind == ENTRY] == batch
    states = [decode_hard_state(content) for kind, _crc, content in found if kind == STATE]
    assert states == ([state] if state is not None and not state.is_empty() else [])
    assert after == (found[-1][1] if found else crc)


@given(entries, hard_states, checksums)
def test_a_batch_is_its_records_one_by_one(batch: list[Entry], state: HardState | None, crc: int) -> None:
    """The hot encoder and the plain one write the same, and so do the generated classes."""
    data, after = encode_batch(batch, state, crc)
    alone = b""
    running = crc
    for kind, stored, content in frames(data):
        frame, running = encode_record(kind, content, running)
        alone += frame
        size, _padding = decode_frame_head(frame, 0)
        assert frame[8 : 8 + size] == record_pb2.Record(type=kind, crc=stored, data=content).SerializeToString()

    assert (alone, running) == (data, after)


@given(uint64, uint64, st.none() | st.builds(ConfState, st.lists(uint64, max_size=3).map(tuple)))
def test_a_snapshot_record_reads_back(index: int, term: int, conf_state: ConfState | None) -> None:
    snapshot = WalSnapshot(index, term, conf_state)
    encoded = encode_wal_snapshot(snapshot)
    made = record_pb2.Snapshot(index=index, term=term)
    if conf_state is not None:
        made.conf_state.voters.extend(conf_state.voters)
        made.conf_state.auto_leave = False

    assert encoded == made.SerializeToString()
    assert decode_wal_snapshot(encoded) == snapshot


@given(st.binary(max_size=80))
def test_any_bytes_are_a_record_or_refused(noise: bytes) -> None:
    try:
        kind, crc, data = decode_record(noise, 0, len(noise))
    except WireError:
        return
    assert len(data) <= len(noise)
    assert kind >= 0
    assert 0 <= crc < 2**32


def small_log() -> tuple[MemoryDisk, list[Entry]]:
    disk = MemoryDisk()
    wal = Wal.create(disk, "/wal", b"whose", WalOptions(sync=INLINE, segment_bytes=2000))
    written = [Entry(0, 1, index, bytes([index]) * (index * 3)) for index in range(1, 40)]
    for at in range(0, len(written), 3):
        wal.save(HardState(1, 1, at), written[at : at + 3])
    wal.save_snapshot(WalSnapshot(5, 1, ConfState((1,))))
    wal.close()
    return disk, written


@settings(max_examples=300, deadline=None)
@given(
    at=st.floats(0, 1, exclude_max=True),
    noise=st.binary(min_size=1, max_size=600),
    segment=st.integers(0, 10),
    cut=st.booleans(),
)
def test_a_broken_log_is_read_in_part_or_refused(at: float, noise: bytes, segment: int, cut: bool) -> None:
    """Bytes changed anywhere: no surprise, no entry that was never written at its place."""
    disk, written = small_log()
    names = disk.listdir("/wal")
    inode = disk.names[f"/wal/{names[segment % len(names)]}"]
    assert inode is not None
    offset = int(at * len(inode.content))
    if cut:
        del inode.content[offset:]
    else:
        inode.content[offset : offset + len(noise)] = noise[: len(inode.content) - offset]
    try:
        found = read_log(disk, "/wal", WalSnapshot()).entries
    except StorageError as error:
        assert error.path.startswith("/wal")
    else:
        assert [entry.data for entry in found] == [entry.data for entry in written[: len(found)]]
    try:
        valid_snapshot_entries(disk, "/wal")
        repair(disk, "/wal")
    except StorageError:
        pass
