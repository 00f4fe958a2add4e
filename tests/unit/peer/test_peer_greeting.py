"""Who may speak with whom, by their headers."""

from __future__ import annotations

import pytest

from balsad.peer.greeting import (
    BadGreetingError,
    Identity,
    Refusal,
    check_greeting,
    sender_of,
    speaks_streams,
)

ME = Identity(0xA1, 0xC1, ["http://a:1", "http://a:2"])


def greeting(**changes: str) -> dict[str, str]:
    headers = {name.lower(): value for name, value in Identity(0xB2, 0xC1, ["http://b:1"]).stream_headers(0xA1).items()}
    headers.update({name.replace("_", "-"): value for name, value in changes.items()})
    return {name: value for name, value in headers.items() if value}


def test_headers_are_those_that_etcd_sends() -> None:
    """Recorded from etcd 3.5.1."""
    assert ME.stream_headers(0xB2) == {
        "X-Etcd-Cluster-Id": "c1",
        "X-Min-Cluster-Version": "3.0.0",
        "X-Peerurls": "http://a:1,http://a:2",
        "X-Raft-To": "b2",
        "X-Server-From": "a1",
        "X-Server-Version": "3.5.1",
    }
    assert ME.post_headers("application/protobuf")["Content-Type"] == "application/protobuf"


@pytest.mark.parametrize("version", ["3.0.0", "3.4.18", "3.5.1", "3.5.33", "3.6.0", "3.7.1-alpha.0+x", "4.0.0"])
def test_versions_that_may_mix(version: str) -> None:
    check_greeting(ME, greeting(x_server_version=version))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"x_server_version": "2.3.8"}, "incompatible version"),
        ({"x_server_version": ""}, "incompatible version"),
        ({"x_min_cluster_version": "3.6.0"}, "incompatible version"),
        ({"x_etcd_cluster_id": "c2"}, "cluster ID mismatch"),
        ({"x_etcd_cluster_id": ""}, "cluster ID mismatch"),
        ({"x_etcd_cluster_id": "0c1"}, "cluster ID mismatch"),
        ({"x_server_version": "2.3.8", "x_etcd_cluster_id": "c2"}, "incompatible version"),
    ],
)
def test_refused(changes: dict[str, str], text: str) -> None:
    with pytest.raises(Refusal) as refused:
        check_greeting(ME, greeting(**changes))
    assert (refused.value.status, refused.value.text) == (412, text)


@pytest.mark.parametrize("version", ["3", "3.5", "v3.5.1", "3.5.x", "-1.0.0", "9" * 5000 + ".0.0"])
def test_versions_that_are_none(version: str) -> None:
    with pytest.raises(BadGreetingError):
        check_greeting(ME, greeting(x_server_version=version))


def test_who_has_streams() -> None:
    assert speaks_streams({"x-server-version": "2.1.0"})
    assert speaks_streams({"x-server-version": "3.9.0"})
    assert not speaks_streams({"x-server-version": "2.0.9"})
    assert not speaks_streams({})


def test_the_sender_tells_where_it_is() -> None:
    assert sender_of(greeting(x_peerurls="http://b:1,http://b:2")) == (0xB2, ["http://b:1", "http://b:2"])
    assert sender_of(greeting(x_peerurls="")) is None
    assert sender_of(greeting(x_server_from="zz")) is None
    assert sender_of(greeting(x_server_from="1" * 17)) is None
