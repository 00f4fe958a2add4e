"""Streams with clients that read slowly, ask for progress, go away; renewals that have to wait; backups in chunks."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from balsad.api.v3 import lease as lease_api
from balsad.api.v3 import maintenance as maintenance_api
from balsad.api.v3 import watch as watch_api
from balsad.api.v3.door import Door
from balsad.api.v3.led_streams import FORGET_AT, LedStreams
from balsad.auth import encode_hash, hash_password, new_salt
from balsad.proto import rpc_pb2 as rpc
from tests.unit.server.server_kit import Clock, Running, in_loop, new_call, running


class WatchClient:
    """One watch stream."""

    def __init__(self, life: Running, **metadata: bytes) -> None:
        self.call = new_call(**metadata)
        service = life.member.service
        self.api = watch_api.WatchApi(service, Door(service))
        self.stream = self.api.watch(self.call.given)

    def create(self, key: bytes = b"k", **fields: Any) -> None:
        request = rpc.WatchCreateRequest(key=key, **fields)
        self.stream.on_message(rpc.WatchRequest(create_request=request).SerializeToString())

    def ask_progress(self) -> None:
        request = rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())
        self.stream.on_message(request.SerializeToString())

    @property
    def answers(self) -> list[rpc.WatchResponse]:
        return [rpc.WatchResponse.FromString(message) for message in self.call.messages]

    @property
    def events(self) -> list[tuple[bytes, int]]:
        return [(event.kv.key, event.kv.mod_revision) for answer in self.answers for event in answer.events]


def token_of_entry(life: Running, index: int) -> bytes:
    """Root's token, with authentication turned on; from that entry of the log on it is known whose it is."""
    auth = life.member.auth
    auth.add_user("root", hashed_password=encode_hash(hash_password(b"pw", new_salt(bytes(16), 4))))
    auth.grant_role("root", "root")
    auth.enable()
    return auth.authenticate("root", prefix="p" * 16, index=index, now=life.clock.now, unix_now=0.0).encode()


def put(life: Running, key: bytes, value: bytes = b"v") -> None:
    write = life.member.store.write()
    write.put(key, value, 0)
    write.end()
    life.member.service.feed_watchers()


# Without a leader


def test_streams_that_require_a_leader_end_when_there_is_none_for_three_election_timeouts(tmp_path: Path) -> None:
    """etcd monitorLeader."""

    async def scenario() -> None:
        async with running(tmp_path) as life:
            led = LedStreams(life.member.service)
            client, renewals = WatchClient(life), new_call()
            client.create()
            led.add(client.call.given, client.stream)
            led.add(
                renewals.given, lease_api.LeaseApi(life.member.service, client.api._door).keep_alive(renewals.given)
            )
            driver = life.member.driver

            # No turn of the loop comes between: each look is as that of the timer, an election timeout later.
            driver.leader = 0
            led.look()
            led.look()
            driver.leader = life.member.service.member_id
            led.look()
            driver.leader = 0
            led.look()
            led.look()
            assert (client.call.status, renewals.status) == (None, None)
            led.look()
            assert (client.call.status, renewals.status) == ((14, "etcdserver: no leader"),) * 2
            assert life.member.store.watchers.watcher_count == 0
            assert len(led) == 0
            driver.leader = life.member.service.member_id

    in_loop(scenario())


def test_only_streams_that_require_a_leader_end_without_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            strict, easy = WatchClient(life, hasleader=b"true"), WatchClient(life)
            for client in (strict, easy):
                client.create()
            renewals = new_call(hasleader=b"true")
            lease_api.LeaseApi(life.member.service, Door(life.member.service)).keep_alive(renewals.given)
            life.member.driver.leader = 0
            while strict.call.status is None or renewals.status is None:
                await asyncio.sleep(0.01)
            assert (strict.call.status, renewals.status) == ((14, "etcdserver: no leader"),) * 2
            assert easy.call.status is None
            assert life.member.store.watchers.watcher_count == 1
            life.member.driver.leader = life.member.service.member_id

    in_loop(scenario())


def test_streams_that_require_a_leader_and_are_over_are_forgotten(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            led = LedStreams(life.member.service)
            handler = WatchClient(life).stream
            kept, over = new_call(), new_call()
            led.add(kept.given, handler)
            over.closed = True
            for _ in range(10 * FORGET_AT):
                led.add(over.given, handler)
                assert len(led) <= FORGET_AT
            led.look()
            assert len(led) == 1
            kept.closed = True
            led.look()
            assert len(led) == 0

    in_loop(scenario())


# Watching


def test_nonsense_among_requests_that_had_to_wait_leaves_no_watcher_behind(tmp_path: Path) -> None:
    """Nobody would ever close those that were made after the call had failed."""

    async def scenario() -> None:
        async with running(tmp_path) as life:
            applied = life.member.applier.applied_index
            client = WatchClient(life, token=token_of_entry(life, applied + 1))
            client.stream.on_message(b"\xff")
            client.create()
            assert client.call.status is None
            request = rpc.LeaseGrantRequest(ID=7, TTL=60)
            life.member.service.propose("lease_grant", request, lambda result: None)
            await life.until(lambda: life.member.applier.applied_index > applied)
            await life.answer(client.call)
            assert client.call.status is not None and client.call.status[0] != 0
            watchers = life.member.store.watchers
            assert (watchers.watcher_count, watchers.stream_count) == (0, 0)

    in_loop(scenario())


def test_a_slow_reader_misses_nothing(tmp_path: Path) -> None:
    """While it does not read, nothing more is queued for it; later it gets every event, in order, once."""

    async def scenario() -> None:
        async with running(tmp_path) as life:
            slow, quick = WatchClient(life), WatchClient(life)
            slow.create(range_end=b"l")
            quick.create(range_end=b"l")
            put(life, b"k0")
            slow.call.pending_bytes = watch_api.QUEUED_BYTES_MAX + 1
            for number in range(1, 50):
                put(life, b"k%d" % number)
            assert len(quick.events) == 50
            assert len(slow.events) == 1
            for _ in range(30):
                await asyncio.sleep(0.001)
            assert len(slow.events) == 1

            slow.call.pending_bytes = 0
            assert slow.call.on_writable is not None
            slow.call.on_writable()
            await life.until(lambda: len(slow.events) == 50)
            assert slow.events == quick.events
            put(life, b"k50")
            await life.until(lambda: len(slow.events) == 51)
            assert slow.events == quick.events

    in_loop(scenario())


def test_watched_keys_have_a_bound_on_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may be as long as a request, and there may be any number of watchers."""
    monkeypatch.setattr(watch_api, "WATCHED_BYTES_MAX", 10_000)

    async def scenario() -> None:
        async with running(tmp_path) as life:
            client = WatchClient(life)
            for number in range(5):
                client.create(b"%d" % number + bytes(2_000), range_end=b"x" * 900)
            assert [answer.canceled for answer in client.answers] == [False] * 3 + [True] * 2
            assert client.answers[-1].cancel_reason == watch_api.TOO_LONG
            cancel = rpc.WatchCancelRequest(watch_id=client.answers[0].watch_id)
            client.stream.on_message(rpc.WatchRequest(cancel_request=cancel).SerializeToString())
            client.create(b"again" + bytes(2_000))
            assert not client.answers[-1].canceled
            client.stream.on_cancel()
            assert client.api.watched_bytes == 0

    in_loop(scenario())


def test_large_answers_come_in_fragments_if_asked_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, max_request_bytes=10_000) as life:
            whole, pieces = WatchClient(life), WatchClient(life)
            whole.create(range_end=b"l")
            pieces.create(range_end=b"l", fragment=True)
            write = life.member.store.write()
            for number in range(10):
                write.put(b"k%d" % number, bytes(3_000), 0)
            write.end()
            assert len(whole.answers) == 2
            parts = pieces.answers[1:]
            assert [part.fragment for part in parts] == [True] * (len(parts) - 1) + [False]
            assert len(parts) == 4
            assert all(len(part.SerializeToString()) <= 10_000 for part in parts)
            assert pieces.events == whole.events
            # One event larger than the limit goes whole.
            put(life, b"k", bytes(20_000))
            assert not pieces.answers[-1].fragment

    in_loop(scenario())


def test_previous_values(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            put(life, b"k", b"1")
            client = WatchClient(life)
            client.create(prev_kv=True)
            put(life, b"k", b"2")
            write = life.member.store.write()
            write.delete_range(b"k")
            write.end()
            previous = [event.prev_kv.value for answer in client.answers for event in answer.events]
            assert previous == [b"1", b"2"]

    in_loop(scenario())


def test_progress_is_told_now_and_then_unless_there_were_events(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, watch_progress_notify_interval_s=0.02) as life:
            client, plain = WatchClient(life), WatchClient(life)
            client.create(progress_notify=True)
            plain.create()
            await life.until(lambda: len(client.answers) > 1)
            told = client.answers[-1]
            assert (list(told.events), told.watch_id, told.header.revision) == ([], 0, 1)
            await asyncio.sleep(0.05)
            assert len(plain.answers) == 1
            client.stream.on_cancel()
            count = len(client.call.messages)
            await asyncio.sleep(0.05)
            assert len(client.call.messages) == count

    in_loop(scenario())


def test_progress_on_request_waits_until_nobody_is_behind(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            for _ in range(10):
                put(life, b"k")
            client = WatchClient(life)
            client.ask_progress()
            assert (client.answers[-1].watch_id, client.answers[-1].header.revision) == (-1, 11)
            client.create(start_revision=2)
            client.ask_progress()
            await life.until(lambda: client.answers[-1].watch_id == -1 and len(client.answers) > 2)
            assert len(client.events) == 10

            # One that cannot take its events is behind, and no progress is told over its head.
            client.call.pending_bytes = watch_api.QUEUED_BYTES_MAX + 1
            put(life, b"k")
            count = len(client.answers)
            client.ask_progress()
            await asyncio.sleep(0.02)
            assert len(client.answers) == count
            client.call.pending_bytes = 0
            assert client.call.on_writable is not None
            client.call.on_writable()
            await life.until(lambda: len(client.answers) == count + 2)
            assert client.answers[-1].header.revision == 12
            assert len(client.events) == 11
            client.stream.on_cancel()

    in_loop(scenario())


def test_a_watch_of_what_is_compacted_is_cancelled(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            for _ in range(10):
                put(life, b"k")
            life.member.store.compact(8)
            client = WatchClient(life)
            client.create(start_revision=3)
            client.create(start_revision=9)
            await life.until(lambda: client.events)
            gone = [answer for answer in client.answers if answer.canceled]
            assert [(answer.watch_id, answer.compact_revision) for answer in gone] == [(0, 8)]
            assert client.events == [(b"k", 9), (b"k", 10), (b"k", 11)]

    in_loop(scenario())


def test_who_went_away_is_forgotten(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            watchers = life.member.store.watchers
            clients = [WatchClient(life) for _ in range(5)]
            for client in clients:
                client.create()
                client.create(start_revision=1)
            assert (watchers.stream_count, watchers.watcher_count) == (5, 10)
            for client in clients:
                client.stream.on_cancel()
            assert (watchers.stream_count, watchers.watcher_count) == (0, 0)
            put(life, b"k")
            await asyncio.sleep(0.01)
            assert all(len(client.events) == 0 for client in clients)

    in_loop(scenario())


# Renewals


class Renewals:
    def __init__(self, life: Running) -> None:
        self.call = new_call()
        service = life.member.service
        self.stream = lease_api.LeaseApi(service, Door(service)).keep_alive(self.call.given)

    def renew(self, lease_id: int) -> None:
        self.stream.on_message(rpc.LeaseKeepAliveRequest(ID=lease_id).SerializeToString())

    @property
    def answers(self) -> list[tuple[int, int]]:
        found = [rpc.LeaseKeepAliveResponse.FromString(message) for message in self.call.messages]
        return [(answer.ID, answer.TTL) for answer in found]


def test_a_renewal_that_comes_too_late_waits_for_the_end_of_its_lease(tmp_path: Path) -> None:
    """Over but not yet revoked: neither answer would be true. Those behind it wait with it."""

    async def scenario() -> None:
        clock = Clock()
        async with running(tmp_path, clock=clock) as life:
            lessor = life.member.lessor
            lessor.grant(1, 10, clock.now)
            lessor.grant(2, 100, clock.now)
            client = Renewals(life)
            client.renew(1)
            assert client.answers == [(1, 10)]
            clock.now += 11
            client.renew(1)
            client.renew(2)
            client.stream.on_half_close()
            assert client.answers == [(1, 10)]
            assert client.call.status is None

            # The member itself revokes it, through the log.
            await life.until(lambda: len(client.answers) == 3)
            assert client.answers[1:] == [(1, 0), (2, 100)]
            assert client.call.status == (0, "")

    in_loop(scenario())


def test_a_renewal_is_answered_alike_however_its_bytes_are_written(tmp_path: Path) -> None:
    """Those that protobuf itself writes go a shorter way."""

    async def scenario() -> None:
        clock = Clock()
        async with running(tmp_path, clock=clock) as life:
            ids = (1, 127, 128, 300, 2**40 + 7, 2**63 - 1, -1)
            for lease_id in ids:
                life.member.lessor.grant(lease_id, 10, clock.now)
            client = Renewals(life)
            header = rpc.LeaseKeepAliveResponse.FromString(life.member.service.header.at(1)).header
            expected = []
            for lease_id in (*ids, 404, 0):
                client.renew(lease_id)
                told = rpc.LeaseKeepAliveResponse(header=header, ID=lease_id, TTL=10 if lease_id in ids else 0)
                expected.append(told.SerializeToString())
            assert client.call.messages == expected
            # A longer varint than need be, a field that nobody knows, the id twice.
            for raw in (b"\x08\x81\x00", b"\x10\x05\x08\x01", b"\x08\x7f\x08\x01"):
                client.stream.on_message(raw)
                assert client.answers[-1] == (1, 10)
            clock.now += 9
            client.renew(1)
            assert life.member.lessor.remaining(1, clock.now) == 10
            assert life.member.lessor.remaining(127, clock.now) == 1

    in_loop(scenario())


def test_a_renewal_waits_no_longer_than_a_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock()
        async with running(tmp_path, clock=clock) as life:
            life.member.lessor.grant(1, 10, clock.now)
            life.member.lease_expiry.check = lambda now: None  # type: ignore[method-assign]
            client = Renewals(life)
            clock.now += 11
            client.renew(1)
            await asyncio.sleep(0.06)
            assert client.call.status is None
            clock.now += 100
            await life.answer(client.call)
            assert client.call.status == (14, "etcdserver: request timed out")

    in_loop(scenario())


def test_renewals_without_end_are_refused(tmp_path: Path) -> None:
    """A client that goes on asking while its first renewal waits."""

    async def scenario() -> None:
        clock = Clock()
        async with running(tmp_path, clock=clock) as life:
            life.member.lessor.grant(1, 10, clock.now)
            life.member.lease_expiry.check = lambda now: None  # type: ignore[method-assign]
            clock.now += 11
            client = Renewals(life)
            for _ in range(lease_api.RENEWALS_WAITING_MAX + 1):
                client.renew(1)
            assert client.call.status == (2, "etcdserver: too many requests")

    in_loop(scenario())


# Backups


class Backup:
    def __init__(self, life: Running) -> None:
        self.call = new_call()
        service = life.member.service
        self.stream = maintenance_api.MaintenanceApi(service, Door(service)).snapshot(self.call.given)
        self.stream.on_message(b"")

    @property
    def parts(self) -> list[rpc.SnapshotResponse]:
        return [rpc.SnapshotResponse.FromString(message) for message in self.call.messages]


def fill(life: Running) -> None:
    for number in range(60):
        put(life, b"k%d" % number, bytes(40_000))


def test_a_backup_is_one_moment_and_its_hash_fits(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            fill(life)
            client = Backup(life)
            await life.until(lambda: client.parts)
            put(life, b"later")  # not in it
            await life.answer(client.call)
            parts = client.parts
            blob = b"".join(part.blob for part in parts)
            content, digest = blob[:-32], blob[-32:]
            assert hashlib.sha256(content).digest() == digest
            assert b"later" not in content
            assert len(content) % 4096 == 0
            left = [part.remaining_bytes for part in parts[:-1]]
            assert left == [len(content) - sum(len(part.blob) for part in parts[: at + 1]) for at in range(len(left))]
            assert left[-1] == parts[-1].remaining_bytes == 0
            assert all(len(part.blob) <= maintenance_api.CHUNK_BYTES for part in parts)
            assert life.member.booted.backend.open_readers == 0

    in_loop(scenario())


def test_a_backup_goes_at_the_clients_pace(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            fill(life)
            client = Backup(life)
            client.call.pending_bytes = maintenance_api.QUEUED_BYTES_MAX + 1
            await life.until(lambda: life.member.booted.backend.open_readers == 1)
            await asyncio.sleep(0.01)
            assert client.parts == []
            client.call.pending_bytes = 0
            assert client.call.on_writable is not None
            client.call.on_writable()
            await life.answer(client.call)
            assert client.call.status == (0, "")

    in_loop(scenario())


def test_a_backup_that_nobody_waits_for_lets_go_of_the_db(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            fill(life)
            client = Backup(life)
            client.call.pending_bytes = maintenance_api.QUEUED_BYTES_MAX + 1
            await life.until(lambda: life.member.booted.backend.open_readers == 1)
            client.call.closed = True
            client.stream.on_cancel()
            assert life.member.booted.backend.open_readers == 0
            early = Backup(life)
            early.call.closed = True
            early.stream.on_cancel()
            await asyncio.sleep(0.02)
            assert life.member.booted.backend.open_readers == 0

    in_loop(scenario())


def test_a_backup_amid_a_defragmentation_is_whole(tmp_path: Path) -> None:
    """The old file serves those who began to read it."""

    async def scenario() -> None:
        async with running(tmp_path) as life:
            fill(life)
            client = Backup(life)
            client.call.pending_bytes = maintenance_api.QUEUED_BYTES_MAX + 1
            await life.until(lambda: life.member.booted.backend.open_readers == 1)
            done: list[bool] = []
            life.member.service.defragment(lambda: done.append(True), lambda text: None)
            await life.until(lambda: done)
            client.call.pending_bytes = 0
            assert client.call.on_writable is not None
            client.call.on_writable()
            await life.answer(client.call)
            blob = b"".join(part.blob for part in client.parts)
            assert hashlib.sha256(blob[:-32]).digest() == blob[-32:]

    in_loop(scenario())


# What is said of the member


def test_status_tells_of_alarms_and_of_no_leader(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            service = life.member.service
            api = maintenance_api.MaintenanceApi(service, Door(service))

            async def status() -> rpc.StatusResponse:
                call = new_call()
                api.status(call.given, b"")
                await life.answer(call)
                return rpc.StatusResponse.FromString(call.messages[0])

            found = await status()
            assert (found.version, found.leader, list(found.errors)) == ("3.5.1", service.member_id, [])
            assert found.raftIndex == found.raftAppliedIndex == life.member.applier.applied_index
            assert found.dbSize == life.member.booted.backend.size
            life.member.alarms.activate(9, 1)
            life.member.driver.leader = 0
            found = await status()
            assert list(found.errors) == ["etcdserver: no leader", "memberID:9 alarm:NOSPACE "]
            life.member.driver.leader = service.member_id

    in_loop(scenario())
