"""Log lines as zap writes them."""

from __future__ import annotations

import gzip
import json
import logging
import os
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from balsad.observe import log_sinks, logs

LogLine = dict[str, object]


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    logger_class = logging.getLoggerClass()
    yield
    root.handlers[:], root.level = handlers, level
    logging.setLoggerClass(logger_class)


@dataclass
class LogFile:
    path: Path

    def lines(self) -> list[LogLine]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]


@pytest.fixture
def log_file(tmp_path: Path) -> LogFile:
    file = LogFile(tmp_path / "log")
    logs.set_up(outputs=[str(file.path)])
    return file


log = logs.get_logger("balsad.test_room")


def test_a_line(log_file: LogFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Order and forms are those of etcd 3.5.1."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    log.info("became leader", extra={"name": "a", "local-member-id": "8e", "term": 2, "urls": ["x"], "ok": True})

    text = log_file.path.read_text()
    line = json.loads(text)
    assert list(line) == ["level", "ts", "caller", "msg", "name", "local-member-id", "term", "urls", "ok"]
    assert (line["level"], line["msg"], line["term"]) == ("info", "became leader", 2)
    assert line["caller"].startswith("observe/test_observe_logs.py:")
    assert time.strptime(line["ts"][:19], "%Y-%m-%dT%H:%M:%S")
    assert line["ts"][19] == "."
    assert line["ts"].endswith("Z")
    assert len(line["ts"]) == 24
    assert '"urls":["x"],"ok":true}\n' in text


def test_whole_seconds_have_no_fraction(log_file: LogFile) -> None:
    """As zap's encoder of floats has them; its durations are seconds."""
    log.info("x", extra={"retry-interval": 1.0, "took": 0.25, "left": -3.0, "never": float("inf")})

    text = log_file.path.read_text()
    assert '"retry-interval":1,"took":0.25,"left":-3,' in text


def test_local_time_has_its_offset(log_file: LogFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Source: zapcore.ISO8601TimeEncoder."""
    monkeypatch.setenv("TZ", "XYZ-2")
    time.tzset()
    try:
        log.info("x")
    finally:
        monkeypatch.undo()
        time.tzset()

    assert str(log_file.lines()[0]["ts"]).endswith("+0200")


def test_seconds_since_1970_before_the_configuration_is_known(tmp_path: Path) -> None:
    logs.set_up(outputs=[str(tmp_path / "log")], epoch_times=True)

    log.info("x")

    assert isinstance(json.loads((tmp_path / "log").read_text())["ts"], float)


def test_levels(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "log")
    logs.set_up(outputs=[str(file.path)], level="debug")

    for level in (logs.DEBUG, logs.INFO, logs.WARN, logs.ERROR, logs.FATAL):
        log.log(level, "x")

    assert [line["level"] for line in file.lines()] == ["debug", "info", "warn", "error", "fatal"]


def test_lines_below_the_level_are_dropped(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "log")
    logs.set_up(outputs=[str(file.path)], level="error")

    log.warning("x")
    log.error("y")

    assert [line["msg"] for line in file.lines()] == ["y"]
    assert not log.isEnabledFor(logs.WARN)


def test_the_raft_logger_is_named(log_file: LogFile) -> None:
    logs.get_logger(logs.RAFT_LOGGER).info("x")

    assert list(log_file.lines()[0]) == ["level", "ts", "logger", "caller", "msg"]
    assert log_file.lines()[0]["logger"] == "raft"


def test_an_exception_is_one_line_without_a_traceback(log_file: LogFile) -> None:
    try:
        raise KeyError("x\ny")
    except KeyError:
        log.exception("it broke")

    assert "Traceback" not in log_file.path.read_text()
    (line,) = log_file.lines()
    assert line["error"] == "KeyError: 'x\\ny'"
    assert str(line["stacktrace"]).startswith("observe/test_observe_logs.py:")


def test_errors_as_fields(log_file: LogFile) -> None:
    log.warning("a", extra={"error": OSError("no such thing")})
    log.warning("b", extra={"error": AssertionError()})
    log.warning("c", extra={"error": None})

    assert [line.get("error") for line in log_file.lines()] == ["no such thing", "AssertionError", None]
    assert "error" not in log_file.lines()[2]


def test_a_field_named_like_the_lines_own_does_not_hide_it(log_file: LogFile) -> None:
    log.info("x", extra={"level": "high"})

    assert '"level":"info"' in log_file.path.read_text()
    assert '"level":"high"' in log_file.path.read_text()


def test_text_that_is_no_utf8_does_not_stop_the_line(log_file: LogFile) -> None:
    log.info("x", extra={"args": os.fsdecode(b"\xff")})

    assert log_file.lines()[0]["args"] == "?"


def test_loggers_of_others(log_file: LogFile) -> None:
    """Warnings of libraries come out as lines too, their extra attributes as fields."""
    logging.getLogger("somebody.else").warning("x", extra={"port": 1})
    logging.getLogger("somebody.else").info("not theirs")

    assert [(line["msg"], line.get("port")) for line in log_file.lines()] == [("x", 1)]


def test_plain_loggers_of_the_house_take_any_field(tmp_path: Path) -> None:
    plain = logging.getLogger(f"balsad.test_plain_{tmp_path.name}")
    logs.set_up(outputs=[str(tmp_path / "log")])

    plain.info("x", extra={"name": "a"})

    assert json.loads((tmp_path / "log").read_text())["name"] == "a"


def test_a_flood_is_sampled(log_file: LogFile) -> None:
    """Source: zap.SamplingConfig{Initial: 100, Thereafter: 100}, by level and message."""
    handler = next(handler for handler in logging.getLogger().handlers if isinstance(handler, logs.LineHandler))
    record = logging.LogRecord("balsad", logs.INFO, "a/b.py", 1, "flood", (), None)
    other = logging.LogRecord("balsad", logs.INFO, "a/b.py", 1, "drop", (), None)
    other.created = record.created = 1000.5

    for _ in range(350):
        handler.emit(record)
    handler.emit(other)
    record.created = 1001.0
    handler.emit(record)

    assert [line["msg"] for line in log_file.lines()] == ["flood"] * 102 + ["drop", "flood"]


def test_console_lines(tmp_path: Path) -> None:
    logs.set_up(outputs=[str(tmp_path / "log")], form="console")

    log.info("x\ny", extra={"a": 1})
    log.warning("z")

    first, second = (tmp_path / "log").read_text().splitlines()
    assert first.split("\t")[1] == "info"
    assert first.split("\t")[3:] == ["x\\ny", '{"a": 1}']
    assert second.split("\t")[3:] == ["z"]


def test_several_outputs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logs.set_up(outputs=["stdout", "stderr", str(tmp_path / "a"), f"file://{tmp_path}/b"])

    log.info("x")

    out, err = capfd.readouterr()
    assert out == err == (tmp_path / "a").read_text() == (tmp_path / "b").read_text()
    assert out.count("\n") == 1


def test_files_are_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    logs.set_up(outputs=[str(path)])

    log.info("x")

    assert path.read_text().startswith("before\n{")


def test_an_output_that_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "no" / "log"

    with pytest.raises(OSError, match="couldn't open sink") as refusal:
        logs.set_up(outputs=[str(path)])

    assert str(refusal.value) == f'couldn\'t open sink "{path}": open {path}: no such file or directory'


def test_uncaught_exceptions_of_callbacks(log_file: LogFile) -> None:
    logs.log_loop_exception(None, {"message": "a callback", "exception": ValueError("x")})
    logs.log_loop_exception(None, {"message": "a warning"})

    assert [(line["context"], line.get("error")) for line in log_file.lines()] == [
        ("a callback", "x"),
        ("a warning", None),
    ]


@dataclass(frozen=True)
class Limits:
    max_size_mb: int = 1
    max_age_days: int = 0
    max_backups: int = 0
    local_time: bool = False
    compress: bool = False


LINE = b"x" * (400 * 1024 - 1) + b"\n"


def test_a_file_that_grows_too_long_is_put_aside(tmp_path: Path) -> None:
    """Source: lumberjack: the line that would not fit begins the new file."""
    sink = log_sinks.RotatingSink(str(tmp_path / "sub" / "etcd.log"), Limits())

    for _ in range(3):
        sink.write(LINE, logs.INFO)
    sink.close()

    files = sorted(path.name for path in (tmp_path / "sub").iterdir())
    assert files[1] == "etcd.log"
    assert len(files[0]) == len("etcd-2026-11-22T09-52-40.117.log")
    assert [(tmp_path / "sub" / name).stat().st_size for name in files] == [2 * len(LINE), len(LINE)]


def test_rotation_goes_on_with_the_file_it_finds(tmp_path: Path) -> None:
    path = tmp_path / "etcd.log"
    path.write_bytes(LINE * 2)
    sink = log_sinks.RotatingSink(str(path), Limits())

    sink.write(LINE, logs.INFO)
    sink.close()

    assert len(list(tmp_path.iterdir())) == 2


def test_old_files_are_counted_and_compressed(tmp_path: Path) -> None:
    for second in range(4):
        (tmp_path / f"etcd-2026-11-22T09-52-4{second}.000.log").write_bytes(b"%d" % second)
    (tmp_path / "etcd-else.log").write_bytes(b"not ours")
    sink = log_sinks.RotatingSink(str(tmp_path / "etcd.log"), Limits(max_backups=2, compress=True))

    sink.sweep()
    sink.close()

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "etcd-2026-11-22T09-52-42.000.log.gz",
        "etcd-2026-11-22T09-52-43.000.log.gz",
        "etcd-else.log",
        "etcd.log",
    ]
    assert gzip.decompress((tmp_path / "etcd-2026-11-22T09-52-43.000.log.gz").read_bytes()) == b"3"


def test_old_files_are_aged(tmp_path: Path) -> None:
    old, young = tmp_path / "etcd-2026-11-20T00-00-00.000.log", tmp_path / "etcd-2026-11-22T00-00-00.000.log"
    for path in (old, young):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    sink = log_sinks.RotatingSink(str(tmp_path / "etcd.log"), Limits(max_age_days=1))

    sink.sweep()
    sink.close()

    assert sorted(tmp_path.iterdir()) == [young, tmp_path / "etcd.log"]


def test_the_journal(tmp_path: Path) -> None:
    """Source: systemd, the native journal protocol."""
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        journal.settimeout(5)
        sink = log_sinks.JournalSink(path)
        sink.write(b"two\nlines\n", logs.WARN)
        sink.close()
        entry = journal.recv(1000)

    assert entry.startswith(b"MESSAGE\n" + struct.pack("<Q", 9) + b"two\nlines\nPRIORITY=4\nSYSLOG_IDENTIFIER=")


def test_a_journal_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"dial unixgram .*: connect: no such file or directory"):
        log_sinks.JournalSink(str(tmp_path / "nobody"))
