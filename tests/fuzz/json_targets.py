"""JSON from outside: bodies for the gateway, what members tell each other about members, tokens."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Final

import pytest

from balsad.api.gateway.go_scan import GoJsonError, scan, skip_space
from balsad.api.gateway.jsonpb import render
from balsad.api.gateway.pages import _read_messages
from balsad.api.gateway.routes import ROUTES
from balsad.auth.jwt_tokens import JwtTokens
from balsad.membership.member import (
    MemberFormatError,
    decode_attributes,
    decode_context,
    decode_member,
    decode_members,
    encode_member,
    encode_members,
)
from balsad.peer.member_pages import revision_of
from tests.fuzz.codec_targets import filled
from tests.fuzz.engine import Target

_PATHS: Final = sorted(ROUTES)
_JSON_WORDS: Final = (
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"null", b"true", b"-", b"0", b"1e5", b".5", b"9" * 25, b"\\u0000"),
    *(b"\\ud800", b"\\", b"\xff", b"\xc3\x28", b"NaN", b'{"', b'"":', b"[[", b'{"a":', b'"key":"YQ=="', b"===="),
    *(b'{"success":[{"requestTxn":', b'"kvs":[{}],', b'"limit":"3"', b'"target":"MOD"', b'"target":"x"', b"  "),
)


def _check_body(data: bytes) -> str:
    route = ROUTES[_PATHS[data[0] % len(_PATHS)]] if data else ROUTES[_PATHS[0]]
    try:
        encoded = _read_messages(data[1:], route)
    except GoJsonError as error:
        return f"refused: {error}"[:80]
    for each in encoded:
        message = route.request.FromString(each)
        # What we write of it is read as the same.
        body = render(message).encode()
        again = _read_messages(body, route)
        assert route.request.FromString(again[0] if again else b"") == message, body
    return f"{route.method} {min(len(encoded), 3)}"


def _bodies() -> list[bytes]:
    return [bytes((number,)) + render(filled(ROUTES[path].request())).encode() for number, path in enumerate(_PATHS)]


def _check_scan(data: bytes) -> str:
    """The same texts are taken that Python's own reader takes, but for its NaN and Infinity."""
    try:
        start, end = scan(data)
        mine = skip_space(data, end) == len(data)
    except GoJsonError as error:
        mine = False
        why = str(error)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "refused: no UTF-8" if not mine else "no UTF-8"
    theirs = True
    try:
        json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        return "deep"
    except ValueError as error:
        if "digits" in str(error):
            return "a long number"
        theirs = False
    if text.startswith("\ufeff"):
        return "refused: a byte order mark"
    assert mine == theirs, (mine, theirs)
    return "JSON" if mine else f"refused: {why}" if "why" in locals() else "refused: more behind it"


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _check_members(data: bytes) -> str:
    outcomes = []
    for decode in (decode_member, decode_members, decode_context, decode_attributes, revision_of):
        try:
            found: Any = decode(data)
        except MemberFormatError as error:
            outcomes.append("refused " + str(error)[:14])
            continue
        except ValueError:
            assert decode is revision_of
            outcomes.append("refused")
            continue
        outcomes.append("read")
        # Text that is no UTF-8 is written as U+FFFD, as Go does; after that nothing changes any more.
        if decode is decode_member:
            found = decode_member(encode_member(found))
            assert decode_member(encode_member(found)) == found
        elif decode is decode_members:
            found = decode_members(encode_members(found))
            assert decode_members(encode_members(found)) == found
    refused = all(outcome.startswith("refused") for outcome in outcomes)
    return f"{'refused: ' if refused else ''}{outcomes}"


def _member_texts() -> list[bytes]:
    text = b'{"id":14855829450254237642,"peerURLs":["http://a:2380"],"name":"m1","clientURLs":["http://a:2379"]}'
    return [text, b"[" + text + b"," + text.replace(b"m1", b"m2") + b"]", b'{"revision":7}']


@cache
def _tokens() -> JwtTokens:
    pytest.importorskip("jwt")
    return JwtTokens("HS256", private_key=b"secret" * 8)


def _check_token(data: bytes) -> str:
    text = data.decode("utf-8", "surrogateescape")
    identity = _tokens().identify(text, 9, now=0.0, unix_now=1_700_000_000.0)
    if identity is None:
        return "refused"
    assert identity.username == "u"
    assert identity.revision == 7
    return "token"


def _token_texts() -> list[bytes]:
    return [_tokens().assign("u", 7, prefix="", index=3, now=0.0, unix_now=1_700_000_000.0).encode()]


JSON: Final = (
    Target("gateway_body", _check_body, _bodies, _JSON_WORDS),
    Target("go_scan", _check_scan, lambda: [body[1:] for body in _bodies()], _JSON_WORDS),
    Target("members", _check_members, _member_texts, (*_JSON_WORDS, b'"isLearner":true', b'"peerURLs":null', b'"id":')),
    Target("jwt", _check_token, _token_texts, (b".", b"=", b"e30", b"..", b"\xff", b"eyJhbGciOiJub25lIn0")),
)
