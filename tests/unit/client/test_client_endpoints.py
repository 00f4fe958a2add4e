"""What an endpoint's text means. Source: etcd client/v3/internal/endpoint/endpoint_test.go's cases."""

from __future__ import annotations

import pytest

from balsad.client.endpoints import Endpoint


@pytest.mark.parametrize(
    ("text", "host", "port", "secure", "name"),
    [
        ("127.0.0.1:2379", "127.0.0.1", 2379, None, "127.0.0.1"),
        ("localhost:2379", "localhost", 2379, None, "localhost"),
        ("http://127.0.0.1:2379", "127.0.0.1", 2379, False, "127.0.0.1"),
        ("https://example.org:2379", "example.org", 2379, True, "example.org"),
        ("https://[::1]:2379", "::1", 2379, True, "::1"),
        ("[fe80::1]:2379", "fe80::1", 2379, None, "fe80::1"),
        ("http://127.0.0.1:2379/", "127.0.0.1", 2379, False, "127.0.0.1"),
        ("http://127.0.0.1", "127.0.0.1", 0, False, "127.0.0.1"),
        ("foo", "foo", 0, None, "foo"),
        ("", "", 0, None, ""),
        ("ftp://127.0.0.1:2379", "", 0, None, "ftp://127.0.0.1:2379"),
    ],
)
def test_addresses(text: str, host: str, port: int, secure: bool | None, name: str) -> None:
    endpoint = Endpoint(text)

    assert (endpoint.host, endpoint.port, endpoint.secure, endpoint.server_name) == (host, port, secure, name)


@pytest.mark.parametrize(
    ("text", "path", "secure", "name"),
    [
        ("unix:///run/etcd/sock:1", "/run/etcd/sock:1", None, "sock"),
        ("unix://local/sock", "local/sock", None, "sock"),
        ("unix:local.sock", "local.sock", None, "local.sock"),
        ("unixs:///run/etcd.sock", "/run/etcd.sock", True, "etcd.sock"),
    ],
)
def test_sockets_in_the_file_system(text: str, path: str, secure: bool | None, name: str) -> None:
    endpoint = Endpoint(text)

    assert (endpoint.path, endpoint.secure, endpoint.server_name) == (path, secure, name)


@pytest.mark.parametrize(
    ("text", "is_loopback"),
    [("127.0.0.1:1", True), ("127.9.9.9:1", True), ("localhost:1", True), ("[::1]:1", True), ("10.0.0.1:1", False)],
)
def test_what_can_only_be_this_machine(text: str, is_loopback: bool) -> None:
    assert Endpoint(text).is_loopback == is_loopback
