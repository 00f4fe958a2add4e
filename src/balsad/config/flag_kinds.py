"""What a flag is: how its text is read, which field it sets, its stanza of the help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from balsad.config.go_flags import (
    Parse,
    one_of,
    parse_bool,
    parse_debug,
    parse_int,
    parse_list,
    parse_origins,
    parse_seconds,
    parse_set,
    parse_text,
    parse_uint,
    parse_uint32,
    parse_url_list,
    some_of,
)


@dataclass(frozen=True, slots=True)
class Kind:
    """How a flag's text is read; `go_type` is what a configuration file must hold for it."""

    parse: Parse
    go_type: str
    is_bool: bool = False


TEXT: Final = Kind(parse_text, "string")
BOOL: Final = Kind(parse_bool, "bool", is_bool=True)
INT: Final = Kind(parse_int, "int")
UINT: Final = Kind(parse_uint, "uint")
UINT32: Final = Kind(parse_uint32, "uint32")
SECONDS: Final = Kind(parse_seconds, "time.Duration")
URLS: Final = Kind(parse_url_list, "string")
LIST: Final = Kind(parse_list, "[]string")
SET: Final = Kind(parse_set, "[]string")
HOSTS: Final = Kind(parse_set, "string")
ORIGINS: Final = Kind(parse_origins, "string")
CLUSTER_STATE: Final = Kind(one_of("new", "existing"), "string")
FALLBACK: Final = Kind(one_of("proxy", "exit"), "string")
PROXY: Final = Kind(one_of("off", "readonly", "on"), "string")
V2_DEPRECATION: Final = Kind(
    some_of("not-yet", "write-only", "write-only-skip-check", "write-only-drop-data", "gone"), "string"
)
DEBUG: Final = Kind(parse_debug, "bool", is_bool=True)
IGNORED: Final = Kind(parse_text, "", is_bool=True)


@dataclass(frozen=True, slots=True)
class Flag:
    name: str
    kind: Kind
    shown: str = ""  # the default as the help writes it, quotes and all
    help: str = ""
    target: str = ""  # the field of ServerConfig, or `client_tls.`, `peer_tls.` and a field of TlsConfig

    @property
    def field(self) -> str:
        return self.target or self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        """The environment variable that stands for the flag."""
        return "ETCD_" + self.name.replace("-", "_").upper()


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    flags: tuple[Flag, ...]
