"""Ids, URLs and JSON strings, against values that etcd gave."""

from __future__ import annotations

import pytest

from balsad import go_json
from balsad.membership import cluster_id, format_id, member_id, parse_id, parse_initial_cluster, parse_urls


def test_ids_of_the_default_single_member_are_those_etcd_prints() -> None:
    """etcd's default start: member 8e9e05c52164694d in cluster cdf818194e3a8c32."""
    member = member_id(["http://localhost:2380"], "etcd-cluster")

    assert format_id(member) == "8e9e05c52164694d"
    assert format_id(cluster_id([member])) == "cdf818194e3a8c32"


def test_member_id_does_not_depend_on_the_order_of_urls() -> None:
    one = member_id(["http://b:1", "http://a:1"], "t")

    assert one == member_id(["http://a:1", "http://b:1"], "t")
    assert one != member_id(["http://a:1", "http://b:1"], "u")


def test_member_id_at_run_time_takes_the_seconds() -> None:
    """etcd TestMemberTime: the token is empty, the Unix seconds follow the URLs."""
    assert member_id(["http://10.0.0.8:2379"], "", now_s=1) != member_id(["http://10.0.0.8:2379"], "", now_s=2)
    assert member_id(["http://10.0.0.8:2379"], "", now_s=7) == member_id(["http://10.0.0.8:2379"], "7")


def test_cluster_id_orders_its_members() -> None:
    assert cluster_id([1, 2, 3]) == cluster_id([3, 1, 2]) != cluster_id([1, 2])


def test_ids_are_printed_without_padding_and_read_back() -> None:
    assert format_id(0x0ABC) == "abc"
    assert parse_id("ABC") == parse_id("00000000000000000abc") == 0xABC


@pytest.mark.parametrize("text", ["", "xyz", "0x1", "-1", " 1", "1_0", "10000000000000000"])
def test_text_that_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_id(text)


def test_urls_are_trimmed_and_sorted() -> None:
    assert parse_urls([" http://b:2", "http://a:1", "unix://m:1"]) == ("http://a:1", "http://b:2", "unix://m:1")
    assert parse_urls(["HTTPS://[::1]:2380"]) == ("https://[::1]:2380",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("127.0.0.1:2380", 'parse "127.0.0.1:2380": first path segment in URL cannot contain colon'),
        ("localhost:2380", "URL scheme must be http, https, unix, or unixs: localhost:2380"),
        ("ftp://a:1", "URL scheme must be http, https, unix, or unixs: ftp://a:1"),
        ("http://a", 'URL address does not have the form "host:port": http://a'),
        ("http://a:1/x", "URL must not contain a path: http://a:1/x"),
        ("http://a:1/", "URL must not contain a path: http://a:1/"),
        ("http://a:b", 'parse "http://a:b": invalid port ":b" after host'),
    ],
)
def test_bad_urls_are_refused_in_etcds_words(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_urls([text])

    assert str(caught.value) == words


def test_no_url_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="no valid URLs given"):
        parse_urls([])


def test_initial_cluster_gathers_the_urls_of_a_name() -> None:
    """etcd TestParseInitialCluster."""
    found = parse_initial_cluster("m1=http://a:2,m2=http://b:1,m1=http://a:1")

    assert found == {"m1": ("http://a:1", "http://a:2"), "m2": ("http://b:1",)}


def test_go_json_strings() -> None:
    """Go encoding/json: HTML characters and line separators escaped, bytes that are no UTF-8 replaced."""
    assert go_json.quote('a"b\\c<d>&\b\f\n\x7fä\u2028') == (
        '"a\\"b\\\\c\\u003cd\\u003e\\u0026\\u0008\\u000c\\n\x7fä\\u2028"'
    )
    assert go_json.quote(b"\xff\xe2\x82".decode("utf-8", "surrogateescape")) == '"\\ufffd\\ufffd\\ufffd"'
    assert go_json.string_array([]) == "null"
    assert go_json.string_array(["a", "b"]) == '["a","b"]'
