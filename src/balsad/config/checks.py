"""The checks a configuration must pass, in etcd's order and words.

Source: etcd server/embed/config.go Validate, server/embed/etcd.go, server/config/config.go VerifyBootstrap.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from balsad.config.server_config import EXISTING, NEW, PERIODIC, REVISION, ConfigError, ServerConfig, StartError
from balsad.config.urls import Url, format_url_map, is_ip, split_host_port
from balsad.durations import HOUR, format_seconds, parse_duration
from balsad.go_quote import quote_go

ELECTION_MS_MAX: Final = 50_000
UNSET_ADVERTISE_URLS: Final = "--advertise-client-urls is required when --listen-client-urls is set explicitly"

_TLS_VERSIONS: Final = {"": 0, "TLS1.2": 0x0303, "TLS1.3": 0x0304}
_V2_GOING: Final = ("write-only", "write-only-skip-check", "write-only-drop-data", "gone")

# The suites that Go's crypto/tls knows, and two names that it has dropped since.
CIPHER_SUITES: Final = frozenset(
    [
        "TLS_RSA_WITH_RC4_128_SHA",
        "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
        "TLS_RSA_WITH_AES_128_CBC_SHA",
        "TLS_RSA_WITH_AES_256_CBC_SHA",
        "TLS_RSA_WITH_AES_128_CBC_SHA256",
        "TLS_RSA_WITH_AES_128_GCM_SHA256",
        "TLS_RSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
        "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
        "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
        "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
        "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
        "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
        "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
        "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
    ]
)


def check(config: ServerConfig, *, advertise_unset: bool = False) -> None:
    """What is wrong in itself, before anything is opened.

    `advertise_unset`: client listeners were named, where clients shall go was not. Raises: ConfigError.
    """
    for urls in (
        config.listen_peer_urls,
        config.listen_client_urls,
        config.listen_client_http_urls,
        config.listen_metrics_urls,
    ):
        _check_bind(urls)
    _check_advertised("--initial-advertise-peer-urls", config.initial_advertise_peer_urls)
    if not advertise_unset:
        _check_advertised("--advertise-client-urls", config.advertise_client_urls)
    if config.initial_cluster_state not in (NEW, EXISTING):
        raise ConfigError(f"unexpected clusterState {quote_go(config.initial_cluster_state)}")
    bootstraps = (config.discovery, config.initial_cluster, config.discovery_srv, config.discovery_endpoints)
    if sum(1 for bootstrap in bootstraps if bootstrap) > 1:
        raise ConfigError(
            "multiple discovery or bootstrap flags are set. "
            'Choose one of "initial-cluster", "discovery" or "discovery-srv"'
        )
    registry = (config.discovery_endpoints, config.discovery_token, config.discovery_cert, config.discovery_key)
    more = (config.discovery_cacert, config.discovery_user, config.discovery_password)
    if config.discovery_proxy and any((*registry, *more)):
        raise ConfigError(
            "both v2 discovery settings (discovery, discovery-proxy) and v3 discovery settings (discovery-token, "
            "discovery-endpoints, discovery-cert, discovery-key, discovery-cacert, discovery-user, "
            "discovery-password) are set"
        )
    if bool(config.discovery_token) != bool(config.discovery_endpoints):
        raise ConfigError("both --discovery-token and --discovery-endpoints must be set")
    if not all(config.discovery_endpoints):
        raise ConfigError("--discovery-endpoints must not contain empty endpoints")
    _check_timing(config.heartbeat_interval_ms, config.election_timeout_ms)
    if advertise_unset:
        raise ConfigError(UNSET_ADVERTISE_URLS)
    if config.auto_compaction_mode not in ("", PERIODIC, REVISION):
        raise ConfigError(f"unknown auto-compaction-mode {quote_go(config.auto_compaction_mode)}")
    if config.enable_lease_checkpoint_persist and not config.enable_lease_checkpoint:
        raise ConfigError(
            "setting experimental-enable-lease-checkpoint-persist requires experimental-enable-lease-checkpoint"
        )
    if config.compact_hash_check_time_s <= 0:
        interval = format_seconds(config.compact_hash_check_time_s)
        raise ConfigError(f"--experimental-compact-hash-check-time must be >0 (set to {interval})")
    _check_tls_versions(config)


def _check_bind(urls: tuple[Url, ...]) -> None:
    for url in urls:
        if not url.is_unix and url.host != "localhost" and not is_ip(url.host):
            raise ConfigError(f"expected IP in URL for binding ({url})")


def _check_advertised(flag: str, urls: tuple[Url, ...]) -> None:
    for url in urls:
        if not url.host:
            listed = quote_go(",".join(map(str, urls)))
            raise ConfigError(f'{flag} {listed} must be "host:port" (unexpected empty host ({url}))')


def _check_timing(heartbeat_ms: int, election_ms: int) -> None:
    if heartbeat_ms == 0:
        raise ConfigError(f"--heartbeat-interval must be >0 (set to {heartbeat_ms}ms)")
    if election_ms == 0:
        raise ConfigError(f"--election-timeout must be >0 (set to {election_ms}ms)")
    if 5 * heartbeat_ms > election_ms:
        raise ConfigError(
            f"--election-timeout[{election_ms}ms] should be at least as 5 times as "
            f"--heartbeat-interval[{heartbeat_ms}ms]"
        )
    if election_ms > ELECTION_MS_MAX:
        raise ConfigError(
            f"--election-timeout[{election_ms}ms] is too long, and should be set less than {ELECTION_MS_MAX}ms"
        )


def _check_tls_versions(config: ServerConfig) -> None:
    for version in (config.tls_min_version, config.tls_max_version):
        if version not in _TLS_VERSIONS:
            raise ConfigError(f"unexpected TLS version {quote_go(version)} (must be one of: TLS1.2, TLS1.3)")
    low, high = _TLS_VERSIONS[config.tls_min_version], _TLS_VERSIONS[config.tls_max_version]
    if high and low > high:
        raise ConfigError(
            f"min version ({config.tls_min_version}) is greater than max version ({config.tls_max_version})"
        )
    if low == _TLS_VERSIONS["TLS1.3"] and config.cipher_suites:
        raise ConfigError("cipher suites cannot be configured when only TLS1.3 is enabled")


def check_start(config: ServerConfig) -> None:
    """What etcd finds wrong while it opens its listeners. Raises: StartError."""
    for suite in config.cipher_suites:
        if suite not in CIPHER_SUITES:
            raise StartError(f"unexpected TLS cipher suite {quote_go(suite)}")
    if config.client_tls.is_empty and not config.client_tls.auto_tls:
        for url in (*config.listen_client_urls, *config.listen_client_http_urls):
            if url.is_secure:
                raise StartError(
                    f"TLS key/cert (--cert-file, --key-file) must be provided for client url {url} with HTTPS scheme"
                )
    taken = {url.address for url in config.listen_client_urls}
    for url in config.listen_client_http_urls:
        if url.address in taken:
            raise StartError(
                f"cannot bind both --client-listen-urls and --client-listen-http-urls on the same url {url}"
            )
    compaction_retention(config.auto_compaction_mode, config.auto_compaction_retention)
    if config.enable_v2 and config.v2_deprecation in _V2_GOING:
        raise StartError(f"--enable-v2 and --v2-deprecation={config.v2_deprecation} are mutually exclusive")


def compaction_retention(mode: str, retention: str) -> int:
    """Nanoseconds to keep (periodic) or revisions to keep (revision); 0 means no automatic compaction.

    Raises: StartError. Source: parseCompactionRetention.
    """
    if re.fullmatch(r"\+?[0-9]+", retention) and int(retention) < 1 << 63:
        return int(retention) if mode == REVISION else int(retention) * HOUR if mode == PERIODIC else 0
    try:
        # In revision mode etcd takes a duration's nanoseconds for revisions.
        return parse_duration(retention or "0")
    except ValueError as problem:
        raise StartError(f"error parsing CompactionRetention: {problem}") from None


def check_bootstrap(config: ServerConfig, resolve: Callable[[str], str]) -> None:
    """Does the initial cluster name this member, and the same URLs that it advertises?

    `resolve` turns `host:port` with a host name into `ip:port` or raises OSError. Asked by a member that founds a
    cluster. Raises: StartError.
    """
    cluster = config.initial_cluster_urls()
    _check_named(config.name, cluster)
    _check_advertises_its_part(config, cluster[config.name], resolve)
    _check_no_duplicates(cluster)


def check_join(config: ServerConfig) -> None:
    """The same for a member that joins an existing cluster. Raises: StartError."""
    cluster = config.initial_cluster_urls()
    _check_named(config.name, cluster)
    _check_no_duplicates(cluster)
    if config.discovery:
        raise StartError("discovery URL should not be set when joining existing initial cluster")


def _check_named(name: str, cluster: dict[str, tuple[Url, ...]]) -> None:
    if name not in cluster:
        raise StartError(f"couldn't find local name {quote_go(name)} in the initial cluster configuration")


def _check_no_duplicates(cluster: dict[str, tuple[Url, ...]]) -> None:
    urls = [str(url) for group in cluster.values() for url in group]
    if len(set(urls)) != len(urls):
        raise StartError(f"initial cluster {format_url_map(cluster)} has duplicate url")


def _check_advertises_its_part(config: ServerConfig, part: tuple[Url, ...], resolve: Callable[[str], str]) -> None:
    advertised = config.initial_advertise_peer_urls
    reason = _difference(advertised, part, resolve)
    if not reason:
        return
    missing = ",".join(f"{config.name}={url}" for url in part if url not in advertised)
    listed = ",".join(map(str, advertised))
    if missing:
        raise StartError(
            f"--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={listed} ({reason})"
        )
    named = format_url_map({config.name: advertised})
    extra = ",".join(str(url) for url in advertised if url not in part)
    if extra:
        raise StartError(f"--initial-advertise-peer-urls has {extra} but missing from --initial-cluster={named}")
    raise StartError(f"failed to resolve {listed} to match --initial-cluster={named} ({reason})")


def _difference(left: tuple[Url, ...], right: tuple[Url, ...], resolve: Callable[[str], str]) -> str:
    """Empty when both name the same addresses, else why they do not."""
    if len(left) != len(right):
        return f"len({_quote_all(left)}) != len({_quote_all(right)})"
    try:
        pairs = zip(_resolved(left, resolve), _resolved(right, resolve), left, right, strict=True)
    except StartError as problem:
        return str(problem)
    for mine, other, mine_before, other_before in pairs:
        if mine != other:
            return (
                f"{quote_go(mine)}(resolved from {quote_go(str(mine_before))}) != "
                f"{quote_go(other)}(resolved from {quote_go(str(other_before))})"
            )
    return ""


def _resolved(urls: tuple[Url, ...], resolve: Callable[[str], str]) -> list[str]:
    texts = []
    for url in urls:
        if url.is_unix or url.host == "localhost" or is_ip(url.host):
            texts.append(str(url))
            continue
        try:
            address = resolve(url.address)
        except OSError as problem:
            raise StartError(f"failed to resolve {quote_go(str(url))} ({problem})") from None
        split_host_port(address)
        texts.append(str(url).replace(url.address, address, 1))
    return sorted(texts)


def _quote_all(urls: tuple[Url, ...]) -> str:
    return "[" + " ".join(quote_go(str(url)) for url in urls) + "]"
