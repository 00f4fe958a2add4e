"""From command line, environment and configuration file to one ServerConfig.

The result is a value: what to print, what to log and with which logger, and either a configuration, the reason why
there is none, or an exit code. Nothing here prints, logs or ends the process.
Source: etcd server/etcdmain/config.go, server/etcdmain/etcd.go.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from balsad.config.checks import UNSET_ADVERTISE_URLS, check
from balsad.config.environment import read_environment
from balsad.config.feature_gates import gated_fields
from balsad.config.flag_kinds import IGNORED
from balsad.config.flag_table import CONFIG_FILE, FLAGS, VERSION
from balsad.config.form import form_note
from balsad.config.go_flags import HelpRequested, ParsedLine, UsageError, parse_bool, split_line
from balsad.config.help import USAGE, flags_help
from balsad.config.log_settings import LogSettings, check_log_settings
from balsad.config.notes import Note
from balsad.config.server_config import (
    DEFAULT_NAME,
    ConfigError,
    FileValueError,
    ServerConfig,
    TlsConfig,
    cluster_of_name,
)
from balsad.config.urls import Url, parse_url
from balsad.config.versions import version_lines

if TYPE_CHECKING:
    from balsad.config.config_file import Changes

DefaultHost = Callable[[], str]
"""The address other machines reach this one by. Raises OSError when there is none."""

_IS_BOOL: Final = {name: flag.kind.is_bool for name, flag in FLAGS.items()}
_RAFT_TIMEOUT_S_MIN: Final = 5.0
_LEASE_TIMES_GET_LOST: Final = (
    "Detected that checkpointing is enabled without persistence. "
    "Consider enabling experimental-enable-lease-checkpoint-persist"
)
_DEFAULTS: Final = ServerConfig()


@dataclass(slots=True)
class Loaded:
    """What came of it."""

    config: ServerConfig | None = None
    problem: str = ""  # why there is no configuration
    exit_code: int | None = None  # set when the process has nothing more to do
    stdout: str = ""
    stderr: str = ""
    early_notes: list[Note] = field(default_factory=list)  # told before the logger is set up
    log_settings: LogSettings | None = None  # None: no logger was set up
    notes: list[Note] = field(default_factory=list)  # told by that logger, before and after `Running: `
    notes_after: list[Note] = field(default_factory=list)

    @property
    def lacks_advertise_urls(self) -> bool:
        return self.problem == UNSET_ADVERTISE_URLS


def load(arguments: list[str], environ: Mapping[str, str], default_host: DefaultHost) -> Loaded:
    """Read everything a start is told; `arguments` are without the program's name."""
    loaded = Loaded()
    try:
        line = split_line(arguments, _IS_BOOL, _check_value)
    except HelpRequested:
        loaded.exit_code, loaded.stdout, loaded.stderr = 0, flags_help(), USAGE
        return loaded
    except UsageError as problem:
        loaded.exit_code, loaded.stderr = 2, f"{problem}\n{USAGE}"
        return loaded
    if line.words:
        loaded.problem = f"'{line.words[0]}' is not a valid flag"
        return loaded
    if parse_bool(_last(line, VERSION.name, "false")):
        loaded.exit_code, loaded.stdout = 0, version_lines()
        loaded.early_notes.append(form_note())
        return loaded
    try:
        path = _last(line, CONFIG_FILE.name, "") or environ.get(CONFIG_FILE.variable, "")
        config = _from_file(path, loaded) if path else _from_line(line, environ, loaded)
    except ConfigError as problem:
        loaded.problem = str(problem)
        return loaded
    except FileValueError as problem:
        loaded.exit_code, loaded.stderr = 1, f"{problem}\n"
        return loaded
    if config is not None:
        if config.enable_lease_checkpoint and not config.enable_lease_checkpoint_persist:
            loaded.notes.append(Note("warn", _LEASE_TIMES_GET_LOST))
        loaded.config = _settle_names(config, default_host, loaded)
    return loaded


def _check_value(name: str, text: str) -> None:
    FLAGS[name].kind.parse(text)


def _last(line: ParsedLine, name: str, default: str) -> str:
    texts = [text for flag, text in line.flags if flag == name]
    return texts[-1] if texts else default


def _from_file(path: str, loaded: Loaded) -> ServerConfig:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    except OSError as problem:
        reason = (os.strerror(problem.errno) if problem.errno else str(problem)).lower()
        raise ConfigError(f"open {path}: {reason}") from None
    # Few have such a file: its YAML is imported for them alone.
    from balsad.config.config_file import read_config_text

    changes = _with_gates(read_config_text(text))
    settings = check_log_settings(_assemble(changes))
    config = _build(changes, cluster_given="initial_cluster" in changes)
    check(config)
    loaded.log_settings = settings
    loaded.notes.append(
        Note(
            "info",
            "loaded server configuration, other configuration command line flags and environment variables "
            "will be ignored if provided",
            {"path": path},
        )
    )
    return config


def _from_line(line: ParsedLine, environ: Mapping[str, str], loaded: Loaded) -> ServerConfig | None:
    found = read_environment(environ, {name for name, _ in line.flags})
    loaded.early_notes.extend(found.notes)
    if found.conflict:
        loaded.exit_code = 1
        return None
    if found.problem:
        raise ConfigError(found.problem)
    flags = line.flags + found.flags
    given = {name for name, _ in flags}
    changes: Changes = {}
    for name, text in flags:
        flag = FLAGS[name]
        value = flag.kind.parse(text)
        if value is not None and flag.kind is not IGNORED and flag not in (CONFIG_FILE, VERSION):
            changes[flag.field] = value
    for name in ("raft-read-timeout", "raft-write-timeout"):
        _raise_to_minimum(FLAGS[name].field, name, changes, loaded)
    changes = _with_gates(changes)
    loaded.log_settings = check_log_settings(_assemble(changes))
    config = _build(changes, cluster_given="initial-cluster" in given)
    unset = "listen-client-urls" in given and "advertise-client-urls" not in given and not _may_be_proxy(config)
    check(config, advertise_unset=unset)
    return config


def _raise_to_minimum(field_name: str, name: str, changes: Changes, loaded: Loaded) -> None:
    value = changes.get(field_name, _RAFT_TIMEOUT_S_MIN)
    assert isinstance(value, float)
    if value < _RAFT_TIMEOUT_S_MIN:
        changes[field_name] = _RAFT_TIMEOUT_S_MIN
        loaded.early_notes.append(Note("info", f"{name} increased to minimum value: 5s"))


def _may_be_proxy(config: ServerConfig) -> bool:
    return config.proxy != "off" or (config.discovery != "" and config.discovery_fallback == "proxy")


def _with_gates(changes: Changes) -> Changes:
    gates = changes.get("feature_gates", "")
    assert isinstance(gates, str)
    return {**gated_fields(gates), **changes} if gates else changes


def _build(changes: Changes, *, cluster_given: bool) -> ServerConfig:
    """The configuration with `changes` in it, zeros replaced by the defaults they stand for."""
    config = _assemble(changes)
    discovers = config.discovery or config.discovery_srv or config.discovery_srv_name or config.discovery_endpoints
    return dataclasses.replace(
        config,
        initial_cluster="" if discovers and not cluster_given else config.initial_cluster,
        initial_cluster_state=config.initial_cluster_state or _DEFAULTS.initial_cluster_state,
        v2_deprecation=config.v2_deprecation or _DEFAULTS.v2_deprecation,
        # v2 is served unless told otherwise, and being told that it goes is being told otherwise.
        enable_v2=config.enable_v2 and ("enable_v2" in changes or config.v2_deprecation in ("", "not-yet")),
        quota_backend_bytes=config.quota_backend_bytes or _DEFAULTS.quota_backend_bytes,
        backend_batch_interval_s=config.backend_batch_interval_s or _DEFAULTS.backend_batch_interval_s,
        backend_batch_limit=config.backend_batch_limit or _DEFAULTS.backend_batch_limit,
        compaction_batch_limit=config.compaction_batch_limit or _DEFAULTS.compaction_batch_limit,
        watch_progress_notify_interval_s=(
            config.watch_progress_notify_interval_s or _DEFAULTS.watch_progress_notify_interval_s
        ),
        auto_compaction_retention=config.auto_compaction_retention or "0",
        self_signed_cert_validity_years=config.self_signed_cert_validity_years,
    )


def _assemble(changes: Changes) -> ServerConfig:
    sides: dict[str, dict[str, object]] = {"client_tls": {}, "peer_tls": {}}
    fields: dict[str, object] = {}
    for name, value in changes.items():
        side, dot, inner = name.partition(".")
        if dot:
            sides[side][inner] = value
        else:
            fields[name] = value
    # Which fields there are, and that each flag's values fit its field, the tests of the flag table say.
    for side, values in sides.items():
        fields[side] = dataclasses.replace(TlsConfig(), **cast(dict[str, str], values))  # type: ignore[arg-type]
    fields.setdefault("data_dir", "")
    return dataclasses.replace(_DEFAULTS, **cast(dict[str, str], fields))  # type: ignore[arg-type]


def _settle_names(config: ServerConfig, default_host: DefaultHost, loaded: Loaded) -> ServerConfig:
    """Fill in what follows from other settings: where we are reached, the cluster of one, the data folder.

    Source: Config.UpdateDefaultClusterFromName.
    """
    peers, clients = config.initial_advertise_peer_urls, config.advertise_client_urls
    host, problem = "", ""
    try:
        host = default_host()
    except OSError as reason:
        problem = str(reason)
    used = False
    if host:
        for_peers = _reached_by(host, peers, _DEFAULTS.initial_advertise_peer_urls, config.listen_peer_urls)
        for_clients = _reached_by(host, clients, _DEFAULTS.advertise_client_urls, config.listen_client_urls)
        used = for_peers != peers or for_clients != clients
        peers, clients = for_peers, for_clients
    cluster = config.initial_cluster
    if config.name != DEFAULT_NAME and cluster == _DEFAULTS.initial_cluster:
        cluster = cluster_of_name(config.name, peers)
    if used:
        loaded.notes_after.append(Note("info", "detected default host for advertise", {"host": host}))
    if problem:
        loaded.notes_after.append(Note("info", "failed to detect default host", {"error": problem}))
    data_dir = config.data_dir
    if not data_dir:
        data_dir = f"{config.name}.etcd"
        loaded.notes_after.append(Note("warn", "'data-dir' was empty; using default", {"data-dir": data_dir}))
    return dataclasses.replace(
        config,
        initial_advertise_peer_urls=peers,
        advertise_client_urls=clients,
        initial_cluster=cluster,
        data_dir=data_dir,
    )


def _reached_by(
    host: str, advertised: tuple[Url, ...], default: tuple[Url, ...], listened: tuple[Url, ...]
) -> tuple[Url, ...]:
    """Advertise `host` in place of localhost when the listener takes calls from everywhere."""
    if advertised != default or not listened or listened[0].host != "0.0.0.0":
        return advertised
    return (parse_url(f"{advertised[0].scheme}://{host}:{listened[0].port}"),)
