"""The table of flags fits ServerConfig: every flag sets a field that there is, with a value that belongs there."""

from __future__ import annotations

import dataclasses
import subprocess

import pytest

from balsad.config.flag_kinds import IGNORED, LIST, ORIGINS, SECONDS, SET, URLS, Flag
from balsad.config.flag_table import FLAGS, SETTINGS
from balsad.config.listed_flags import LISTED
from balsad.config.load import load
from balsad.config.server_config import ServerConfig, TlsConfig
from tests.real import real_etcd

SAMPLES = {
    "bool": "true",
    "int": "7",
    "uint": "7",
    "uint32": "7",
    "time.Duration": "7s",
    "string": "x",
    "[]string": "b,a",
}


def default_of(flag: Flag) -> object:
    side, dot, inner = flag.field.partition(".")
    config = ServerConfig()
    return getattr(getattr(config, side), inner) if dot else getattr(config, flag.field)


def test_every_field_has_a_flag() -> None:
    named = {flag.field for flag in SETTINGS if flag.kind is not IGNORED}

    assert {f.name for f in dataclasses.fields(ServerConfig)} - named == {
        "client_tls",
        "peer_tls",
        "fast_lease_keep_alive",
    }
    for side in ("client_tls", "peer_tls"):
        missing = {f"{side}.{f.name}" for f in dataclasses.fields(TlsConfig)} - named
        assert missing == (
            {"client_tls.allowed_cns", "client_tls.skip_client_san_verification"} if side == "client_tls" else set()
        )


@pytest.mark.parametrize("flag", [flag for flag in SETTINGS if flag.kind is not IGNORED], ids=lambda flag: flag.name)
def test_a_flag_gives_what_its_field_holds(flag: Flag) -> None:
    sample = SAMPLES[flag.kind.go_type]
    if flag.kind in (URLS, ORIGINS):
        sample = "http://b:1"
    elif flag.kind.parse is not SETTINGS[0].kind.parse and flag.kind.go_type == "string":
        sample = {"initial-cluster-state": "existing", "discovery-fallback": "exit", "proxy": "on"}.get(
            flag.name, "gone"
        )

    value = flag.kind.parse(sample)

    assert type(value) is type(default_of(flag))
    assert flag.field.endswith("_s") == (flag.kind is SECONDS or flag.name == "auth-token-ttl")


def test_names_are_unique() -> None:
    assert len(SETTINGS) == len({flag.name for flag in SETTINGS})


def test_the_help_tells_the_defaults() -> None:
    """What the help says in quotes is what a start without flags does."""
    config = ServerConfig()
    told_otherwise = {
        "data-dir",  # depends on the name
        "quota-backend-bytes",  # 0 stands for 2 GiB
        "backend-batch-interval",  # likewise 100 ms
        "backend-batch-limit",  # likewise 10,000
        "enable-v2",  # see ServerConfig
        "experimental-bootstrap-defrag-threshold-megabytes",  # tells none
    }
    for section in LISTED:
        for flag in section.flags:
            if flag.name not in told_otherwise:
                shown = flag.shown.strip("'")
                told = () if not shown and flag.kind in (SET, LIST, URLS) else flag.kind.parse(shown)
                assert told == default_of(flag), flag.name
    assert config.name == "default"


@pytest.mark.real
def test_no_flag_of_etcd_is_unknown() -> None:
    """Every `--flag` in the real help, and those that 3.5.1 hides, start with a known name."""
    text = subprocess.run([real_etcd(), "--help"], capture_output=True, text=True, check=True).stdout
    names = [line.split()[0][2:] for line in text.splitlines() if line.startswith("  --")]

    assert len(names) >= 90
    assert [name for name in names if name not in FLAGS] == []


def test_ignored_flags_change_nothing() -> None:
    def nowhere() -> str:
        raise OSError("could not find default route")

    ignored = [f"--{name}=x" for name, flag in FLAGS.items() if flag.kind is IGNORED]

    assert load(ignored, {}, nowhere).config == load([], {}, nowhere).config
