"""Everything a member is told when it starts, read and checked once."""

from balsad.config.checks import check_bootstrap, check_join, check_start, compaction_retention
from balsad.config.default_host import default_host
from balsad.config.load import Loaded, load
from balsad.config.log_settings import LogSettings, Rotation
from balsad.config.notes import Note
from balsad.config.resolve import resolve_patiently
from balsad.config.server_config import (
    DEFAULT_CLIENT_URL,
    DEFAULT_PEER_URL,
    DEFAULT_QUOTA_BYTES,
    ClusterFullError,
    ConfigError,
    ServerConfig,
    StartError,
    TlsConfig,
)
from balsad.config.start_fields import start_fields
from balsad.config.urls import Url, format_url_map, parse_url, parse_url_map, parse_urls

__all__ = [
    "DEFAULT_CLIENT_URL",
    "DEFAULT_PEER_URL",
    "DEFAULT_QUOTA_BYTES",
    "ClusterFullError",
    "ConfigError",
    "Loaded",
    "LogSettings",
    "Note",
    "Rotation",
    "ServerConfig",
    "StartError",
    "TlsConfig",
    "Url",
    "check_bootstrap",
    "check_join",
    "check_start",
    "compaction_retention",
    "default_host",
    "format_url_map",
    "load",
    "parse_url",
    "parse_url_map",
    "parse_urls",
    "resolve_patiently",
    "start_fields",
]
