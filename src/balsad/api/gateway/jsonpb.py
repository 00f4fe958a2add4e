"""Messages from and to JSON, as golang/protobuf's jsonpb has them.

    {"key":"YQ==","limit":"3"}   bytes in base64, 64-bit numbers as text or number, names as in the .proto or lowerCamel

What is zero or empty is not written; unknown fields are passed over; `null` is no field at all.

Source: golang/protobuf 1.5.2 jsonpb/decode.go, encode.go; grpc-gateway 1.16 runtime.JSONPb{OrigName: true}.
"""

from __future__ import annotations

import base64
import re
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from balsad import go_json
from balsad.api.gateway.go_scan import (
    Ends,
    GoJsonError,
    Span,
    array_items,
    kind_of,
    mismatch,
    object_fields,
    text_of,
    whole,
)
from balsad.go_quote import quote_go

NESTED_MAX: Final = 200
"""Messages within messages: deeper ones would be refused by what reads them next."""
_INTS: Final = {
    FieldDescriptor.CPPTYPE_INT32: ("int32", -(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: ("int64", -(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: ("uint32", 0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: ("uint64", 0, (1 << 64) - 1),
}
_QUOTED: Final = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
_WHOLE_BASE64: Final = re.compile(rb"(?:[A-Za-z0-9+/_-]{4})*(?:[A-Za-z0-9+/_-]{2}==|[A-Za-z0-9+/_-]{3}=)?")
_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"


def parse(text: bytes, span: Span, ends: Ends, message: Message, depth: int = 0) -> None:
    """Set the fields of `message` from the JSON value at `span` of a text that was scanned. Raises GoJsonError."""
    fields = {} if _is_null(text, span) else object_fields(text, span[0], ends)
    if depth > NESTED_MAX:
        raise GoJsonError("exceeded max depth")
    for field in message.DESCRIPTOR.fields:
        value = fields.get(field.name)
        if value is None:
            value = fields.get(field.json_name)
        if value is None or _is_null(text, value):
            continue
        if field.is_repeated:
            items = array_items(text, value[0], ends)
            target = getattr(message, field.name)
            for item in items:
                if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
                    parse(text, item, ends, target.add(), depth + 1)
                else:
                    target.append(_scalar(text[slice(*item)], field))
        elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            inner = getattr(message, field.name)
            inner.Clear()
            inner.SetInParent()
            parse(text, value, ends, inner, depth + 1)
        else:
            setattr(message, field.name, _scalar(text[slice(*value)], field))


def _is_null(text: bytes, span: Span) -> bool:
    return span[1] - span[0] == 4 and text.startswith(b"null", span[0])


def _scalar(raw: bytes, field: Any) -> Any:
    kind = field.cpp_type
    if kind in _INTS:
        return _integer(_unquoted(raw), *_INTS[kind])
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        if raw == b"null":
            return False
        if kind_of(raw) != "bool":
            raise mismatch(raw, "bool")
        return raw == b"true"
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return _enum(raw, field)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _bytes(raw)
    if raw == b"null":
        return ""
    if kind_of(raw) != "string":
        raise mismatch(raw, "string")
    return text_of(raw)


def _unquoted(raw: bytes) -> bytes:
    return raw[1:-1] if len(raw) >= 2 and raw[:1] == b'"' == raw[-1:] else raw


def _integer(raw: bytes, go_type: str, low: int, high: int) -> int:
    raw = whole(raw)
    if raw == b"null":
        return 0
    if kind_of(raw) != "number":
        raise mismatch(raw, go_type)
    digits = raw[1:] if raw[:1] == b"-" else raw
    if not digits.isdigit() or len(digits) > 20 or not low <= int(raw) <= high or (low == 0 and raw[:1] == b"-"):
        raise mismatch(raw, go_type, with_number=True)
    return int(raw)


def _enum(raw: bytes, field: FieldDescriptor) -> int:
    enum = field.enum_type
    assert enum is not None
    if raw[:1] == b'"':
        found = enum.values_by_name.get(raw[1:-1].decode("utf-8", "replace"))
        if found is None:
            shown = quote_go(raw.decode("utf-8", "replace"))
            raise GoJsonError(f"unknown value {shown} for enum {enum.full_name}")
        number: int = found.number
        return number
    return _integer(raw, "protoreflect.EnumNumber", -(1 << 31), (1 << 31) - 1)


def _bytes(raw: bytes) -> bytes:
    if raw == b"null":
        return b""
    if raw[:1] == b"[":
        items = [raw[start:end] for start, end in array_items(raw, 0, {})]
        return bytes(_integer(item, "uint8", 0, 255) for item in items if _is_number(item, "uint8"))
    if raw[:1] != b'"':
        raise mismatch(raw, "[]uint8")
    return decode_base64(text_of(raw).encode())


def _is_number(raw: bytes, go_type: str) -> bool:
    if kind_of(raw) != "number":
        raise mismatch(raw, go_type)
    return True


def decode_base64(text: bytes) -> bytes:
    """Standard or URL-safe, padded. Raises GoJsonError with the offset that Go names."""
    bad = -1 if _WHOLE_BASE64.fullmatch(text) else _base64_error(text)
    if bad >= 0:
        raise GoJsonError(f"illegal base64 data at input byte {bad}")
    return base64.b64decode(text.translate(bytes.maketrans(b"-_", b"+/"), b"\r\n"))


def _base64_error(text: bytes) -> int:
    """Where Go finds fault with it; -1 where it does not. Source: encoding/base64 decodeQuantum."""
    pos, size = 0, len(text)
    while True:
        count = 0
        while count < 4:
            if pos == size:
                return -1 if count == 0 else pos - count
            char = text[pos]
            pos += 1
            if char in _BASE64:
                count += 1
            elif char in b"\r\n":
                continue
            elif char != ord("="):
                return pos - 1
            else:
                return _padding_error(text, pos, count)


def _padding_error(text: bytes, pos: int, count: int) -> int:
    size = len(text)
    if count < 2:
        return pos - 1
    if count == 2:
        while pos < size and text[pos] in b"\r\n":
            pos += 1
        if pos == size:
            return size
        if text[pos] != ord("="):
            return pos - 1
        pos += 1
    while pos < size and text[pos] in b"\r\n":
        pos += 1
    return pos if pos < size else -1


def render(message: Message) -> str:
    """The message as JSON, in the order of its fields."""
    return "{" + ",".join(f'"{field.name}":{_render(value, field)}' for field, value in message.ListFields()) + "}"


def _render(value: Any, field: FieldDescriptor) -> str:
    if field.is_repeated:
        return "[" + ",".join(_render_one(item, field) for item in value) + "]"
    return _render_one(value, field)


def _render_one(value: Any, field: FieldDescriptor) -> str:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_MESSAGE:
        return render(value)
    if kind in _QUOTED:
        return f'"{value}"'
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return "true" if value else "false"
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        assert field.enum_type is not None
        found = field.enum_type.values_by_number.get(value)
        return str(value) if found is None else f'"{found.name}"'
    if field.type == FieldDescriptor.TYPE_BYTES:
        return f'"{base64.b64encode(value).decode()}"'
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return go_json.quote(value)
    return str(value)
