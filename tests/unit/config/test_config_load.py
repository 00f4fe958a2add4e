"""What a command line, an environment or a file becomes. What etcd says of wrong ones: test_config_like_etcd.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from balsad.config import Loaded, ServerConfig, load
from balsad.config.notes import Note


def nowhere() -> str:
    raise OSError("could not find default route")


def read(*arguments: str, environ: dict[str, str] | None = None, host: str = "") -> ServerConfig:
    loaded = load(list(arguments), environ or {}, (lambda: host) if host else nowhere)
    assert loaded.problem == ""
    assert loaded.config is not None
    return loaded.config


def read_file(folder: Path, text: str) -> ServerConfig:
    path = folder / "etcd.yaml"
    path.write_text(text)
    return read("--config-file", str(path))


def problem(*arguments: str) -> str:
    loaded = load(list(arguments), {}, nowhere)
    assert loaded.config is None
    return loaded.problem


def test_without_flags_all_is_default() -> None:
    assert read() == ServerConfig()


def test_one_and_two_dashes_with_and_without_equals() -> None:
    config = read("-name", "a", "--data-dir=/d", "--wal-dir", "/w", "-max-wals=3", "--pre-vote=false")

    assert (config.name, config.data_dir, config.wal_dir) == ("a", "/d", "/w")
    assert (config.max_wals, config.pre_vote) == (3, False)


def test_the_last_of_a_repeated_flag_counts() -> None:
    assert read("--name=a", "--name=b").name == "b"


@pytest.mark.parametrize(
    ("text", "number"), [("16", 16), ("0x10", 16), ("0b1_0", 2), ("010", 8), ("0o10", 8), ("1_0", 10)]
)
def test_numbers_in_gos_notation(text: str, number: int) -> None:
    """Source: strconv.ParseUint with base 0."""
    assert read(f"--max-wals={text}").max_wals == number


def test_urls_are_sorted_and_unique() -> None:
    config = read("--listen-metrics-urls=http://10.0.0.2:1,http://10.0.0.1:1,http://10.0.0.2:1")

    assert [str(url) for url in config.listen_metrics_urls] == ["http://10.0.0.1:1", "http://10.0.0.2:1"]


def test_an_empty_url_list_changes_nothing() -> None:
    """Source: flags.UniqueURLs allows the empty text."""
    config = read("--listen-peer-urls=")

    assert config.listen_peer_urls == ServerConfig().listen_peer_urls


def test_the_name_alone_names_the_cluster_and_the_folder() -> None:
    config = read("--name", "a", "--initial-advertise-peer-urls", "http://10.0.0.1:2380")

    assert config.initial_cluster == "a=http://10.0.0.1:2380"
    assert config.data_dir == "a.etcd"


def test_a_given_cluster_stays() -> None:
    config = read("--name", "a", "--initial-cluster", "b=http://10.0.0.1:2380")

    assert config.initial_cluster == "b=http://10.0.0.1:2380"


def test_discovery_clears_the_default_cluster() -> None:
    assert read("--discovery", "http://127.0.0.1:1/token").initial_cluster == ""


def test_listening_everywhere_advertises_the_default_host() -> None:
    """Source: Config.UpdateDefaultClusterFromName."""
    loaded = load(["--listen-peer-urls=http://0.0.0.0:1", "--name=a"], {}, lambda: "10.1.2.3")
    assert loaded.config is not None

    assert [str(url) for url in loaded.config.initial_advertise_peer_urls] == ["http://10.1.2.3:1"]
    assert [str(url) for url in loaded.config.advertise_client_urls] == ["http://localhost:2379"]
    assert loaded.config.initial_cluster == "a=http://10.1.2.3:1"
    assert Note("info", "detected default host for advertise", {"host": "10.1.2.3"}) in loaded.notes_after


def test_listening_at_one_address_advertises_what_it_did() -> None:
    config = read("--listen-peer-urls=http://127.0.0.1:1", host="10.1.2.3")

    assert [str(url) for url in config.initial_advertise_peer_urls] == ["http://localhost:2380"]


def test_zeros_stand_for_defaults() -> None:
    zeros = [
        "--quota-backend-bytes=0",
        "--backend-batch-interval=0",
        "--backend-batch-limit=0",
        "--experimental-compaction-batch-limit=0",
        "--experimental-watch-progress-notify-interval=0s",
        "--auto-compaction-retention=",
    ]

    assert read(*zeros) == ServerConfig()


def test_a_negative_quota_stays() -> None:
    assert read("--quota-backend-bytes=-1").quota_backend_bytes == -1


@pytest.mark.parametrize(
    ("flags", "enabled"),
    [
        ([], True),
        (["--enable-v2=false"], False),
        (["--v2-deprecation=write-only"], False),
        (["--enable-v2", "--v2-deprecation=write-only"], True),  # refused later, as etcd does
    ],
)
def test_v2_is_served_unless_told_otherwise(flags: list[str], enabled: bool) -> None:
    assert read(*flags).enable_v2 is enabled


def test_tls_flags_go_to_their_side() -> None:
    config = read(
        "--cert-file=c",
        "--peer-cert-file=p",
        "--client-cert-auth",
        "--peer-trusted-ca-file=ca",
        "--peer-cert-allowed-cn=a,b",
    )

    assert (config.client_tls.cert_file, config.peer_tls.cert_file) == ("c", "p")
    assert (config.client_tls.asks_for_certificates, config.peer_tls.asks_for_certificates) == (True, True)
    assert config.peer_tls.allowed_cns == ("a", "b")


def test_variables_stand_for_flags() -> None:
    config = read("--max-wals=1", environ={"ETCD_NAME": "a", "ETCD_HEARTBEAT_INTERVAL": "50", "HOME": "/"})

    assert (config.name, config.heartbeat_interval_ms, config.max_wals) == ("a", 50, 1)


def test_a_variable_beside_its_flag_ends_the_start() -> None:
    loaded = load(["--name=a"], {"ETCD_NAME": "a"}, nowhere)

    assert (loaded.exit_code, loaded.config) == (1, None)
    assert [note.level for note in loaded.early_notes] == ["fatal"]


def test_later_names_are_known() -> None:
    config = read(
        "--max-concurrent-streams=8", "--snapshot-catchup-entries=9", "--experimental-snapshot-catchup-entries=10"
    )

    assert (config.max_concurrent_streams, config.snapshot_catchup_entries) == (8, 10)


def test_feature_gates_set_fields_and_flags_win() -> None:
    config = read(
        "--feature-gates=AllAlpha=true,LeaseCheckpoint=false,LeaseCheckpointPersist=false,TxnModeWriteWithSharedBuffer=false",
        "--experimental-initial-corrupt-check=false",
    )

    assert config.stop_grpc_service_on_defrag
    assert not config.enable_lease_checkpoint
    assert not config.txn_mode_write_with_shared_buffer
    assert not config.initial_corrupt_check


@pytest.mark.parametrize(
    ("gates", "reason"),
    [
        ("Nope=true", "unrecognized feature gate: Nope"),
        ("LeaseCheckpoint", "missing bool value for LeaseCheckpoint"),
        (
            "LeaseCheckpoint=2",
            'invalid value of LeaseCheckpoint=2, err: strconv.ParseBool: parsing "2": invalid syntax',
        ),
        (
            "LeaseCheckpointPersist=true",
            "setting experimental-enable-lease-checkpoint-persist requires experimental-enable-lease-checkpoint",
        ),
    ],
)
def test_wrong_feature_gates(gates: str, reason: str) -> None:
    assert problem(f"--feature-gates={gates}") == reason


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--tls-min-version=TLS1.1"], 'unexpected TLS version "TLS1.1" (must be one of: TLS1.2, TLS1.3)'),
        (
            ["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (
            ["--tls-min-version=TLS1.3", "--cipher-suites=TLS_RSA_WITH_AES_128_GCM_SHA256"],
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
        (["--experimental-compact-hash-check-time=0"], "--experimental-compact-hash-check-time must be >0 (set to 0s)"),
        (["--discovery-token=x"], "both --discovery-token and --discovery-endpoints must be set"),
        (["--log-level=loud"], 'unrecognized level: "loud"'),
        (["--log-format=xml"], "unknown log format: xml, supported values json, console"),
        (
            ["--enable-log-rotation", "--log-outputs=/x", "--log-rotation-config-json={"],
            "improperly formatted log rotation config: "
            "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
        (
            ["--enable-log-rotation", "--log-outputs=/x", '--log-rotation-config-json={"maxsize": true}'],
            "invalid log rotation config: maxsize is no whole number",
        ),
    ],
)
def test_wrong_settings_that_351_does_not_know(arguments: list[str], reason: str) -> None:
    assert problem(*arguments) == reason


def test_log_settings() -> None:
    loaded: Loaded = load(["--log-outputs=stdout,/x", "--log-level=DEBUG", "--log-format=console"], {}, nowhere)

    assert loaded.log_settings is not None
    assert loaded.log_settings.outputs == ("/x", "stdout")
    assert (loaded.log_settings.level, loaded.log_settings.format) == ("debug", "console")


def test_rotation_settings() -> None:
    limits = '--log-rotation-config-json={"maxsize": 5, "maxbackups": 2, "compress": true}'
    loaded = load(["--log-outputs=/x", "--enable-log-rotation", limits], {}, nowhere)

    assert loaded.log_settings is not None
    rotation = loaded.log_settings.rotation
    assert rotation is not None
    assert (rotation.max_size_mb, rotation.max_age_days, rotation.max_backups, rotation.compress) == (5, 0, 2, True)


def test_the_old_debug_flag_is_a_log_level() -> None:
    assert (read("--debug").log_level, read("--debug=false").log_level) == ("debug", "info")


def test_a_configuration_file(tmp_path: Path) -> None:
    config = read_file(
        tmp_path,
        """
        name: 'a'
        snapshot-count: 5000
        grpc-keepalive-min-time: 7000000000
        listen-peer-urls: http://10.0.0.2:2380,http://10.0.0.1:2380
        initial-advertise-peer-urls: http://10.0.0.1:2380
        pre-vote: false
        quota-backend-bytes: 0
        log-outputs: [stderr]
        cors: http://a:1
        host-whitelist: b,a
        client-transport-security:
          cert-file: c
          client-cert-auth: true
          auto-tls: true
        peer-transport-security: {trusted-ca-file: ca, allowed-cn: [x]}
        socket-options: {reuse-port: true}
        no-such-key: 1
        """,
    )

    assert (config.name, config.data_dir, config.snapshot_count) == ("a", "a.etcd", 5000)
    assert config.initial_cluster == "a=http://10.0.0.1:2380"
    assert config.grpc_keepalive_min_time_s == 7.0
    assert [url.host for url in config.listen_peer_urls] == ["10.0.0.1", "10.0.0.2"]
    assert config.pre_vote is False
    assert config.quota_backend_bytes == ServerConfig().quota_backend_bytes
    assert (config.cors, config.host_whitelist) == (("http://a:1",), ("a", "b"))
    assert (config.client_tls.cert_file, config.client_tls.client_cert_auth, config.client_tls.auto_tls) == (
        "c",
        True,
        True,
    )
    assert (config.peer_tls.trusted_ca_file, config.peer_tls.allowed_cns) == ("ca", ("x",))
    assert config.socket_reuse_port


def test_a_configuration_file_shuts_out_flags_and_environment(tmp_path: Path) -> None:
    path = tmp_path / "etcd.json"
    path.write_text('{"max-wals": 2}')

    config = read("--name=a", "--config-file", str(path), environ={"ETCD_MAX_SNAPSHOTS": "9"})

    assert (config.name, config.max_wals, config.max_snapshots) == ("default", 2, 5)


def test_client_listeners_in_a_file_need_no_advertised_urls(tmp_path: Path) -> None:
    """Only the command line asks for them; a file keeps the default."""
    config = read_file(tmp_path, "listen-client-urls: http://127.0.0.1:5")

    assert [str(url) for url in config.advertise_client_urls] == ["http://localhost:2379"]


def test_what_broken_yaml_says(tmp_path: Path) -> None:
    path = tmp_path / "etcd.yaml"
    path.write_text("a: b: c")

    assert problem("--config-file", str(path)) == (
        "error converting YAML to JSON: yaml: line 1: mapping values are not allowed here"
    )


def test_a_wrong_proxy_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "etcd.yaml"
    path.write_text("proxy: maybe")

    loaded = load(["--config-file", str(path)], {}, nowhere)

    assert (loaded.exit_code, loaded.stderr) == (1, "unexpected error setting up proxyFlag: invalid value\n")
