"""etcd's bucket names and values."""

from __future__ import annotations

from pathlib import Path

import pytest

from balsad.env.real import RealDisk
from balsad.proto import rpc_pb2
from balsad.raft.messages import ConfState
from balsad.storage import Backend, schema


@pytest.fixture
def backend(tmp_path: Path) -> Backend:
    backend = Backend.open(RealDisk(), str(tmp_path / "db"), sync=False)
    schema.create_all_buckets(backend)
    return backend


def test_revision_keys() -> None:
    """Source: etcd mvcc/revision.go."""
    key = schema.encode_revision(258, 3)

    assert key == bytes.fromhex("0000000000000102 5f 0000000000000003")
    assert schema.decode_revision(key) == (258, 3, False)
    assert schema.decode_revision(key + b"t") == (258, 3, True)


@pytest.mark.parametrize("key", [b"", b"short", bytes(17), schema.encode_revision(1, 1) + b"x"])
def test_other_keys_are_no_revisions(key: bytes) -> None:
    with pytest.raises(ValueError, match="not a revision"):
        schema.decode_revision(key)


def test_the_consistent_index(backend: Backend) -> None:
    assert schema.read_consistent_index(backend) == (0, 0)

    schema.write_consistent_index(backend, 0, 5)
    assert backend.get(schema.META, schema.TERM) is None
    schema.write_consistent_index(backend, 7, 2)

    assert schema.read_consistent_index(backend) == (7, 2)
    assert backend.get(schema.META, b"consistent_index") == b"\0\0\0\0\0\0\0\7"
    assert backend.get(schema.META, b"term") == b"\0\0\0\0\0\0\0\2"


def test_the_conf_state_is_gos_json(backend: Backend) -> None:
    assert schema.read_conf_state(backend) is None
    schema.write_conf_state(backend, ConfState(voters=(7383792418829112008,)))

    # As the real etcd 3.5.1 left it behind.
    assert backend.get(schema.META, b"confState") == b'{"voters":[7383792418829112008],"auto_leave":false}'
    joint = ConfState((1, 2), (3,), (1,), (4,), True)
    value = schema.encode_conf_state(joint)
    assert value == b'{"voters":[1,2],"learners":[3],"voters_outgoing":[1],"learners_next":[4],"auto_leave":true}'
    assert schema.decode_conf_state(value) == joint


@pytest.mark.parametrize("value", [b"", b"[]", b'{"voters":[1', b'{"voters":["a"]}', b'{"voters":3}'])
def test_a_broken_conf_state_is_an_error(value: bytes) -> None:
    with pytest.raises(ValueError):
        schema.decode_conf_state(value)


def test_alarms(backend: Backend) -> None:
    """The key is the protobuf, zero fields left out, the value is empty."""
    for member_id, alarm in ((0, 0), (1, 1), (2**64 - 1, 2), (300, 0), (0, 1)):
        message = rpc_pb2.AlarmMember(memberID=member_id, alarm=alarm)
        assert schema.encode_alarm(member_id, alarm) == message.SerializeToString()
        assert schema.decode_alarm(message.SerializeToString()) == (member_id, alarm)
    schema.write_alarm(backend, 300, 1)
    schema.write_alarm(backend, 5, 2)

    backend.commit()
    assert schema.read_alarms(backend) == [(5, 2), (300, 1)]
    schema.delete_alarm(backend, 5, 2)
    assert schema.read_alarms(backend) == [(300, 1)]
    with pytest.raises(ValueError, match="not an AlarmMember"):
        schema.decode_alarm(b"\x1a\x00")
