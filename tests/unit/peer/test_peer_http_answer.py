"""Reading HTTP answers piece by piece."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsad.peer.http_answer import HEAD_BYTES_MAX, AnswerReader, BrokenAnswerError

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n"


def read(*pieces: bytes) -> tuple[AnswerReader, bytes]:
    reader = AnswerReader()
    return reader, b"".join([reader.feed(piece) for piece in pieces])


@given(cut=st.integers(0, len(CHUNKED)), other=st.integers(0, len(CHUNKED)))
def test_chunks_read_the_same_in_any_pieces(cut: int, other: int) -> None:
    first, second = sorted((cut, other))
    reader, body = read(CHUNKED[:first], CHUNKED[first:second], CHUNKED[second:])
    assert (body, reader.is_complete, reader.may_stay_open) == (b"abc0123456789", True, True)
    assert reader.headers["x-a"] == "b"


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.lists(st.integers(0, 300), max_size=3))
def test_chunks_of_sizes_met_before_read_the_same_in_any_pieces(bodies: list[bytes], cuts: list[int]) -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    data += b"".join(b"%x\r\n%b\r\n" % (len(body), body) for body in bodies)
    data += b"0\r\n\r\nmore"
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for _ in range(2):
        reader, body = read(*(data[start:stop] for start, stop in itertools.pairwise(places)))
        assert (body, reader.is_complete, reader.surplus) == (b"".join(bodies), True, b"more")


def test_known_length_and_what_comes_behind() -> None:
    reader, body = read(b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nab", b"cHTTP")
    assert (reader.status, body, reader.surplus) == (404, b"abc", b"HTTP")
    assert reader.is_complete
    assert not reader.may_stay_open


def test_no_content_has_no_body() -> None:
    reader, body = read(b"HTTP/1.1 204 No Content\r\nDate: x\r\n\r\n")
    assert (reader.is_complete, reader.may_stay_open, body) == (True, True, b"")


def test_interim_answers_are_passed_over() -> None:
    reader, body = read(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
    assert (reader.status, body) == (200, b"x")


def test_without_length_the_end_of_the_connection_ends_the_body() -> None:
    reader, body = read(b"HTTP/1.0 200 OK\r\n\r\nabc")
    assert not reader.is_complete
    reader.feed_eof()
    assert (reader.is_complete, body) == (True, b"abc")


def test_close_is_heard() -> None:
    reader, _ = read(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert not reader.may_stay_open


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"H" * (HEAD_BYTES_MAX + 1),
    ],
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(BrokenAnswerError):
        read(data)


@pytest.mark.parametrize("end", range(1, len(CHUNKED)))
def test_a_connection_that_ends_early_is_told(end: int) -> None:
    reader, _ = read(CHUNKED[:end])
    with pytest.raises(BrokenAnswerError, match="unexpected EOF"):
        reader.feed_eof()


@given(data=st.binary(max_size=300))
def test_nonsense_never_breaks_more_than_the_answer(data: bytes) -> None:
    reader = AnswerReader()
    try:
        reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
        reader.feed_eof()
    except BrokenAnswerError:
        pass
