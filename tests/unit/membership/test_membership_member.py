"""The JSON forms of a member."""

from __future__ import annotations

import pytest

from balsad.membership import (
    Attributes,
    ConfChangeContext,
    Member,
    MemberFormatError,
    decode_attributes,
    decode_context,
    decode_member,
    decode_members,
    encode_attributes,
    encode_member,
    encode_members,
    encode_promotion,
    encode_raft_attributes,
)

FULL = Member(
    id=0x8E9E05C52164694D, peer_urls=("http://a:1",), is_learner=True, name="m<1>", client_urls=("http://c:1", "x")
)


def test_member_has_gos_fields_in_gos_order() -> None:
    assert encode_member(FULL) == (
        b'{"id":10276657743932975437,"peerURLs":["http://a:1"],"isLearner":true,'
        b'"name":"m\\u003c1\\u003e","clientURLs":["http://c:1","x"]}'
    )


def test_empty_fields_are_left_out_but_for_id_and_peer_urls() -> None:
    assert encode_member(Member(id=1)) == b'{"id":1,"peerURLs":null}'


def test_promotion_context() -> None:
    assert encode_promotion(7) == b'{"id":7,"peerURLs":null,"isPromote":true}'
    assert decode_context(encode_promotion(7)) == ConfChangeContext(member=Member(id=7), is_promote=True)


def test_halves_in_the_tree() -> None:
    assert encode_raft_attributes(FULL) == '{"peerURLs":["http://a:1"],"isLearner":true}'
    assert encode_attributes(Attributes(name="n", client_urls=("u",))) == '{"name":"n","clientURLs":["u"]}'
    assert encode_attributes(Attributes()) == "{}"
    assert decode_attributes('{"name":"n","clientURLs":["u"]}') == Attributes(name="n", client_urls=("u",))


def test_what_is_encoded_is_decoded() -> None:
    assert decode_member(encode_member(FULL)) == FULL
    assert decode_members(encode_members([FULL, Member(id=1)])) == [FULL, Member(id=1)]


def test_unknown_fields_are_ignored() -> None:
    assert decode_member(b'{"id":3,"peerURLs":["u"],"new":{}}') == Member(id=3, peer_urls=("u",))


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{", b"\xff", b'{"id":-1}', b'{"id":true}', b'{"id":1,"peerURLs":"u"}', b'{"id":1,"name":2}',
     b'{"id":1,"isLearner":1}', b'{"id":1,"peerURLs":[1]}', b'{"id":18446744073709551616}'],
)  # fmt: skip
def test_what_is_no_member_is_refused(data: bytes) -> None:
    with pytest.raises(MemberFormatError):
        decode_member(data)
