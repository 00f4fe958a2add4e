"""What the logger is told, checked. Source: etcd server/embed/config_logging.go setupLogging."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from balsad.config.server_config import ConfigError, ServerConfig
from balsad.go_quote import quote_go

LEVELS: Final = ("debug", "info", "warn", "error", "dpanic", "panic", "fatal")
FORMATS: Final = ("json", "console")
_STANDARD: Final = ("default", "stderr", "stdout")
_JOURNAL: Final = "systemd/journal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """When a log file makes place for a new one; zeros mean no limit."""

    max_size_mb: int = 100
    max_age_days: int = 0
    max_backups: int = 0
    local_time: bool = False
    compress: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    level: str = "info"
    format: str = "json"
    outputs: tuple[str, ...] = ("stderr",)  # stderr, stdout, systemd/journal or paths
    rotation: Rotation | None = None


def check_log_settings(config: ServerConfig) -> LogSettings:
    """Raises: ConfigError."""
    if config.logger == "capnslog":
        raise ConfigError("--logger=capnslog is removed in v3.5")
    if config.logger != "zap":
        raise ConfigError(f"unknown logger option {quote_go(config.logger)}")
    outputs = config.log_outputs or ("default",)
    if len(outputs) > 1 and "default" in outputs:
        raise ConfigError('multi logoutput for "default" is not supported yet')
    rotation = _rotation(config, outputs) if config.enable_log_rotation else None
    if _JOURNAL in outputs and len(outputs) > 1:
        raise ConfigError(
            f"running with systemd/journal but other '--log-outputs' values ({_quoted(outputs)}) are configured "
            "with 'default'; override 'default' value with something else"
        )
    level = config.log_level.lower() or "info"
    if level not in LEVELS:
        raise ConfigError(f"unrecognized level: {quote_go(config.log_level)}")
    if config.log_format not in FORMATS:
        raise ConfigError(f"unknown log format: {config.log_format}, supported values json, console")
    if "/dev/null" in outputs:
        outputs = ("/dev/null",)
    named = tuple(sorted({"stderr" if output == "default" else output for output in outputs}))
    return LogSettings(level=level, format=config.log_format, outputs=named, rotation=rotation)


def _quoted(outputs: tuple[str, ...]) -> str:
    return "[" + " ".join(quote_go(output) for output in outputs) + "]"


def _rotation(config: ServerConfig, outputs: tuple[str, ...]) -> Rotation:
    files = [output for output in outputs if output not in _STANDARD]
    if len(files) > 1 or (len(outputs) == 1 and not files):
        raise ConfigError("--log-outputs requires a single file path when --log-rotate-config-json is defined")
    try:
        wanted: object = json.loads(config.log_rotation_config_json)
    except ValueError as problem:
        raise ConfigError(f"improperly formatted log rotation config: {problem}") from None
    if not isinstance(wanted, dict):
        raise ConfigError("invalid log rotation config: not an object")
    numbers = {"maxsize": 0, "maxage": 0, "maxbackups": 0}
    switches = {"localtime": False, "compress": False}
    for key, value in wanted.items():
        name = str(key).lower()
        if name in numbers:
            if isinstance(value, bool) or not isinstance(value, int):
                raise ConfigError(f"invalid log rotation config: {name} is no whole number")
            numbers[name] = value
        elif name in switches:
            if not isinstance(value, bool):
                raise ConfigError(f"invalid log rotation config: {name} is no bool")
            switches[name] = value
    return Rotation(
        max_size_mb=numbers["maxsize"] or 100,
        max_age_days=numbers["maxage"],
        max_backups=numbers["maxbackups"],
        local_time=switches["localtime"],
        compress=switches["compress"],
    )
