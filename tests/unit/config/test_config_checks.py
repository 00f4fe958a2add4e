"""Checks of a member that is about to start. Source: etcd server/config/config_test.go, embed.StartEtcd."""

from __future__ import annotations

import dataclasses

import pytest

from balsad.config import (
    ServerConfig,
    StartError,
    TlsConfig,
    check_bootstrap,
    check_join,
    check_start,
    compaction_retention,
    parse_urls,
    start_fields,
)
from balsad.durations import HOUR, MINUTE


def member(**changes: object) -> ServerConfig:
    return dataclasses.replace(ServerConfig(), **changes)  # type: ignore[arg-type]


def unresolvable(address: str) -> str:
    raise OSError(f"lookup {address}: no such host")


def bootstrap_problem(name: str, advertised: str, cluster: str) -> str:
    config = member(name=name, initial_advertise_peer_urls=parse_urls(advertised.split(",")), initial_cluster=cluster)
    with pytest.raises(StartError) as refusal:
        check_bootstrap(config, unresolvable)
    return str(refusal.value)


def test_a_good_cluster_passes() -> None:
    config = member(
        name="a",
        initial_advertise_peer_urls=parse_urls(["http://10.0.0.1:1"]),
        initial_cluster="a=http://10.0.0.1:1,b=http://10.0.0.2:1",
    )

    check_bootstrap(config, unresolvable)
    check_join(config)


def test_an_unnamed_member() -> None:
    assert bootstrap_problem("a", "http://10.0.0.1:1", "b=http://10.0.0.1:1") == (
        'couldn\'t find local name "a" in the initial cluster configuration'
    )


def test_a_cluster_that_names_more_urls() -> None:
    assert bootstrap_problem("a", "http://10.0.0.1:1", "a=http://10.0.0.1:1,a=http://10.0.0.2:1") == (
        "--initial-cluster has a=http://10.0.0.2:1 but missing from --initial-advertise-peer-urls=http://10.0.0.1:1 "
        '(len(["http://10.0.0.1:1"]) != len(["http://10.0.0.1:1" "http://10.0.0.2:1"]))'
    )


def test_a_cluster_that_names_other_urls() -> None:
    assert bootstrap_problem("a", "http://127.0.0.1:5", "a=http://localhost:2380") == (
        "--initial-cluster has a=http://localhost:2380 but missing from "
        '--initial-advertise-peer-urls=http://127.0.0.1:5 ("http://127.0.0.1:5"(resolved from "http://127.0.0.1:5") '
        '!= "http://localhost:2380"(resolved from "http://localhost:2380"))'
    )


def test_a_member_that_advertises_more() -> None:
    assert bootstrap_problem("a", "http://10.0.0.1:1,http://10.0.0.2:1", "a=http://10.0.0.1:1") == (
        "--initial-advertise-peer-urls has http://10.0.0.2:1 but missing from "
        "--initial-cluster=a=http://10.0.0.1:1,a=http://10.0.0.2:1"
    )


def test_a_name_that_does_not_resolve() -> None:
    assert bootstrap_problem("a", "http://m.example:1", "a=http://m.example:1") == (
        "failed to resolve http://m.example:1 to match --initial-cluster=a=http://m.example:1 "
        '(failed to resolve "http://m.example:1" (lookup m.example:1: no such host))'
    )


def test_a_name_and_its_address_are_the_same() -> None:
    config = member(
        name="a",
        initial_advertise_peer_urls=parse_urls(["http://m.example:1"]),
        initial_cluster="a=http://10.0.0.1:1",
    )

    check_bootstrap(config, lambda address: address.replace("m.example", "10.0.0.1"))


def test_duplicate_urls() -> None:
    assert bootstrap_problem("a", "http://10.0.0.1:1", "a=http://10.0.0.1:1,b=http://10.0.0.1:1") == (
        "initial cluster a=http://10.0.0.1:1,b=http://10.0.0.1:1 has duplicate url"
    )


def test_a_cluster_that_does_not_parse() -> None:
    assert bootstrap_problem("a", "http://10.0.0.1:1", "a=foo") == (
        "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: foo"
    )


def test_joining_with_discovery() -> None:
    config = member(initial_cluster_state="existing", discovery="http://x")

    with pytest.raises(StartError, match="discovery URL should not be set when joining existing initial cluster"):
        check_join(config)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cipher_suites": ("foo",)}, 'unexpected TLS cipher suite "foo"'),
        (
            {"listen_client_urls": parse_urls(["https://127.0.0.1:1"])},
            "TLS key/cert (--cert-file, --key-file) must be provided "
            "for client url https://127.0.0.1:1 with HTTPS scheme",
        ),
        ({"auto_compaction_retention": "foo"}, 'error parsing CompactionRetention: time: invalid duration "foo"'),
        ({"auto_compaction_retention": "-1"}, 'error parsing CompactionRetention: time: missing unit in duration "-1"'),
        ({"v2_deprecation": "write-only"}, "--enable-v2 and --v2-deprecation=write-only are mutually exclusive"),
    ],
)
def test_what_the_listeners_refuse(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(StartError) as refusal:
        check_start(member(**changes))

    assert str(refusal.value) == reason


def test_what_the_listeners_accept() -> None:
    https = parse_urls(["https://127.0.0.1:1"])

    check_start(ServerConfig())
    check_start(member(listen_client_urls=https, client_tls=TlsConfig(cert_file="c", key_file="k")))
    check_start(member(listen_client_urls=https, client_tls=TlsConfig(auto_tls=True)))


@pytest.mark.parametrize(
    ("mode", "retention", "kept"),
    [
        ("periodic", "0", 0),
        ("periodic", "2", 2 * HOUR),
        ("periodic", "5m", 5 * MINUTE),
        ("periodic", "1h30m", 90 * MINUTE),
        ("revision", "1000", 1000),
        ("revision", "1h", HOUR),  # a quirk of etcd: nanoseconds as revisions
        ("", "5", 0),
    ],
)
def test_compaction_retention(mode: str, retention: str, kept: int) -> None:
    """Source: etcd parseCompactionRetention."""
    assert compaction_retention(mode, retention) == kept


def test_timings() -> None:
    """Source: etcd ServerConfig.ReqTimeout, PeerDialTimeout; server.go minTTL."""
    config = member(heartbeat_interval_ms=300, election_timeout_ms=2_000)

    assert config.election_ticks == 6
    assert config.election_timeout_s == 1.8
    assert config.request_timeout_s == 8.6
    assert config.peer_dial_timeout_s == 2.8
    assert config.min_lease_ttl_s == 3  # 9 ticks of 0.3 s are 2.7 s
    assert ServerConfig().min_lease_ttl_s == 2


def test_origins_and_hosts() -> None:
    """Source: etcd AccessController."""
    config = member(cors=("http://a:1",), host_whitelist=("a",))

    assert (config.allows_origin("http://a:1"), config.allows_origin("http://b:1")) == (True, False)
    assert (config.allows_host("a"), config.allows_host("b")) == (True, False)
    assert (ServerConfig().allows_origin("x"), ServerConfig().allows_host("x")) == (True, True)


def test_start_fields_read_as_etcd_prints_them() -> None:
    fields = start_fields(ServerConfig(), member_initialized=False)

    assert (fields["heartbeat-interval"], fields["election-timeout"]) == ("100ms", "1s")
    assert (fields["quota-size-bytes"], fields["auto-compaction-interval"]) == (2147483648, "0s")
    assert list(fields)[:3] == ["etcd-version", "git-sha", "go-version"]
