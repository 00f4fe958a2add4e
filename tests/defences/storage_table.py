"""Defences of the files: power cuts, failed syncs, short writes, bytes that are not what was written."""

from __future__ import annotations

from typing import Final

from tests.defences.defence import Defence

_UNIT: Final = "tests/unit/storage/"
_WAL: Final = _UNIT + "test_storage_wal.py::"
_SNAP: Final = _UNIT + "test_storage_snap.py::"
_PAGE: Final = _UNIT + "test_storage_bolt_page.py::"
_BACKEND: Final = _UNIT + "test_storage_backend.py::"
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
        text="self._disk.fsync(fd)\n            finally",
        instead="pass\n            finally",
        attacks=(_SNAP_CUT,),
    ),
)
