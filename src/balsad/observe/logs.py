"""Log lines as zap writes them, one JSON object each, from the standard logging module.

    {"level":"info","ts":"2026-11-22T09:52:40.117Z","caller":"server/driver.py:88","msg":"became leader","term":2}

    log = get_logger(__name__)
    log.info("became leader", extra={"term": term})

Loggers of `get_logger` take any field name in `extra`, also `name` and `local-member-id`. A record never spreads over
lines: an exception becomes the field `error`, and where it was raised `stacktrace`.
Source: etcd client/pkg/logutil/zap.go, go.uber.org/zap/zapcore.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final

from balsad.observe.log_sinks import RotationLimits, Sink, open_sink

DEBUG: Final = logging.DEBUG
INFO: Final = logging.INFO
WARN: Final = logging.WARNING
ERROR: Final = logging.ERROR
FATAL: Final = logging.CRITICAL

LEVELS: Final = {"debug": DEBUG, "info": INFO, "warn": WARN, "error": ERROR, "dpanic": 44, "panic": 46, "fatal": FATAL}
"""Numbers of zap's level names."""

ROOT: Final = "balsad"
RAFT_LOGGER: Final = "balsad.raft"
"""etcd names the logger of raft's events, the only one it names."""

_NAMES: Final = {number: name for name, number in LEVELS.items()}
_NAMED: Final = {RAFT_LOGGER: "raft"}
_PLAIN_ATTRIBUTES: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_OURS: Final = "fields"

# zap's sampling: of lines with one level and message, the first hundred of a second and then every hundredth.
_SAMPLED_FIRST: Final = 100
_SAMPLED_THEREAFTER: Final = 100


class Log(logging.Logger):
    """A logger whose `extra` are the line's fields, whatever their names."""

    def makeRecord(  # type: ignore[override]
        self,
        name: str,
        level: int,
        fn: str,
        lno: int,
        msg: object,
        args: tuple[object, ...],
        exc_info: tuple[type[BaseException], BaseException, TracebackType | None] | None,
        func: str | None = None,
        extra: Mapping[str, object] | None = None,
        sinfo: str | None = None,
    ) -> logging.LogRecord:
        record = super().makeRecord(name, level, fn, lno, msg, args, exc_info, func, None, sinfo)
        record.__dict__[_OURS] = extra
        return record


def get_logger(name: str) -> logging.Logger:
    """The logger of a module; `name` is its `__name__`."""
    manager = logging.Logger.manager
    before = manager.loggerClass
    manager.loggerClass = Log
    try:
        return manager.getLogger(name)
    finally:
        manager.loggerClass = before


def set_up(
    *,
    level: str = "info",
    form: str = "json",
    outputs: Sequence[str] = ("stderr",),
    rotation: RotationLimits | None = None,
    epoch_times: bool = False,
) -> None:
    """Send all lines from `level` on to `outputs`: stderr, stdout, systemd/journal or paths.

    `form` is json or console; `epoch_times` writes seconds in place of dates, as etcd does until it knows its
    configuration. What was set up before is closed. Raises: OSError when an output cannot be opened.
    """
    sinks = [open_sink(output, rotation) for output in outputs]
    stamp = _epoch_stamp if epoch_times else _DateStamp()
    encode = _json_line(stamp) if form == "json" else _console_line(stamp)
    handler = LineHandler(sinks, encode)
    root = logging.getLogger()
    for other in list(root.handlers):
        if isinstance(other, LineHandler):
            root.removeHandler(other)
            other.close()
    root.addHandler(handler)
    _take_over_loggers()
    number = LEVELS[level]
    get_logger(ROOT).setLevel(number)
    root.setLevel(max(number, WARN))


def _take_over_loggers() -> None:
    """Loggers of plain `logging.getLogger`, before and after now, take any field name too."""
    logging.setLoggerClass(Log)
    for name, logger in logging.Logger.manager.loggerDict.items():
        if type(logger) is logging.Logger and name.partition(".")[0] == ROOT:
            logger.__class__ = Log


class LineHandler(logging.Handler):
    """Encodes each record once and writes it to every sink, at once and unbuffered."""

    def __init__(self, sinks: Sequence[Sink], encode: Callable[[logging.LogRecord], str]) -> None:
        super().__init__()
        self._sinks = sinks
        self._encode = encode
        self._second = 0
        self._seen: dict[tuple[int, str], int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if self._is_sampled_away(record):
            return
        line = self._encode(record).encode("utf-8", "replace") + b"\n"
        for sink in self._sinks:
            sink.write(line, record.levelno)

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()
        super().close()

    def _is_sampled_away(self, record: logging.LogRecord) -> bool:
        second = int(record.created)
        if second != self._second:
            self._second = second
            self._seen.clear()
        key = (record.levelno, str(record.msg))
        count = self._seen.get(key, 0) + 1
        self._seen[key] = count
        return count > _SAMPLED_FIRST and (count - _SAMPLED_FIRST) % _SAMPLED_THEREAFTER != 0


def _fields(record: logging.LogRecord) -> dict[str, object]:
    given = record.__dict__.get(_OURS)
    if given is None:
        # From a logger of somebody else, such as asyncio's: extra has become attributes.
        fields: dict[str, object] = {
            name: value for name, value in record.__dict__.items() if name not in _PLAIN_ATTRIBUTES and name != _OURS
        }
    else:
        fields = dict(given)
    for name, value in fields.items():
        if isinstance(value, float) and value.is_integer():
            # Seconds: zap writes `1`, not `1.0`.
            fields[name] = int(value)
    if fields.get("error", "") is None:
        del fields["error"]
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        fields.setdefault("error", error)
        fields["stacktrace"] = _stack(error.__traceback__)
    return fields


def _stack(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return "\n".join(f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in reversed(frames))


def _short(path: str) -> str:
    """The last folder and the file: `server/driver.py`."""
    return "/".join(path.replace("\\", "/").rsplit("/", 2)[-2:])


def describe(value: object) -> str:
    """Text of a value that JSON does not know; of an exception never nothing."""
    text = str(value)
    if isinstance(value, BaseException):
        if not text:
            return type(value).__name__
        if isinstance(value, (AssertionError, LookupError, TypeError, AttributeError, RuntimeError)):
            return f"{type(value).__name__}: {text}"
    return text


_encode_compact: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=describe).encode
_encode_spaced: Final = json.JSONEncoder(ensure_ascii=False, default=describe).encode


def _json_line(stamp: Callable[[float], object]) -> Callable[[logging.LogRecord], str]:
    def encode(record: logging.LogRecord) -> str:
        line: dict[str, object] = {"level": _level(record.levelno), "ts": stamp(record.created)}
        if record.name in _NAMED:
            line["logger"] = _NAMED[record.name]
        line["caller"] = f"{_short(record.pathname)}:{record.lineno}"
        line["msg"] = record.getMessage()
        fields = _fields(record)
        if line.keys().isdisjoint(fields):
            line.update(fields)
            return _encode_compact(line)
        # Like zap, write a field twice rather than lose the line's own.
        return f"{_encode_compact(line)[:-1]},{_encode_compact(fields)[1:]}"

    return encode


def _console_line(stamp: Callable[[float], object]) -> Callable[[logging.LogRecord], str]:
    def encode(record: logging.LogRecord) -> str:
        parts = [str(stamp(record.created)), _level(record.levelno)]
        if record.name in _NAMED:
            parts.append(_NAMED[record.name])
        parts += [f"{_short(record.pathname)}:{record.lineno}", record.getMessage().replace("\n", "\\n")]
        fields = _fields(record)
        if fields:
            parts.append(_encode_spaced(fields))
        return "\t".join(parts)

    return encode


def _level(number: int) -> str:
    name = _NAMES.get(number)
    if name is not None:
        return name
    return _NAMES[max(known for known in _NAMES if known <= max(number, DEBUG))]


def _epoch_stamp(seconds: float) -> float:
    return seconds


class _DateStamp:
    """`2026-11-22T09:52:40.117Z` in local time; the second's part is made once a second."""

    __slots__ = ("_prefix", "_second", "_zone")

    def __init__(self) -> None:
        self._second = -1
        self._prefix = ""
        self._zone = ""

    def __call__(self, seconds: float) -> str:
        whole = int(seconds)
        if whole != self._second:
            local = time.localtime(whole)
            self._second = whole
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", local)
            self._zone = "Z" if local.tm_gmtoff == 0 else time.strftime("%z", local)
        return f"{self._prefix}.{int((seconds - whole) * 1000):03d}{self._zone}"


def hook_uncaught() -> None:
    """Exceptions that nobody catches become one line, in the main thread and in others."""
    log = get_logger(ROOT)

    def main_thread(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
            return
        log.critical("uncaught exception", exc_info=(kind, error, trace))

    def other_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
            thread = args.thread.name if args.thread is not None else ""
            log.error(
                "uncaught exception",
                exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
                extra={"thread": thread},
            )

    sys.excepthook = main_thread
    threading.excepthook = other_thread


def log_loop_exception(_loop: object, context: Mapping[str, object]) -> None:
    """For asyncio's `loop.set_exception_handler`: what a callback or forgotten task raised, as one line."""
    error = context.get("exception")
    exc_info = (type(error), error, error.__traceback__) if isinstance(error, BaseException) else None
    get_logger(ROOT).error(
        "exception in the event loop", exc_info=exc_info, extra={"context": context.get("message", "")}
    )
