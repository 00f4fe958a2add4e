"""Defences of the files: power cuts, failed syncs, short writes, bytes that are not what was written."""

from __future__ import annotations

from typing import Final

from tests.defences.defence import Defence

_UNIT: Final = "tests/unit/storage/"
_WAL: Final = _UNIT + "test_storage_wal.py::"
_SNAP: Final = _UNIT + "test_storage_snap.py::"
_PAGE: Final = _UNIT + "test_storage_bolt_page.py::"
_BACKEND: Final = _UNIT + "test_storage_backend.py::"
_FINDS: Final = "tests/fuzz/test_fuzz_finds.py::"
_WAL_CUT: Final = "tests/property/test_property_wal_power_cut.py::test_synced_records_outlive_power_cuts"
_BOLT_CUT: Final = "tests/property/test_property_bolt_power_cut.py::test_every_power_cut_leaves_a_whole_commit"
_SNAP_CUT: Final = "tests/property/test_property_wal_power_cut.py::test_a_snap_file_is_there_whole_or_not_at_all"

STORAGE: Final = (
    Defence(
        against="pages that reach the disk after the meta page that names them",
        place="storage.bolt.db:Database.write",
        text='action = "fdatasync"\n            if self._sync:\n                disk.fdatasync(fd)',
        instead='action = "fdatasync"',
        attacks=(_BOLT_CUT, _BACKEND + "test_the_barriers_stand_where_they_must"),
        is_slow=True,
    ),
    Defence(
        against="a commit that is promised before it is on disk",
        place="storage.bolt.db:Database.write",
        text="[meta], offset)\n            if self._sync:\n                disk.fdatasync(fd)",
        instead="[meta], offset)",
        attacks=(_BOLT_CUT,),
        is_slow=True,
    ),
    Defence(
        against="a torn meta page",
        place="storage.bolt.meta",
        text="if checksum != computed:",
        instead="if False:",
        attacks=(_PAGE + "test_a_broken_meta_says_how",),
    ),
    Defence(
        against="a failed write of the database",
        place="storage.bolt.db:Database.write",
        text="self.failure = os_error(path, action, error)\n            raise self.failure from error",
        instead="raise os_error(path, action, error) from error",
        attacks=(_BACKEND + "test_after_a_failed_write_nothing_is_written_any_more",),
    ),
    Defence(
        against="flipped bits in the log",
        place="storage.wal.replay",
        text="if crc != expected:",
        instead="if False:",
        attacks=(_WAL + "test_a_flipped_bit_is_found_and_placed",),
    ),
    Defence(
        against="a segment of another log",
        place="storage.wal.replay",
        text="elif self.crc and self.crc != crc:",
        instead="elif False:",
        attacks=(_WAL + "test_a_segment_of_another_log",),
    ),
    Defence(
        against="flipped bits in a .snap file",
        place="storage.snap",
        text="if crc != found:",
        instead="if False:",
        attacks=(_SNAP + "test_an_unreadable_file_is_set_aside",),
    ),
    Defence(
        against="a .snap file that is there before its bytes",
        place="storage.snap",
        text="self._disk.fsync(fd)\n                self.on_fsync(time.perf_counter() - began)\n            finally",
        instead="pass\n            finally",
        attacks=(_SNAP_CUT,),
    ),
    Defence(
        against="entries that are answered before they are on disk",
        place="storage.wal.writer:Wal.save",
        text="meanwhile()\n                self._sync()",
        instead="meanwhile()",
        attacks=(_WAL_CUT, _WAL + "test_what_must_be_synced"),
        is_slow=True,
    ),
    Defence(
        against="a vote that is given before it is on disk",
        place="storage.wal.writer:Wal.save",
        text="if hard_state.term != self._state.term or hard_state.vote != self._state.vote:",
        instead="if False:",
        attacks=(_WAL_CUT, _WAL + "test_what_must_be_synced"),
        is_slow=True,
    ),
    Defence(
        against="an answer of the helper that nobody waits for",
        place="storage.wal.writer:Wal.save",
        text="self._begin_wait(done)\n                    waiter.sync()\n                    return",
        instead="self._begin_wait(done)\n                    waiter.sync()",
        attacks=("tests/unit/storage/test_storage_wal_waiter.py::test_done_comes_from_the_event_loop",),
    ),
    Defence(
        against="the end of a segment that is not on disk when the next one begins",
        place="storage.wal.writer:Wal._cut",
        text="self._sync()\n                self._disk.fdatasync(new.fd)",
        instead="self._disk.fdatasync(new.fd)",
        attacks=(_WAL_CUT,),
        is_slow=True,
    ),
    Defence(
        against="a segment that has its name before its head",
        place="storage.wal.writer:Wal._cut",
        text="self._sync()\n                self._disk.fdatasync(new.fd)",
        instead="self._sync()",
        attacks=(_WAL_CUT,),
        is_slow=True,
    ),
    Defence(
        against="a segment whose name is not on disk when it takes entries",
        place="storage.wal.writer:Wal._cut",
        text="self._disk.sync_dir(self.path)",
        instead="pass",
        attacks=(_WAL_CUT,),
        is_slow=True,
    ),
    Defence(
        against="a log that goes on after a failed write",
        place="storage.wal.writer:Wal.save",
        text="if self._error is not None:",
        instead="if False:",
        attacks=(_WAL + "test_after_a_failure_the_log_takes_nothing_more",),
    ),
    Defence(
        against="half a batch that a full disk leaves in the log",
        place="storage.wal.writer:Wal._write",
        text="self._disk.ftruncate(self._fd, begin)",
        instead="pass",
        attacks=(_WAL + "test_a_full_disk_leaves_no_half_batch",),
    ),
    Defence(
        against="what a crash left behind the log's end",
        place="storage.wal.writer:Wal.read_all",
        text="self._disk.ftruncate(tail.fd, self._offset)",
        instead="pass",
        attacks=(_WAL + "test_the_tail_is_allocated_again_and_clean",),
    ),
    Defence(
        against="a record of which a sector was never written",
        place="storage.wal.replay:Decoder._torn_or",
        text="if self._is_last() and is_torn(",
        instead="if False and is_torn(",
        attacks=(_WAL_CUT, _WAL + "test_a_sector_that_was_never_written_is_repaired"),
        is_slow=True,
    ),
    Defence(
        against="an older segment whose end is gone",
        place="storage.wal.replay:Decoder._cut_off",
        text="if self._is_last():",
        instead="if True:",
        attacks=(_WAL + "test_an_end_torn_in_an_older_segment_is_no_torn_end",),
    ),
    Defence(
        against="a repair that leaves no copy",
        place="storage.wal.repair:repair",
        text='_copy(disk, segment.fd, f"{segment.path}.broken")',
        instead="pass",
        attacks=(_WAL + "test_a_cut_off_end_is_repaired",),
    ),
    Defence(
        against="entries that are missing in the log",
        place="storage.wal.replay:replay",
        text="elif place > len(entries):",
        instead="elif False:",
        attacks=(_WAL + "test_a_gap_between_entries",),
    ),
    Defence(
        against="lengths of records that there can not be",
        place="storage.wal.replay:Decoder._next",
        text="if total > _CHUNK_BYTES and total > self._disk.size(self._fd) - begin:",
        instead="if False:",
        attacks=(_WAL + "test_an_absurd_length_is_refused_without_reading_it",),
    ),
    Defence(
        against="records of type 0",
        place="storage.wal.replay:Decoder._next",
        text="if kind == END:",
        instead="if False:",
        attacks=(_FINDS + "test_a_record_of_type_0_is_not_the_end_of_the_log",),
    ),
    Defence(
        against="pages that lead back to themselves",
        place="storage.bolt.runs:leaf_runs",
        text="if left < 0:",
        instead="if False:",
        attacks=(_FINDS + "test_a_branch_that_leads_back_to_itself_is_found_at_open",),
        is_slow=True,
    ),
    Defence(
        against="pages that two places lead to",
        place="storage.bolt.reach:unreachable_pages",
        text="if used[page_id]:",
        instead="if False:",
        attacks=(_FINDS + "test_a_leaf_that_two_places_lead_to_is_found_at_open",),
    ),
    Defence(
        against="pages that lead a reader back",
        place="storage.bolt.tree:View._collect",
        text="if depth > DEPTH_MAX:",
        instead="if False:",
        attacks=(_FINDS + "test_a_branch_that_leads_back_to_itself_under_a_reader",),
    ),
    Defence(
        against="lists of free pages without end",
        place="storage.bolt.check:_Checker.use",
        text="min(page_id + length, len(self.reachable))",
        instead="page_id + length",
        attacks=(_FINDS + "test_a_freelist_that_is_said_to_have_four_billion_pages",),
    ),
    Defence(
        against="a new log that has its name before its bytes",
        place="storage.wal.writer:Wal._begin",
        text="self._disk.fsync(segment.fd)",
        instead="pass",
        attacks=(_WAL_CUT,),
        is_slow=True,
    ),
    Defence(
        against="a new log that is gone after a power cut",
        place="storage.wal.writer:Wal.create",
        text='disk.sync_dir(os.path.dirname(path.rstrip("/")) or ".")',
        instead="pass",
        attacks=(_WAL_CUT,),
        is_slow=True,
    ),
)
