"""What a v2 request asks for: its parameters, read as Go reads a form, and what is wrong with them.

Source: net/url ParseQuery and net/http Request.ParseForm of the Go that etcd 3.5.1 was built with (1.16: `;` parts
pairs like `&`), etcd v2http parseKeyRequest.
"""

from __future__ import annotations

import posixpath
import re
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

from balsad.go_quote import quote_go
from balsad.transport import HttpRequest
from balsad.v2store import KEYS_NAMESPACE, Request, V2Error, errors

KEYS_PREFIX: Final = "/v2/keys"
_UINT64_MAX: Final = (1 << 64) - 1
_TRUE: Final = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE: Final = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9a-fA-F]{2}).{0,2}", re.DOTALL)

Form = dict[str, list[str]]


def parse_form(request: HttpRequest) -> Form:
    """The body's parameters (of a POST or PUT that says it is a form), then the URL's. Raises V2Error 210."""
    form: Form = {}
    if request.method in ("POST", "PUT", "PATCH"):
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/x-www-form-urlencoded":
            _parse(request.body.decode("utf-8", "surrogateescape"), form)
    _parse(request.query, form)
    return form


def _parse(text: str, form: Form) -> None:
    for pair in re.split("[&;]", text):
        if pair:
            name, _, value = pair.partition("=")
            form.setdefault(_unescape(name), []).append(_unescape(value))


def _unescape(text: str) -> str:
    bad = _BAD_ESCAPE.search(text)
    if bad is not None:
        raise V2Error(errors.INVALID_FORM, f"invalid URL escape {quote_go(bad[0])}")
    return unquote_to_bytes(text.replace("+", " ").encode("utf-8", "surrogateescape")).decode(
        "utf-8", "surrogateescape"
    )


def first(form: Form, name: str) -> str:
    return form[name][0] if name in form else ""


def _uint64(form: Form, name: str, code: int) -> int:
    """0 when it is not given. Raises V2Error."""
    if name not in form:
        return 0
    text = form[name][0]
    if not (text.isascii() and text.isdigit() and int(text[:30]) <= _UINT64_MAX and len(text.lstrip("0")) <= 20):
        raise V2Error(code, f'invalid value for "{name}"')
    return int(text)


def _flag(form: Form, name: str, complaint: str = "") -> bool:
    """False when it is not given. Raises V2Error 209."""
    if name not in form:
        return False
    text = form[name][0]
    if text not in _TRUE and text not in _FALSE:
        raise V2Error(errors.INVALID_FIELD, complaint or f'invalid value for "{name}"')
    return text in _TRUE


def parse_key_request(request: HttpRequest, now_ns: int) -> tuple[Request, bool]:
    """What is asked of the keys, and whether the answer shall be without nodes. Raises V2Error.

    The order in which etcd looks at the parameters is kept: the first complaint is the answer.
    """
    form = parse_form(request)
    path = unquote(request.path, errors="surrogateescape")[len(KEYS_PREFIX) :]
    asked = Request(method=request.method, path=posixpath.normpath(f"{KEYS_NAMESPACE}/{path}"))
    asked.prev_index = _uint64(form, "prevIndex", errors.INDEX_NOT_A_NUMBER)
    asked.since = _uint64(form, "waitIndex", errors.INDEX_NOT_A_NUMBER)
    asked.recursive = _flag(form, "recursive")
    asked.sorted = _flag(form, "sorted")
    asked.wait = _flag(form, "wait")
    asked.dir = _flag(form, "dir")
    asked.quorum = _flag(form, "quorum")
    asked.stream = _flag(form, "stream")
    if asked.wait and request.method != "GET":
        raise V2Error(errors.INVALID_FIELD, '"wait" can only be used with GET requests')
    asked.prev_value = first(form, "prevValue")
    if "prevValue" in form and not asked.prev_value:
        raise V2Error(errors.PREV_VALUE_REQUIRED, '"prevValue" cannot be empty')
    without_nodes = _flag(form, "noValueOnSuccess")
    ttl_s = _uint64(form, "ttl", errors.TTL_NOT_A_NUMBER) if first(form, "ttl") else None
    if "prevExist" in form:
        asked.prev_exist = _flag(form, "prevExist", "invalid value for prevExist")
    asked.val = first(form, "value")
    if "refresh" in form:
        asked.refresh = _flag(form, "refresh", "invalid value for refresh")
        if asked.refresh and asked.val:
            raise V2Error(errors.REFRESH_VALUE, "A value was provided on a refresh")
        if asked.refresh and ttl_s is None:
            raise V2Error(errors.REFRESH_TTL_REQUIRED, "No TTL value set")
    if ttl_s is not None:
        asked.expiration = _int64(now_ns + _int64(ttl_s * 1_000_000_000))
    return asked, without_nodes


def _int64(number: int) -> int:
    """As Go's int64 overflows: a TTL of ages may lie in the past."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)
