"""Defences of the clients' port: HTTP/2, gRPC, HTTP/1.1, TLS, sockets."""

from __future__ import annotations

from typing import Final

from tests.defences.defence import Defence

_UNIT: Final = "tests/unit/transport/"
_LIMITS: Final = _UNIT + "test_transport_http2_limits.py::"
_FLOW: Final = _UNIT + "test_transport_http2_flow.py::"
_LIFE: Final = _UNIT + "test_transport_http2_life.py::"
_CALLS: Final = _UNIT + "test_transport_http2_calls.py::"
_HTTP1: Final = _UNIT + "test_transport_http1.py::"
_SOCKETS: Final = _UNIT + "test_transport_sockets.py::"
_TLS: Final = _UNIT + "test_transport_tls.py::"
_WORDS: Final = _UNIT + "test_transport_words.py::"
_GRPCIO: Final = _UNIT + "test_transport_grpcio.py::"

_ACCEPTER: Final = _UNIT + "test_transport_accepter.py::"
_CROWDS: Final = "tests/interop/test_interop_crowds.py::"
_ROOM: Final = "tests/unit/mvcc/test_mvcc_watch_room.py::"
_SLOW: Final = "tests/interop/test_interop_slow_watchers.py::"

_COUNT: Final = "self._count_nuisance()"

FRAMES: Final = (
    Defence(
        # Either of its two stops holds it: of what is queued, and of the time one read may take.
        against="frames without end in one read",
        place="transport.http2_connection:Http2Connection._process",
        text=(
            "if self.paused or len(out) > OUT_PIECES_MAX or self.queued_bytes > QUEUED_IN_READ_MAX:\n"
            "                self.flush()\n"
            "                if self.paused or self.state == CLOSED:\n"
            "                    break\n"
            "            left -= 1\n"
            "            if left < 0:\n"
            "                if server.stopwatch() - started > server.turn_s:\n"
            "                    "
        ),
        instead=(
            "if self.paused:\n"
            "                self.flush()\n"
            "                if self.paused or self.state == CLOSED:\n"
            "                    break\n"
            "            left -= 1\n"
            "            if left < 0:\n"
            "                if False:\n"
            "                    "
        ),
        attacks=(_LIMITS + "test_floods_that_never_read_are_held_by_their_own_socket",),
    ),
    Defence(
        against="rapid reset",
        place="transport.http2_control:Http2Control._on_rst_stream",
        text=_COUNT,
        instead="pass",
        attacks=(_LIMITS + "test_rapid_reset",),
    ),
    Defence(
        against="resets that the server is made to send",
        place="transport.http2_base:Http2Base._drop_stream",
        text=_COUNT,
        instead="pass",
        attacks=(_LIMITS + "test_being_made_to_reset",),
    ),
    Defence(
        against="nuisances, however many",
        place="transport.http2_base:Http2Base._count_nuisance",
        text="if self.nuisance_left < 0:",
        instead="if False:",
        attacks=(
            _LIMITS + "test_rapid_reset",
            _LIMITS + "test_being_made_to_reset",
            _LIMITS + "test_a_flood_of_empty_data_frames",
            _LIMITS + "test_floods_of_control_frames[settings]",
        ),
    ),
    Defence(
        against="trust regained at once",
        place="transport.http2_base:Http2Base._count_nuisance",
        text="(now - self.nuisance_at) * limits.nuisance_per_s",
        instead="1e9",
        attacks=(_LIMITS + "test_an_attacker_regains_trust_only_slowly",),
    ),
    Defence(
        against="CONTINUATION flood of bytes",
        place="transport.http2_connection:Http2Connection._add_to_block",
        text="self.block_bytes > limits.header_list_bytes_max or ",
        instead="",
        attacks=(_LIMITS + "test_continuation_flood[large]",),
    ),
    Defence(
        against="CONTINUATION flood of frames",
        place="transport.http2_connection:Http2Connection._add_to_block",
        text=" or len(self.block_parts) > limits.header_block_frames_max",
        instead="",
        attacks=(_LIMITS + "test_continuation_flood[empty]",),
    ),
    Defence(
        against="SETTINGS flood",
        place="transport.http2_control:Http2Control._on_settings",
        text="self._count_nuisance(1.0 + len(self.blocked) / 64)",
        instead="pass",
        attacks=(
            _LIMITS + "test_floods_of_control_frames[settings]",
            _LIMITS + "test_floods_of_control_frames[many settings]",
        ),
    ),
    Defence(
        against="SETTINGS that move many windows",
        place="transport.http2_control:Http2Control._on_settings",
        text=" + len(self.blocked) / 64",
        instead="",
        attacks=(_LIMITS + "test_settings_that_move_many_windows_cost_more",),
    ),
    Defence(
        against="PING flood",
        place="transport.http2_control:Http2Control._on_ping",
        text="if self.ping_strikes > PING_STRIKES_MAX:",
        instead="if False:",
        attacks=(
            _LIMITS + "test_floods_of_control_frames[ping]",
            _LIFE + "test_pings_without_calls_are_too_many_after_a_few",
            _LIFE + "test_pings_during_a_call_are_fine_every_five_seconds",
        ),
    ),
    Defence(
        against="PRIORITY flood",
        place="transport.http2_connection:Http2Connection._on_frame",
        text='"PRIORITY of a wrong size")\n            self._count_nuisance()',
        instead='"PRIORITY of a wrong size")',
        attacks=(_LIMITS + "test_floods_of_control_frames[priority]",),
    ),
    Defence(
        against="flood of frames nobody knows",
        place="transport.http2_connection:Http2Connection._on_frame",
        text="else:\n            self._count_nuisance()",
        instead="else:\n            pass",
        attacks=(
            _LIMITS + "test_floods_of_control_frames[unknown]",
            _LIMITS + "test_floods_of_control_frames[large unknown]",
        ),
    ),
    Defence(
        against="flood of empty DATA",
        place="transport.http2_connection:Http2Connection._on_data",
        text="elif not end_stream:\n            self._count_nuisance()",
        instead="",
        attacks=(_LIMITS + "test_a_flood_of_empty_data_frames", _LIMITS + "test_padding_alone_is_empty_too"),
    ),
    Defence(
        against="flood of empty DATA on streams that ended",
        place="transport.http2_connection:Http2Connection._on_data",
        text="if not size:\n                self._count_nuisance()",
        instead="",
        attacks=(_LIMITS + "test_floods_on_streams_that_ended[0]",),
    ),
    Defence(
        against="flood of SETTINGS acknowledgements",
        place="transport.http2_control:Http2Control._on_settings",
        text="self._count_nuisance()\n",
        instead="pass\n",
        attacks=(_LIMITS + "test_floods_of_control_frames[settings ack]",),
    ),
    Defence(
        against="flood of PING acknowledgements",
        place="transport.http2_control:Http2Control._on_ping",
        text=_COUNT,
        instead="pass",
        attacks=(_LIMITS + "test_floods_of_control_frames[ping ack]",),
    ),
    Defence(
        against="flood of GOAWAY",
        place="transport.http2_connection:Http2Connection._on_frame",
        text='"malformed GOAWAY")\n            self._count_nuisance()',
        instead='"malformed GOAWAY")',
        attacks=(_LIMITS + "test_floods_of_control_frames[goaway]",),
    ),
    Defence(
        against="flood of requests that are reset",
        place="transport.http2_connection:Http2Connection._open_stream",
        text="if headers.is_reset:\n            self._count_nuisance()",
        instead="if headers.is_reset:",
        attacks=(_LIMITS + "test_a_flood_of_requests_that_are_reset",),
    ),
    Defence(
        against="flood of streams over the limit",
        place="transport.http2_base:Http2Base._refuse_stream",
        text=_COUNT,
        instead="pass",
        attacks=(_LIMITS + "test_idle_streams_without_end",),
    ),
    Defence(
        against="flood of header blocks on streams that ended",
        place="transport.http2_connection:Http2Connection._on_block",
        text="self._count_nuisance()\n            return",
        instead="return",
        attacks=(_LIMITS + "test_floods_on_streams_that_ended[1]",),
    ),
    Defence(
        against="answers to floods that pile up",
        place="transport.http2_base:Http2Base.pause_writing",
        text="self.sink.pause_reading()",
        instead="pass",
        attacks=(_LIMITS + "test_floods_that_never_read_are_held_by_their_own_socket",),
    ),
    Defence(
        against="frames larger than agreed, as they begin",
        place="transport.http2_connection:Http2Connection._process",
        text="if word >> 8 > FRAME_SIZE_MAX:\n                    raise",
        instead="if False:\n                    raise",
        attacks=(_CALLS + "test_broken_frames_end_the_connection_with_a_reason",),
    ),
    Defence(
        against="frames larger than agreed",
        place="transport.http2_connection:Http2Connection._process",
        text="if word >> 8 > FRAME_SIZE_MAX:\n                raise",
        instead="if False:\n                raise",
        attacks=(_CALLS + "test_broken_frames_end_the_connection_with_a_reason",),
    ),
)

HEADERS: Final = (
    Defence(
        against="header list too large",
        place="transport.header_block:decode_stateless",
        text="if room < 0:",
        instead="if False:",
        attacks=(
            _LIMITS + "test_a_header_bomb_of_static_entries",
            _WORDS + "test_a_list_that_is_too_large",
        ),
    ),
    Defence(
        against="many header fields of few bytes",
        place="transport.header_block:decode_stateless",
        text=" + FIELD_OVERHEAD",
        instead="",
        attacks=(_LIMITS + "test_a_header_list_of_very_many_fields",),
    ),
    Defence(
        against="header bomb with a table",
        place="transport.http2_connection:Http2Connection._decode",
        text="max_header_list_size=self.limits.header_list_bytes_max",
        instead="max_header_list_size=1 << 40",
        attacks=(_LIMITS + "test_a_header_bomb_of_a_client_with_a_table",),
    ),
    Defence(
        against="endless integers in header blocks",
        place="transport.header_block:read_integer",
        text="if shift > 28:",
        instead="if False:",
        attacks=(_WORDS + "test_an_integer_without_end_is_given_up_soon",),
    ),
    Defence(
        against="header blocks that are always new",
        place="transport.rpc_server:RpcServer.remember",
        text="if len(self.header_cache) >= HEADER_CACHE_MAX:",
        instead="if False:",
        attacks=(_LIMITS + "test_header_blocks_that_are_always_new",),
    ),
    Defence(
        against="header blocks with timeouts that are always new",
        place="transport.rpc_server:RpcServer.remember_timed",
        text="if len(self.timed_header_cache) >= HEADER_CACHE_MAX:",
        instead="if False:",
        attacks=(_LIMITS + "test_header_blocks_that_are_always_new",),
    ),
    Defence(
        against="large header blocks that are always new",
        place="transport.http2_connection:Http2Connection._on_block",
        text=" and len(block) <= CACHED_BLOCK_MAX",
        instead="",
        attacks=(_LIMITS + "test_header_blocks_that_are_always_new",),
    ),
    Defence(
        against="Huffman strings that are always new",
        place="transport.header_block:read_huffman",
        text="if len(_HUFFMAN_SEEN) >= _HUFFMAN_SEEN_MAX:",
        instead="if False:",
        attacks=(_LIMITS + "test_header_blocks_that_are_always_new",),
    ),
    Defence(
        against="timeouts that are always new",
        place="transport.grpc_words:read_timeout",
        text="if len(_TIMEOUTS_SEEN) >= _TIMEOUTS_SEEN_MAX:",
        instead="if False:",
        attacks=(_LIMITS + "test_header_blocks_that_are_always_new",),
    ),
)

STREAMS: Final = (
    Defence(
        against="concurrent streams in one read",
        place="transport.http2_connection:Http2Connection._process",
        text="if len(streams) >= self.streams_limit:",
        instead="if False:",
        attacks=(_LIMITS + "test_more_streams_than_allowed_are_refused",),
    ),
    Defence(
        against="concurrent streams of headers alone",
        place="transport.http2_connection:Http2Connection._process",
        text="method is not None and len(streams) < self.streams_limit",
        instead="method is not None",
        attacks=(_LIMITS + "test_idle_streams_without_end",),
    ),
    Defence(
        against="concurrent streams",
        place="transport.http2_connection:Http2Connection._open_stream",
        text="if len(self.streams) >= self.streams_limit:",
        instead="if False:",
        attacks=(_LIMITS + "test_more_streams_than_allowed_are_refused",),
    ),
    Defence(
        against="messages over the limit, told from their first five bytes",
        place="transport.call:Call.on_data",
        text="if length > limit:",
        instead="if False:",
        attacks=(
            _LIMITS + "test_a_message_that_says_it_is_huge_is_refused_at_once",
            _GRPCIO + "test_a_message_over_the_limit_is_refused",
        ),
    ),
    Defence(
        against="gzip bombs, as they unfold",
        place="transport.grpc_words:gunzip",
        text="stream.decompress(data, size_max + 1)",
        instead="stream.decompress(data)",
        attacks=(_LIMITS + "test_a_gzip_bomb",),
    ),
    Defence(
        against="gzip messages over the limit",
        place="transport.call:Call.on_data",
        text="if len(message) > limit:",
        instead="if False:",
        attacks=(_LIMITS + "test_a_gzip_bomb", _GRPCIO + "test_gzip_does_not_widen_the_limit"),
    ),
    Defence(
        against="messages begun and not ended",
        place="transport.http2_connection:Http2Connection._on_data",
        text="if self.partial_bytes > self.limits.partial_bytes_max:",
        instead="if False:",
        attacks=(_LIMITS + "test_many_messages_begun_and_not_ended",),
    ),
    Defence(
        against="messages in pieces of two bytes",
        place="transport.call:Call._keep",
        text="self.chunks = bytearray(data[pos:] if pos else data)",
        instead="class Pieces(list):\n"
        "            def __iadd__(self, data): self.append(data); return self\n"
        "        self.chunks = Pieces([data[pos:]])",
        attacks=(_LIMITS + "test_a_message_in_many_pieces_costs_what_it_holds",),
    ),
    Defence(
        against="a stream that sends more than its window",
        place="transport.http2_connection:Http2Connection._on_data",
        text="if stream.recv_used > STREAM_WINDOW:",
        instead="if False:",
        attacks=(_FLOW + "test_a_client_that_ignores_the_stream_window",),
    ),
    Defence(
        against="a connection that sends more than its window",
        place="transport.http2_base:Http2Base._count_received",
        text="if self.recv_used > CONNECTION_WINDOW:",
        instead="if False:",
        attacks=(_FLOW + "test_a_client_that_ignores_the_connection_window",),
    ),
    Defence(
        against="slow readers of answers",
        place="transport.http2_base:Http2Base.has_room_for_queue",
        text="if self.queued_bytes <= self.limits.queue_bytes_max:",
        instead="if True:",
        attacks=(_FLOW + "test_a_queue_beyond_its_bound_closes_the_connection",),
    ),
    Defence(
        against="slow readers who are many",
        place="transport.http2_base:Http2Base.has_room_for_queue",
        text="if self.server.held_bytes > self.limits.held_bytes_max:",
        instead="if False:",
        attacks=(_LIMITS + "test_all_together_hold_no_more_than_they_may",),
    ),
    Defence(
        against="watchers of long keys without end",
        place="api.v3.watch:_WatchCall._create",
        text="if self._api.watched_bytes + wishes.key_bytes > WATCHED_BYTES_MAX:",
        instead="if False:",
        attacks=("tests/unit/api/test_api_v3_streams.py::test_watched_keys_have_a_bound_on_their_bytes",),
    ),
    Defence(
        against="watchers who are many and do not read",
        place="transport.stream:Stream.has_room",
        text=" and not self.connection.server.is_crowded",
        instead="",
        attacks=(_LIMITS + "test_in_a_crowd_nobody_is_behind_with_much",),
    ),
    Defence(
        against="watchers of the past who are many and do not read",
        place="transport.stream:Stream.room",
        text="return max(PIECE_MIN, server.limits.behind_bytes - server.held_bytes >> 8)",
        instead="return 1 << 60",
        attacks=(
            _LIMITS + "test_each_who_takes_a_piece_of_the_past_leaves_the_next_one_a_smaller_one",
            _SLOW + "test_the_past[balsad-grpc]",
        ),
        is_slow=True,
    ),
    Defence(
        against="watchers of large events who are many and do not read",
        place="transport.call:Call.send_shared",
        text="if self.closed or len(body) <= FRAME_SIZE_MAX or self.headers.is_gzip:",
        instead="if True:",
        attacks=(_LIMITS + "test_what_many_are_told_is_not_copied_for_each_who_does_not_read_it",),
    ),
    Defence(
        against="watchers of the past who have not read what they got",
        place="transport.stream:Stream.room",
        text="if self.pending_bytes > (0 if server.is_crowded else most):",
        instead="if False:",
        attacks=(_LIMITS + "test_each_who_takes_a_piece_of_the_past_leaves_the_next_one_a_smaller_one",),
    ),
    Defence(
        against="pieces of the past that are larger than what there is room for",
        place="mvcc.watch:WatchHub.caught_up",
        text="if taken < len(events):",
        instead="if False:",
        attacks=(_ROOM + "test_the_past_comes_in_pieces_of_the_room_there_is",),
    ),
    Defence(
        against="watchers of the past who have no room",
        place="mvcc.watch:WatchHub.sync_step",
        text="elif watcher.stream.room() <= 0:",
        instead="elif False:",
        attacks=(_ROOM + "test_who_has_no_room_is_not_read_for",),
    ),
    Defence(
        against="watchers who are many and refuse, each another event",
        place="mvcc.watch:WatchHub._hold",
        text="if size and self.held_bytes + size > HELD_BYTES_MAX:",
        instead="if False:",
        attacks=(_ROOM + "test_refused_batches_are_held_up_to_a_bound_and_read_again_beyond_it",),
    ),
    Defence(
        against="clients of HTTP/1.1 who watch, are many and do not read",
        place="transport.http1_connection:Http1Answer.has_room",
        text=" and not self.connection.server.is_crowded",
        instead="",
        attacks=(_HTTP1 + "test_in_a_crowd_no_answer_is_behind_with_much",),
    ),
    Defence(
        against="slow readers of large answers",
        place="transport.http2_connection:Http2Connection._process",
        text=" or self.queued_bytes > QUEUED_IN_READ_MAX",
        instead="",
        attacks=(_LIMITS + "test_a_full_socket_stops_a_read_before_much_is_queued",),
    ),
    Defence(
        against="costly requests that keep the loop to themselves",
        place="transport.http2_connection:Http2Connection._process",
        text="if server.stopwatch() - started > server.turn_s:",
        instead="if False:",
        attacks=(_LIMITS + "test_costly_requests_take_turns_with_those_of_others",),
    ),
    Defence(
        against="costly requests in one read after the other",
        place="transport.http2_connection:Http2Connection._process",
        text="server.stopwatch() - started > READ_S_MAX:",
        instead="False:",
        attacks=(_LIMITS + "test_costly_reads_take_turns_too",),
    ),
    Defence(
        against="many that each take their whole turn",
        place="transport.http2_base:Http2Base._take_part",
        text="server.taking_turns += one",
        instead="pass",
        attacks=(_LIMITS + "test_many_that_want_much_have_shorter_turns",),
    ),
    Defence(
        against="requests that pile up while others have their turn",
        place="transport.http2_base:Http2Base._wait_a_turn",
        text="self.sink.pause_reading()",
        instead="pass",
        attacks=(_LIMITS + "test_costly_requests_take_turns_with_those_of_others",),
    ),
    Defence(
        against="windows of streams that overflow",
        place="transport.stream:Stream.on_window_update",
        text="if window > WINDOW_MAX:",
        instead="if False:",
        attacks=(_FLOW + "test_windows_that_overflow",),
    ),
    Defence(
        against="a connection's window that overflows",
        place="transport.http2_control:Http2Control._on_window_update",
        text="if self.send_window > WINDOW_MAX:",
        instead="if False:",
        attacks=(_FLOW + "test_windows_that_overflow",),
    ),
)

CROWDS: Final = (
    Defence(
        against="clients that take all descriptors",
        place="transport.accepter:Accepter._accept",
        text="if self._is_full():",
        instead="if False:",
        attacks=(_ACCEPTER + "test_who_is_too_many_waits_for_room",),
    ),
    Defence(
        against="TLS handshakes that take all descriptors",
        place="transport.listener:_sockets_held",
        text=" + arriving",
        instead="",
        attacks=(_ACCEPTER + "test_those_who_shake_hands_count",),
        is_slow=True,
    ),
    Defence(
        against="TLS on a plain port that takes all descriptors",
        place="transport.listener:FirstBytes._start_tls",
        text="if _sockets_held(server) + 3 > server.limits.connections_max:",
        instead="if False:",
        attacks=(_ACCEPTER + "test_tls_on_a_plain_port_counts_three_times",),
    ),
    Defence(
        against="TLS relays that never end",
        place="transport.tls_relay:_End.eof_received",
        text="if other._has_ended:",
        instead="if False:",
        attacks=(_ACCEPTER + "test_tls_on_a_plain_port_counts_three_times",),
    ),
    Defence(
        against="no descriptors left",
        place="transport.accepter:Accepter._accept",
        text="if error.errno not in _OUT_OF:",
        instead="if True:",
        attacks=(_ACCEPTER + "test_a_process_without_descriptors_serves_again_when_it_has_some",),
    ),
    Defence(
        against="clients that lost their power",
        place="transport.accepter:Accepter._welcome",
        text="client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)",
        instead="pass",
        attacks=(_ACCEPTER + "test_a_client_that_is_gone_is_asked_after_by_the_kernel",),
    ),
    Defence(
        against="a crowd of peers",
        place="peer.listener:PeerListener._is_full",
        text="return len(self._connections) + arriving >= self._connections_max",
        instead="return False",
        attacks=(_CROWDS + "test_a_crowd_of_peers_leaves_the_member_its_files_and_its_clients",),
        is_slow=True,
    ),
    Defence(
        against="a crowd of clients",
        place="main:_limits",
        text="connections_max=shares.clients,",
        instead="",
        attacks=(_CROWDS + "test_a_crowd_of_clients_leaves_the_member_its_files[balsad]",),
        is_slow=True,
    ),
)

TIMES: Final = (
    Defence(
        against="clients that say nothing",
        place="transport.listener:FirstBytes.connection_made",
        text="self.timer_tick = self.server.arm(self, self.server.limits.preface_timeout_s)",
        instead="pass",
        attacks=(_SOCKETS + "test_a_client_that_says_nothing_is_dropped_in_time",),
        is_slow=True,
    ),
    Defence(
        against="clients that stop after the preface",
        place="transport.http2_connection:Http2Connection._open",
        text="self._arm(self.limits.preface_timeout_s)",
        instead="pass",
        attacks=(_LIFE + "test_a_client_that_never_sends_settings_is_dropped",),
    ),
    Defence(
        against="clients that died without a word",
        place="transport.http2_connection:Http2Connection._open",
        text="self._arm(self.limits.keepalive_time_s)",
        instead="pass",
        attacks=(_LIFE + "test_a_silent_client_is_asked_whether_it_lives",),
    ),
    Defence(
        against="clients that do not answer pings",
        place="transport.http2_base:Http2Base.on_timer",
        text="if self.ping_outstanding and self.last_read_at <= self.ping_sent_at:",
        instead="if False:",
        attacks=(_LIFE + "test_a_silent_client_is_asked_whether_it_lives",),
    ),
    Defence(
        against="clients that do not take our last words",
        place="transport.http2_base:Http2Base._close_sink",
        text="self._arm(CLOSE_TIMEOUT_S)",
        instead="pass",
        attacks=(_LIFE + "test_last_words_that_nobody_takes_are_given_up",),
    ),
    Defence(
        against="TLS handshakes never finished",
        place="transport.accepter:Accepter.__init__",
        text=', "ssl_handshake_timeout": handshake_timeout_s',
        instead="",
        attacks=(_TLS + "test_a_handshake_that_never_comes",),
        is_slow=True,
    ),
    Defence(
        against="calls that outlive their deadline",
        place="transport.call:Call.on_timer",
        text='self._refuse(Code.DEADLINE_EXCEEDED, "context deadline exceeded")',
        instead="pass",
        attacks=(_CALLS + "test_a_deadline_that_passes_while_the_answer_is_awaited",),
    ),
    Defence(
        against="connections that outlive the end of the server",
        place="transport.listener:drain",
        text="for connection in list(server.connections):\n        connection.abort()",
        instead="pass",
        attacks=(_SOCKETS + "test_drain_does_not_wait_for_ever",),
        is_slow=True,
    ),
)

HTTP1: Final = (
    Defence(
        against="HTTP/1.1 heads without end",
        place="transport.http1_connection:Http1Connection._read_head",
        text="if len(data) > self.limits.http_header_bytes_max:",
        instead="if False:",
        attacks=(_HTTP1 + "test_limits_of_a_request",),
    ),
    Defence(
        against="HTTP/1.1 heads that are long and whole",
        place="transport.http1_connection:Http1Connection._read_head",
        text="if stop > self.limits.http_header_bytes_max:",
        instead="if False:",
        attacks=(_HTTP1 + "test_limits_of_a_request",),
    ),
    Defence(
        against="HTTP/1.1 request lines without end",
        place="transport.http1_connection:Http1Connection._read_head",
        text="if len(data) >= REQUEST_LINE_MAX:",
        instead="if False:",
        attacks=(_HTTP1 + "test_what_is_not_http1_is_hung_up_on",),
    ),
    Defence(
        against="HTTP/1.1 bodies too long",
        place="transport.http1_connection:Http1Connection._read_head",
        text="if head.length > self.limits.http_body_bytes_max:",
        instead="if False:",
        attacks=(_HTTP1 + "test_limits_of_a_request",),
    ),
    Defence(
        against="HTTP/1.1 bodies in chunks too long",
        place="transport.http1_request:ChunkedBody.feed",
        text="if self.size > self.size_max:",
        instead="if False:",
        attacks=(_HTTP1 + "test_limits_of_a_request",),
    ),
    Defence(
        against="HTTP/1.1 chunk lines without end",
        place="transport.http1_request:ChunkedBody.feed",
        text="if (stop if stop >= 0 else len(data)) - pos > CHUNK_LINE_MAX:",
        instead="if False:",
        attacks=(_HTTP1 + "test_limits_of_a_request",),
    ),
    Defence(
        against="HTTP/1.1 bodies that are costly to read",
        place="transport.http1_connection:Http1Connection._advance",
        text="if started and not self.is_waiting",
        instead="if False",
        attacks=(_HTTP1 + "test_a_costly_body_is_read_a_piece_a_turn",),
    ),
    Defence(
        against="thousands of HTTP/1.1 chunks in one read",
        place="transport.http1_connection:Http1Connection._read_body",
        text="data if len(data) <= PIECE_BYTES else data[:PIECE_BYTES]",
        instead="data",
        attacks=(_HTTP1 + "test_thousands_of_chunks_in_one_read_are_read_in_turns",),
    ),
    Defence(
        against="slowloris",
        place="transport.http1_connection:Http1Connection.on_timer",
        text="if self.state in (READING_HEAD, READING_BODY):",
        instead="if False:",
        attacks=(_HTTP1 + "test_a_request_must_come_in_time",),
    ),
    Defence(
        against="HTTP/1.1 requests piled up behind an answer",
        place="transport.http1_connection:Http1Connection.data_received",
        text="self.sink.pause_reading()",
        instead="pass",
        attacks=(_HTTP1 + "test_pipelining_while_an_answer_is_awaited_is_bounded",),
    ),
    Defence(
        against="HTTP/1.1 requests that keep the loop to themselves",
        place="transport.http1_connection:Http1Connection._advance",
        text="if self.served >= REQUESTS_PER_TURN_MAX:",
        instead="if False:",
        attacks=(_HTTP1 + "test_pipelined_requests_without_end_do_not_keep_others_waiting",),
    ),
    Defence(
        against="HTTP/1.1 requests that pile up while others are waited for",
        place="transport.http1_connection:Http1Connection._wait_a_turn",
        text="self.sink.pause_reading()",
        instead="pass",
        attacks=(_HTTP1 + "test_pipelined_requests_without_end_do_not_keep_others_waiting",),
    ),
    Defence(
        against="HTTP/1.1 bodies in pieces of two bytes",
        place="transport.http1_connection:Http1Connection._read_body",
        text="self.chunked.parts.clear()",
        instead="pass",
        attacks=(_HTTP1 + "test_a_body_in_many_pieces_costs_what_it_holds[chunks]",),
    ),
    Defence(
        against="slow readers of HTTP/1.1",
        place="transport.http1_connection:Http1Connection.send",
        text="if self.queued_bytes > self.limits.queue_bytes_max:",
        instead="if False:",
        attacks=(_HTTP1 + "test_a_reader_that_is_slow_is_not_read_from_and_bounded",),
    ),
    Defence(
        against="HTTP/1.1 clients that ask on and do not read",
        place="transport.http1_connection:Http1Connection.pause_writing",
        text="self.sink.pause_reading()",
        instead="pass",
        attacks=(_HTTP1 + "test_a_reader_that_is_slow_is_not_read_from_and_bounded",),
    ),
    Defence(
        against="JSON bodies of messages within messages",
        place="api.gateway.go_scan:scan",
        text="if known is not None:",
        instead="if False:",
        attacks=("tests/fuzz/test_fuzz_finds.py::test_a_txn_within_txns_is_gone_through_once",),
        is_slow=True,
    ),
    Defence(
        against="HTTP bodies too long over HTTP/2",
        place="transport.http2_exchange:Http2Exchange.on_data",
        text="if len(self.body) + len(data) > self.connection.limits.http_body_bytes_max:",
        instead="if False:",
        attacks=(_LIFE + "test_an_http_body_over_http2_has_a_bound",),
    ),
)

TRANSPORT: Final = (*FRAMES, *HEADERS, *STREAMS, *CROWDS, *TIMES, *HTTP1)
