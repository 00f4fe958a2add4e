"""A db whose pages are sound and whose contents are not: keys, values and members that no member ever wrote.

Whoever opens it says what is wrong in the words of its room, or takes it and then serves: a member that starts on it,
the offline tools, and a restore, whose result starts.
"""

from __future__ import annotations

from functools import cache
from pathlib import PurePosixPath
from typing import Final

from balsad.config import StartError
from balsad.ops.errors import OpsError
from balsad.ops.hashkv import hashkv
from balsad.ops.restore import RestoreOptions, snapshot_restore
from balsad.ops.snapshot_status import snapshot_status
from balsad.proto import rpc_pb2 as rpc
from balsad.storage import Backend, StorageError, schema
from tests.fuzz.engine import Target
from tests.fuzz.member_targets import Caller, House, is_answered
from tests.property.memory_disk import Inode
from tests.unit.storage.bolt_disks import MappingDisk

_FOLDER: Final = "/node"
_DB: Final = f"{_FOLDER}/data/member/snap/db"
_BUCKETS: Final = (
    *(schema.KEY, schema.META, schema.LEASE, schema.ALARM, schema.CLUSTER, schema.MEMBERS, schema.MEMBERS_REMOVED),
    *(schema.AUTH, schema.AUTH_USERS, schema.AUTH_ROLES),
)


class SmallDisk(MappingDisk):
    """Has no room for a whole segment of the log ahead, and makes folders with those above them."""

    def makedirs(self, path: str, mode: int = 0o700) -> None:
        for parent in reversed(PurePosixPath(path).parents):
            super().makedirs(str(parent), mode)
        super().makedirs(path, mode)

    def fallocate(self, fd: int, offset: int, length: int) -> None:
        super().fallocate(fd, offset, min(length, 1 << 16))


@cache
def _names() -> dict[str, bytes | None]:
    """The files of a member in whose db there is something of everything."""
    disk = MappingDisk()
    disk.makedirs(_FOLDER)
    house = House(disk)
    try:
        assert house.turn_until(lambda: house.life.ready)
        client = Caller(house)
        asked = [
            client.call(f"/etcdserverpb.{name}", request.SerializeToString())
            for name, request in (
                ("Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=7, TTL=60)),
                *(("KV/Put", rpc.PutRequest(key=b"k%d" % number, value=b"v")) for number in range(4)),
                ("KV/Put", rpc.PutRequest(key=b"k1", value=b"w", lease=7)),
                ("KV/DeleteRange", rpc.DeleteRangeRequest(key=b"k2")),
                ("KV/Compact", rpc.CompactionRequest(revision=3, physical=True)),
                ("Auth/RoleAdd", rpc.AuthRoleAddRequest(name="r")),
                ("Auth/UserAdd", rpc.AuthUserAddRequest(name="u", password="p")),
                ("Auth/UserGrantRole", rpc.AuthUserGrantRoleRequest(user="u", role="r")),
                ("Maintenance/Alarm", rpc.AlarmRequest(action=rpc.AlarmRequest.ACTIVATE, alarm=rpc.NOSPACE)),
            )
        ]
        for each in asked:
            assert house.turn_until(lambda each=each: is_answered(client, each))
        house.member.booted.backend.commit()
        return {name: None if inode is None else bytes(inode.content) for name, inode in disk.names.items()}
    finally:
        house.close()


def _disk(data: bytes) -> SmallDisk:
    """The same files, but for changes: bucket, item, what to do with it, a length, and so many bytes."""
    disk = SmallDisk()
    for name, content in _names().items():
        disk.names[name] = None if content is None else Inode()
        if content is not None:
            disk.names[name].content[:] = disk.names[name].durable[:] = content  # type: ignore[union-attr]
    backend = Backend.open(disk, _DB)
    at = 0
    while at + 4 <= len(data):
        bucket, item, how, size = data[at : at + 4]
        words = data[at + 4 : at + 4 + size % 64]
        at += 4 + size % 64
        _change(backend, _BUCKETS[bucket % len(_BUCKETS)], item, how % 5, words)
    backend.commit()
    backend.close()
    return disk


def _change(backend: Backend, bucket: bytes, item: int, how: int, words: bytes) -> None:
    items = backend.scan(bucket, b"", None)
    key, value = items[item % len(items)] if items else (b"new", b"")
    if how == 0:
        backend.put(bucket, key, words)
    elif how == 1 and words:
        # Some bytes of the value are others.
        place = words[0] % (len(value) + 1)
        backend.put(bucket, key, value[:place] + words[1:] + value[place + len(words) - 1 :])
    elif how == 2:
        backend.delete(bucket, key)
    elif how == 3 and words:
        backend.put(bucket, words[:17], value)
    elif words:
        place = words[0] % (len(key) + 1)
        changed = key[:place] + words[1:] + key[place + len(words) - 1 :]
        if changed:
            backend.put(bucket, changed, value)


def _check_contents(data: bytes) -> str:
    outcome = _start(_disk(data))
    others = _ask_tools(_disk(data)), _restore(_disk(data))
    return f"{outcome[:40]} {' '.join(other[:8] for other in others)}"


def _ask_tools(disk: MappingDisk) -> str:
    outcome = "tools"
    for ask in (lambda: snapshot_status(_DB, disk), lambda: hashkv(_DB, 0, disk)):
        try:
            ask()
        except OpsError as error:
            assert str(error)
            outcome = f"refused: {str(error).replace(_DB, '')}"
    return outcome


def _restore(disk: MappingDisk) -> str:
    options = RestoreOptions(
        snapshot_path=_DB,
        data_dir="/other/data",
        skip_hash_check=True,
        initial_cluster="default=http://127.0.0.1:1",
        initial_advertise_peer_urls="http://127.0.0.1:1",
    )
    disk.makedirs("/other")
    try:
        snapshot_restore(options, disk=disk, resolve=lambda address: address)
    except OpsError as error:
        return f"refused: {error}"
    assert disk.exists("/other/data/member/wal")
    return "restored, " + _start(disk, "/other")


def _start(disk: MappingDisk, folder: str = _FOLDER) -> str:
    """A member on these files: refused in one line, or it serves."""
    try:
        house = House(disk, folder)
    except (StartError, StorageError) as error:
        return f"refused: {str(error).replace(_DB, '')}"
    try:
        house.turn_until(lambda: house.life.ready or house.life.failures)
        for failure in house.life.failures:
            assert isinstance(failure, StorageError | StartError), failure
            return f"refused later: {failure}"
        assert house.life.ready, "it neither starts nor says why"
        return _ask(house)
    finally:
        house.close()


def _ask(house: House) -> str:
    client = Caller(house)
    asked = [
        client.call(f"/etcdserverpb.{name}", request.SerializeToString())
        for name, request in (
            ("KV/Range", rpc.RangeRequest(key=b"\0", range_end=b"\0")),
            ("KV/Range", rpc.RangeRequest(key=b"\0", range_end=b"\0", revision=4)),
            ("Lease/LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=7, keys=True)),
            ("Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=7)),
            ("Lease/LeaseLeases", rpc.LeaseLeasesRequest()),
            ("Auth/UserGet", rpc.AuthUserGetRequest(name="u")),
            ("Auth/RoleGet", rpc.AuthRoleGetRequest(role="r")),
            ("Auth/UserList", rpc.AuthUserListRequest()),
            ("Cluster/MemberList", rpc.MemberListRequest()),
            ("Maintenance/HashKV", rpc.HashKVRequest()),
            ("Maintenance/Alarm", rpc.AlarmRequest(action=rpc.AlarmRequest.DEACTIVATE, alarm=rpc.NOSPACE)),
            ("KV/Compact", rpc.CompactionRequest(revision=5)),
            ("KV/Put", rpc.PutRequest(key=b"k", value=b"more")),
            ("Maintenance/Defragment", rpc.DefragmentRequest()),
        )
    ]

    def all_answered() -> bool:
        answers = client.answers
        return all(each in answers and answers[each].ended for each in asked)

    answered = house.turn_until(lambda: all_answered() or house.life.failures)
    for failure in house.life.failures:
        # What nobody looked at before it was asked for is named when it is met, and the member stops.
        assert isinstance(failure, StorageError), failure
        return f"refused when asked: {failure}"
    for complaint in house.complaints:
        # It goes to the log, and the connection is closed.
        assert complaint.startswith(("StorageError(", "CorruptDatabaseError(")), complaint
        return f"refused when asked: {complaint}"
    assert answered, [each for each in asked if each not in client.answers]
    answers = client.answers
    return "serves " + "".join("x" if answers[each].status else "o" for each in asked)


def _changes() -> list[bytes]:
    return [b"", bytes((0, 1, 1, 3, 2, 8, 1)), bytes((1, 0, 0, 2, 0, 1)), bytes((2, 0, 2, 0))]


_ITEM_WORDS: Final = (
    *(bytes(8), b"\xff" * 8, bytes(8) + b"_" + bytes(8), b"\0" * 7 + b"\x05_" + bytes(8) + b"t", b"{", b"}", b"null"),
    *(b"3.5.0", b"9.9.9", b"\x08\x07", b"\x0a\x01a", b"\x12\x00", b"\x80" * 9, b'{"id":1}', b"consistent_index"),
    *(b"confState", b"finishedCompactRev", b"scheduledCompactRev", b"authRevision", b"authEnabled", b"\1"),
)

CONTENTS: Final = (Target("db_contents", _check_contents, _changes, _ITEM_WORDS),)
