"""The configuration file, YAML or JSON: the same settings as the flags, under the same names.

Durations are whole nanoseconds, URL lists comma strings; certificates sit in groups of their own. Keys are compared
without regard to case and unknown ones are skipped, as Go's JSON decoder does.
Source: etcd server/embed/config.go configFromFile, sigs.k8s.io/yaml.
"""

from __future__ import annotations

from typing import Final

import yaml

from balsad.config.flag_kinds import DEBUG, FALLBACK, HOSTS, IGNORED, ORIGINS, PROXY, SECONDS, URLS, Flag, Kind
from balsad.config.flag_table import SETTINGS
from balsad.config.go_flags import Value
from balsad.config.server_config import ConfigError, FileValueError
from balsad.durations import SECOND

Changes = dict[str, Value]


def _in_file(flag: Flag) -> bool:
    return flag.kind is not IGNORED and not flag.field.startswith(("client_tls.", "peer_tls."))


_BY_KEY: Final = {flag.name: flag for flag in SETTINGS if _in_file(flag)}

_Keys = dict[str, tuple[str, str]]
"""Field and Go type of each key of a group; a dot leads into a group within it."""

_TLS_KEYS: Final[_Keys] = {
    "cert-file": ("cert_file", "string"),
    "key-file": ("key_file", "string"),
    "client-cert-file": ("client_cert_file", "string"),
    "client-key-file": ("client_key_file", "string"),
    "client-cert-auth": ("client_cert_auth", "bool"),
    "trusted-ca-file": ("trusted_ca_file", "string"),
    "auto-tls": ("auto_tls", "bool"),
    "allowed-cn": ("allowed_cns", "[]string"),
    "allowed-hostname": ("allowed_hostnames", "[]string"),
    "skip-client-san-verification": ("skip_client_san_verification", "bool"),
}
_SOCKET_KEYS: Final[_Keys] = {
    "reuse-port": ("socket_reuse_port", "bool"),
    "reuse-address": ("socket_reuse_address", "bool"),
}
_DISCOVERY_KEYS: Final[_Keys] = {
    "token": ("discovery_token", "string"),
    "client.endpoints": ("discovery_endpoints", "[]string"),
    "client.dial-timeout": ("discovery_dial_timeout_s", "time.Duration"),
    "client.request-timeout": ("discovery_request_timeout_s", "time.Duration"),
    "client.keepalive-time": ("discovery_keepalive_time_s", "time.Duration"),
    "client.keepalive-timeout": ("discovery_keepalive_timeout_s", "time.Duration"),
    "client.secure.cert": ("discovery_cert", "string"),
    "client.secure.key": ("discovery_key", "string"),
    "client.secure.cacert": ("discovery_cacert", "string"),
    "client.secure.insecure-transport": ("discovery_insecure_transport", "bool"),
    "client.secure.insecure-skip-tls-verify": ("discovery_insecure_skip_tls_verify", "bool"),
    "client.auth.username": ("discovery_user", "string"),
    "client.auth.password": ("discovery_password", "string"),
}
_GROUPS: Final[dict[str, tuple[str, str, _Keys]]] = {
    "client-transport-security": ("client_tls.", "securityConfig", _TLS_KEYS),
    "peer-transport-security": ("peer_tls.", "securityConfig", _TLS_KEYS),
    "socket-options": ("", "SocketOpts", _SOCKET_KEYS),
    "socketopts": ("", "SocketOpts", _SOCKET_KEYS),
    "discovery-config": ("", "DiscoveryConfig", _DISCOVERY_KEYS),
}
# What etcd calls these in its complaints, where that is not their name.
_COMPLAINT_NAMES: Final = {
    "advertise-client-urls": "advertise-peer-urls",
    "proxy": "proxyFlag",
    "discovery-fallback": "discovery-fallback flag",
}
_READ_AS_FLAGS: Final = (URLS, ORIGINS, HOSTS, PROXY, FALLBACK)


def read_config_text(text: str) -> Changes:
    """The settings in a configuration file, by field.

    Raises: ConfigError; FileValueError for URLs that are none.
    """
    try:
        loaded: object = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as problem:
        raise ConfigError(f"error converting YAML to JSON: yaml: {_first_line(problem)}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise _mismatch(_json_type(loaded), "value of type embed.configYAML")
    changes: Changes = {}
    for key in sorted(loaded, key=str):
        _read_key(str(key), loaded[key], changes)
    return changes


def _read_key(key: str, value: object, changes: Changes) -> None:
    name = key.lower()
    if value is None:
        return
    if name in _GROUPS:
        _read_group(value, _GROUPS[name], (name,), changes)
        return
    flag = _BY_KEY.get(name)
    if flag is None:
        return
    decoded = _decode(value, flag.kind.go_type, f"struct field configYAML.{name} of type {flag.kind.go_type}")
    settled = _settle(name, flag.kind, decoded)
    if settled is not None:
        changes[flag.field] = settled


def _read_group(value: object, group: tuple[str, str, _Keys], path: tuple[str, ...], changes: Changes) -> None:
    """The settings of a group, or of one within it; `path` leads to it."""
    prefix, struct, keys = group
    if not isinstance(value, dict):
        raise _mismatch(_json_type(value), f"struct field configYAML.{'.'.join(path)} of type embed.{struct}")
    for inner in sorted(value, key=str):
        below = (*path, str(inner).lower())
        name = ".".join(below[1:])
        if value[inner] is None:
            continue
        if any(key.startswith(f"{name}.") for key in keys):
            _read_group(value[inner], group, below, changes)
        elif name in keys:
            field, go_type = keys[name]
            decoded = _decode(value[inner], go_type, f"struct field {struct}.{'.'.join(below)} of type {go_type}")
            if go_type == "time.Duration":
                assert isinstance(decoded, int)
                decoded /= SECOND
            changes[prefix + field] = decoded


def _settle(name: str, kind: Kind, decoded: Value) -> Value | None:
    """From the file's value to the field's; None leaves the default."""
    if kind is SECONDS:
        assert isinstance(decoded, int)
        return decoded / SECOND
    if kind is DEBUG:
        return "debug" if decoded else None
    if kind not in _READ_AS_FLAGS:
        return decoded
    assert isinstance(decoded, str)
    if not decoded:
        return None
    try:
        return kind.parse(decoded)
    except ValueError as problem:
        raise FileValueError(f"unexpected error setting up {_COMPLAINT_NAMES.get(name, name)}: {problem}") from None


_LIMITS: Final = {
    "int": (-(1 << 63), (1 << 63) - 1),
    "uint": (0, (1 << 64) - 1),
    "uint32": (0, (1 << 32) - 1),
    "time.Duration": (-(1 << 63), (1 << 63) - 1),
}


def _decode(value: object, go_type: str, where: str) -> Value:
    if go_type == "bool" and isinstance(value, bool):
        return value
    if go_type == "string" and isinstance(value, str):
        return value
    if go_type == "[]string" and isinstance(value, list):
        for item in value:
            if not isinstance(item, str):
                raise _mismatch(_json_type(item), where.replace("[]string", "string"))
        return tuple(value)
    if go_type in _LIMITS and isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = _LIMITS[go_type]
        if int(value) == value and low <= value <= high:
            return int(value)
        raise _mismatch(f"number {value}", where)
    raise _mismatch(_json_type(value), where)


def _json_type(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, dict) else "string"


def _mismatch(found: str, where: str) -> ConfigError:
    return ConfigError(f"error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into Go {where}")


def _first_line(problem: yaml.YAMLError) -> str:
    mark = getattr(problem, "problem_mark", None)
    reason = getattr(problem, "problem", None) or str(problem).partition("\n")[0]
    return f"line {mark.line + 1}: {reason}" if mark is not None else str(reason)


class _Loader(yaml.SafeLoader):
    """YAML without dates, which Go's reader leaves as text."""


_DROPPED: Final = ("tag:yaml.org,2002:timestamp",)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _DROPPED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
