"""Defences of the peer port: who may speak, how much, and for how long without saying anything."""

from __future__ import annotations

from typing import Final

from tests.defences.defence import Defence

_UNIT: Final = "tests/unit/peer/"
_PORT: Final = _UNIT + "test_peer_port.py::"
_CODEC: Final = _UNIT + "test_peer_codec.py::"
_GREETING: Final = _UNIT + "test_peer_greeting.py::"
_FINDS: Final = "tests/fuzz/test_fuzz_finds.py::"
_TRANSPORT: Final = _UNIT + "test_peer_transport.py::"

PEER: Final = (
    Defence(
        against="members of another cluster",
        place="peer.greeting:check_greeting",
        text="if theirs != identity.cluster_id_text:",
        instead="if False:",
        attacks=(_GREETING + "test_refused", _TRANSPORT + "test_a_member_of_another_cluster_is_refused"),
    ),
    Defence(
        against="members of a version that cannot be mixed",
        place="peer.greeting:check_greeting",
        text="if too_low:",
        instead="if False:",
        attacks=(_GREETING + "test_refused",),
    ),
    Defence(
        against="peers that say nothing",
        place="peer.http_server:PeerConnection._check_silence",
        text="if left <= 0:",
        instead="if False:",
        attacks=(_PORT + "test_a_client_that_says_nothing_is_hung_up_on",),
        is_slow=True,
    ),
    Defence(
        against="snapshot messages of absurd lengths",
        place="peer.snapshot_receiver",
        text="if length > MESSAGE_BYTES_MAX:",
        instead="if False:",
        attacks=(_PORT + "test_what_is_no_database_is_refused",),
    ),
    Defence(
        against="counts of entries that cannot be true",
        place="peer.codec",
        text="if number > ENTRIES_MAX:",
        instead="if False:",
        attacks=(_CODEC + "test_msgapp_stream_refuses",),
    ),
    Defence(
        against="messages of absurd lengths on a stream",
        place="peer.codec",
        text="if size > self._frame_bytes_max:",
        instead="if False:",
        attacks=(_CODEC + "test_message_stream_refuses",),
    ),
    Defence(
        against="a peer that takes nothing",
        place="peer.stream_writer",
        text="if len(self._waiting) >= QUEUE_MAX:",
        instead="if False:",
        attacks=(_TRANSPORT + "test_a_reader_that_takes_nothing_costs_bounded_memory_and_is_dropped",),
    ),
    Defence(
        against="strangers who make themselves known",
        place="peer.transport",
        text="if len(self._remotes) >= REMOTES_MAX:",
        instead="if False:",
        attacks=(_TRANSPORT + "test_remotes_are_bounded",),
    ),
    Defence(
        against="groups within groups",
        place="wire:_skip_group",
        text="if len(open_tags) == GROUPS_MAX:",
        instead="if False:",
        attacks=(_FINDS + "test_groups_within_groups_end_somewhere",),
    ),
    Defence(
        against="fields with tags of several bytes, passed over",
        place="wire:skip_unknown",
        text="if tag < 128 and after > pos + 1:",
        instead="if False:",
        attacks=(_FINDS + "test_a_tag_longer_than_it_need_be_is_not_passed_over",),
    ),
    Defence(
        against="snapshots in pieces",
        place="raft.codec:_decode_fields",
        text="if has_snapshot:",
        instead="if False:",
        attacks=(_FINDS + "test_a_snapshot_in_two_pieces_is_refused",),
    ),
    Defence(
        against="JSON without end",
        place="go_json:loads",
        text="except RecursionError as error:",
        instead="except KeyError as error:",
        attacks=(_FINDS + "test_json_deeper_than_pythons_reader_goes",),
    ),
    Defence(
        against="heads of answers that come byte by byte",
        place="peer.http_answer:AnswerReader.feed",
        text="seen = max(0, len(self._head) - 3)",
        instead="seen = 0",
        attacks=(_FINDS + "test_a_head_that_comes_byte_by_byte_is_looked_through_once",),
        is_slow=True,
    ),
)
