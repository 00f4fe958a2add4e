"""URLs of members. Source: etcd client/pkg/types/urls_test.go, urlsmap_test.go."""

from __future__ import annotations

import pytest

from balsad.config.urls import format_url_map, is_ip, parse_url, parse_url_map, split_host_port


@pytest.mark.parametrize(
    ("text", "canonical", "address"),
    [
        ("http://127.0.0.1:2379", "http://127.0.0.1:2379", "127.0.0.1:2379"),
        (" http://a:1 ", "http://a:1", "a:1"),
        ("HTTPS://a:1", "https://a:1", "a:1"),
        ("http://[::1]:1", "http://[::1]:1", "[::1]:1"),
        ("unix://127.0.0.1:2379", "unix://127.0.0.1:2379", "127.0.0.1:2379"),
        ("http://a:1?x=y#z", "http://a:1?x=y#z", "a:1"),
        ("http://user@a:1", "http://user@a:1", "a:1"),
        ("http://a:", "http://a:", "a:"),
    ],
)
def test_urls(text: str, canonical: str, address: str) -> None:
    url = parse_url(text)

    assert (str(url), url.address) == (canonical, address)


def test_parts() -> None:
    url = parse_url("unixs://[::1]:7")

    assert (url.scheme, url.host, url.port, url.port_number) == ("unixs", "::1", "7", 7)
    assert (url.is_secure, url.is_unix) == (True, True)


def test_a_map_gathers_the_urls_of_a_name() -> None:
    urls = parse_url_map("b=http://b:1,a=http://a:2,,a=http://a:1")

    assert list(urls) == ["a", "b"]
    assert format_url_map(urls) == "a=http://a:1,a=http://a:2,b=http://b:1"


@pytest.mark.parametrize("text", ["a", "a=", "a=http://a"])
def test_maps_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        parse_url_map(text)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("a", "address a: missing port in address"),
        ("a:1:2", "address a:1:2: too many colons in address"),
        ("[::1", "address [::1: missing ']' in address"),
        ("[::1]", "address [::1]: missing port in address"),
        ("[::1]x:1", "address [::1]x:1: missing port in address"),
        ("[a]:1]:2", "address [a]:1]:2: too many colons in address"),
        ("a]:1", "address a]:1: unexpected ']' in address"),
    ],
)
def test_addresses_that_do_not_split(address: str, reason: str) -> None:
    """Source: Go net.SplitHostPort."""
    with pytest.raises(ValueError, match="address") as refusal:
        split_host_port(address)

    assert str(refusal.value) == reason


def test_ips() -> None:
    assert [is_ip(host) for host in ("127.0.0.1", "::1", "a", "", "fe80::1%eth0")] == [True, True, False, False, False]
