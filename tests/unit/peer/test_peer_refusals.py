"""A process that has ended is told from one whose port refuses for another reason."""

from __future__ import annotations

import asyncio
from pathlib import Path

from balsad.config import parse_url
from balsad.peer.http_client import dial_error
from balsad.peer.refusals import GONE_S, REFUSALS_MIN, Refusals
from tests.unit.peer.conftest import Run
from tests.unit.peer.peer_kit import bound, end, join, until, url_of

A, B = "http://10.0.0.1:2380", "http://10.0.0.2:2380"


def test_refused_often_enough_and_for_long_enough() -> None:
    refusals = Refusals()
    assert not refusals.is_gone([A], 0.0)
    for _ in range(REFUSALS_MIN):
        refusals.note(A, 10.0)
    assert not refusals.is_gone([A], 10.0 + GONE_S / 2)
    assert refusals.is_gone([A], 10.0 + GONE_S)


def test_once_is_not_enough_however_long_ago() -> None:
    refusals = Refusals()
    refusals.note(A, 10.0)
    assert not refusals.is_gone([A], 100.0)


def test_every_url_has_to_refuse() -> None:
    refusals = Refusals()
    for now in (10.0, 10.1, 10.2):
        refusals.note(A, now)
    assert not refusals.is_gone([A, B], 10.2)
    for now in (10.2, 10.4):
        refusals.note(B, now)
    assert refusals.is_gone([A, B], 10.4)


def test_any_other_end_of_a_dial_begins_anew() -> None:
    refusals = Refusals()
    for now in (10.0, 10.2):
        refusals.note(A, now)
    refusals.clear()
    refusals.note(A, 10.3)
    assert not refusals.is_gone([A], 10.3)


def test_a_name_refuses_when_all_its_addresses_do() -> None:
    url = parse_url("http://name:2380")
    refused, unreachable = "[Errno 111] Connect call failed", "[Errno 113] No route to host"
    assert dial_error(url, ConnectionRefusedError(111, "Connection refused")).is_refused
    assert dial_error(url, OSError(f"Multiple exceptions: {refused}, {refused}")).is_refused
    assert not dial_error(url, OSError(f"Multiple exceptions: {refused}, {unreachable}")).is_refused
    assert not dial_error(url, TimeoutError()).is_refused
    assert not dial_error(url, OSError(113, "No route to host")).is_refused


def test_who_has_ended_is_reported_gone_until_it_is_back(run_once: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path / "a") as one:
            async with end(2, tmp_path / "b") as other:
                await join(one, other)
                url = other.url
            await until(lambda: len(one.inbox.gone) > 1, "the report")
            assert set(one.inbox.gone) == {2}
            assert url == other.url

    run_once(work())


def test_a_listener_that_is_down_is_not_a_process_that_has_ended(run_once: Run, tmp_path: Path) -> None:
    """Streams that are open stay so; and one that breaks is refused when it is asked for anew."""

    async def work() -> None:
        async with end(1, tmp_path / "a") as one, end(2, tmp_path / "b") as other:
            await join(one, other)
            other.listener.close()  # with all that it had accepted
            before = one.transport.peers
            assert [peer.id for peer in before] == [2]
            await asyncio.sleep(6 * GONE_S)
            # What the other dialled is open: it lives.
            assert any(writer.is_working for peer in one.transport.peers for writer in peer.writers)
            assert one.inbox.gone == []

    run_once(work())


def test_who_was_never_there_is_gone_and_who_does_not_answer_is_not(run_once: Run, tmp_path: Path) -> None:
    async def work() -> None:
        silent = bound()
        silent.listen()  # it accepts, and says nothing
        closed = bound()
        nowhere = url_of(closed)
        closed.close()
        async with end(1, tmp_path / "a") as one:
            one.transport.add_peer(2, [url_of(silent)])
            one.transport.add_peer(3, [nowhere])
            await until(lambda: 3 in one.inbox.gone, "the report")
            assert 2 not in one.inbox.gone
        silent.close()

    run_once(work())
