"""Protocol-buffer messages as plain Python classes, without the protobuf runtime.

A command line tool lives for milliseconds, and importing the protobuf runtime
costs more of them than everything else it does; so the client describes its
messages itself. A message class says its fields once, in `FIELDS`; encoding,
decoding, comparing and Go-like printing all read that table.

    class AlarmMember(Message):
        FIELDS = (field(1, "memberID", UINT64), field(2, "alarm", ENUM))
        memberID: int = 0
        alarm: int = 0

Absent fields fall back to the class attribute, so an instance holds only what
was set. A message field is written when it was set, a member of a oneof (its
default is None) when it is not None, a scalar when it is not zero. Unknown
fields are skipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

if TYPE_CHECKING:
    from typing import dataclass_transform
else:

    def dataclass_transform(**_options: object):
        return lambda cls: cls


INT64: Final = 0
"""A varint that may be negative; also int32 and enums."""
UINT64: Final = 1
BOOL: Final = 2
BYTES: Final = 3
STRING: Final = 4
MESSAGE: Final = 5
ENUM: Final = INT64

_MASK: Final = (1 << 64) - 1


class CodecError(ValueError):
    """The bytes are not the message they should be."""


class Field:
    """One field of a message: its number, name, kind, and for MESSAGE the class."""

    __slots__ = ("kind", "name", "number", "repeated", "tag", "target")

    def __init__(self, number: int, name: str, kind: int, target: type[Message] | None, repeated: bool) -> None:
        self.number = number
        self.name = name
        self.kind = kind
        self.target = target
        self.repeated = repeated
        self.tag = uvarint(number << 3 | (0 if kind <= BOOL else 2))


def field(number: int, name: str, kind: int | type[Message], *, repeated: bool = False) -> Field:
    """A field of a scalar kind, or of a message class."""
    if isinstance(kind, int):
        return Field(number, name, kind, None, repeated)
    return Field(number, name, MESSAGE, kind, repeated)


@dataclass_transform(kw_only_default=True)
class Message:
    """The base of every request and response."""

    FIELDS: ClassVar[tuple[Field, ...]] = ()
    _by_tag: ClassVar[dict[int, Field]]

    if not TYPE_CHECKING:

        def __init__(self, **values: object) -> None:
            for name in values:
                if not hasattr(self, name):
                    raise TypeError(f"{type(self).__name__} has no field {name!r}")
            self.__dict__.update(values)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        for item in self.FIELDS:
            mine, theirs = getattr(self, item.name), getattr(other, item.name)
            if (list(mine) != list(theirs)) if item.repeated else (mine != theirs):
                return False
        return True

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        parts = [f"{item.name}={value!r}" for item in self.FIELDS if (value := getattr(self, item.name))]
        return f"{type(self).__name__}({', '.join(parts)})"


M = TypeVar("M", bound=Message)


def uvarint(value: int) -> bytes:
    """The varint of a number 0 <= value < 2**64."""
    if value < 128:
        return bytes((value,))
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(message: Message) -> bytes:
    """The bytes of a message, fields in order of their numbers, zero values left out."""
    parts: list[bytes] = []
    for item in message.FIELDS:
        value = getattr(message, item.name)
        if item.repeated:
            if not value:
                continue
            if item.kind <= BOOL:
                packed = b"".join([uvarint(int(one) & _MASK) for one in value])
                parts += (uvarint(item.number << 3 | 2), uvarint(len(packed)), packed)
            else:
                for one in value:
                    _append(parts, item, one)
        elif item.kind == MESSAGE:
            if value is not None and item.name in message.__dict__:
                _append(parts, item, value)
        elif value or (value is not None and getattr(type(message), item.name) is None):
            _append(parts, item, value)
    return b"".join(parts)


def _append(parts: list[bytes], item: Field, value: object) -> None:
    if item.kind <= BOOL:
        assert isinstance(value, int)
        parts += (item.tag, uvarint(value & _MASK))
        return
    if item.kind == BYTES:
        assert isinstance(value, bytes)
        raw = value
    elif item.kind == STRING:
        assert isinstance(value, str)
        raw = value.encode("utf-8", "surrogateescape")
    else:
        assert isinstance(value, Message)
        raw = encode(value)
    parts += (item.tag, uvarint(len(raw)), raw)


def decode(kind: type[M], data: bytes) -> M:
    """The message of class `kind` in `data`. Raises CodecError."""
    try:
        return _decode(kind, data, 0, len(data))
    except IndexError:
        raise CodecError("unexpected end of message") from None


def _table(kind: type[Message]) -> dict[int, Field]:
    table = {item.number << 3 | (0 if item.kind <= BOOL else 2): item for item in kind.FIELDS}
    for item in kind.FIELDS:
        if item.repeated and item.kind <= BOOL:
            table[item.number << 3 | 2] = item
    kind._by_tag = table
    return table


def _decode(kind: type[M], data: bytes, pos: int, end: int) -> M:
    table = kind.__dict__.get("_by_tag") or _table(kind)
    message = kind.__new__(kind)
    values = message.__dict__
    while pos < end:
        tag = data[pos]
        pos += 1
        if tag > 127:
            tag, pos = _read_uvarint(data, pos - 1)
        item = table.get(tag)
        if item is None:
            pos = _skip(data, pos, tag)
            continue
        number = data[pos]
        pos += 1
        if number > 127:
            number, pos = _read_uvarint(data, pos - 1)
        code = item.kind
        value: object
        if code <= BOOL:
            if tag & 7 == 2:
                stop = pos + number
                numbers: list[int] = []
                while pos < stop:
                    number, pos = _read_uvarint(data, pos)
                    numbers.append(_scalar(code, number))
                if pos != stop:
                    raise CodecError("unexpected end of message")
                values[item.name] = [*values.get(item.name, ()), *numbers]
                continue
            if code == BOOL:
                value = number != 0
            elif code == INT64 and number >> 63:
                value = number - (1 << 64)
            else:
                value = number
        else:
            stop = pos + number
            if stop > end:
                raise CodecError("unexpected end of message")
            if code == BYTES:
                value = data[pos:stop]
            elif code == STRING:
                value = data[pos:stop].decode("utf-8", "surrogateescape")
            else:
                assert item.target is not None
                value = _decode(item.target, data, pos, stop)
            pos = stop
        if item.repeated:
            kept = values.get(item.name)
            if kept is None:
                values[item.name] = [value]
            else:
                kept.append(value)
        else:
            values[item.name] = value
    if pos != end:
        raise CodecError("unexpected end of message")
    return message


def _scalar(code: int, number: int) -> int:
    if code == BOOL:
        return number != 0
    return number - (1 << 64) if code == INT64 and number >> 63 else number


def _read_uvarint(data: bytes, pos: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[pos]
        pos += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & _MASK, pos
        shift += 7
        if shift > 63:
            raise CodecError("varint overflows 64 bits")


def _skip(data: bytes, pos: int, tag: int) -> int:
    kind = tag & 7
    if kind == 0:
        return _read_uvarint(data, pos)[1]
    if kind == 1:
        return pos + 8
    if kind == 5:
        return pos + 4
    if kind == 2:
        size, pos = _read_uvarint(data, pos)
        return pos + size
    raise CodecError(f"illegal wire type {kind}")
