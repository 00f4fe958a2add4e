"""Ids and JSON strings, against values that etcd gave."""

from __future__ import annotations

import pytest

from balsad import go_json
from balsad.membership import cluster_id, format_id, member_id, parse_id, parse_urls


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


def test_urls_are_sorted_texts() -> None:
    assert parse_urls([" http://b:2", "http://a:1"]) == ("http://a:1", "http://b:2")
    with pytest.raises(ValueError, match="no valid URLs given"):
        parse_urls([])
    with pytest.raises(ValueError, match="first path segment in URL cannot contain colon"):
        parse_urls(["127.0.0.1:2380"])


def test_go_json_strings() -> None:
    """Go encoding/json: HTML characters and line separators escaped, bytes that are no UTF-8 replaced."""
    assert go_json.quote('a"b\\c<d>&\b\f\n\x7fä\u2028') == (
        '"a\\"b\\\\c\\u003cd\\u003e\\u0026\\u0008\\u000c\\n\x7fä\\u2028"'
    )
    assert go_json.quote(b"\xff\xe2\x82".decode("utf-8", "surrogateescape")) == '"\\ufffd\\ufffd\\ufffd"'
    assert go_json.string_array([]) == "null"
    assert go_json.string_array(["a", "b"]) == '["a","b"]'
