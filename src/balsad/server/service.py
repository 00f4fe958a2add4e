"""The facade the edges call: one method per request.

A method either answers at once, or puts the request on its way and answers
through its Call (or callback) when the log, or the quorum, has had its say.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Protocol

from balsad.errors import (
    BadLeaderTransfereeError,
    NoLeaderError,
    NoSpaceError,
    NotLeaderError,
    RequestError,
    UnknownError,
)
from balsad.proto import raft_internal_pb2, rpc_pb2
from balsad.server.alarms import NOSPACE
from balsad.server.apply.dispatch import PLAIN_PUT, PLAIN_TXN
from balsad.server.downgrades import Downgrades
from balsad.server.lease_checkpoints import LeaseCheckpoints
from balsad.server.member_changes import MemberChanges
from balsad.server.passwords import PasswordRequests
from balsad.server.propose import Pending, Result
from balsad.server.quota import KEY_COST, LEASE_COST, txn_cost
from balsad.wire import LAST, uvarint

if TYPE_CHECKING:
    from balsad.auth import AuthStore, Identity
    from balsad.config import ServerConfig
    from balsad.env import Env
    from balsad.lease import Lessor
    from balsad.membership import Cluster, Member
    from balsad.mvcc import Store
    from balsad.observe.metrics import Metrics
    from balsad.server.access import Access
    from balsad.server.alarms import Alarms
    from balsad.server.answers import HeaderBytes
    from balsad.server.apply.dispatch import Applier
    from balsad.server.backend_commits import BackendCommits
    from balsad.server.compactions import Compactions
    from balsad.server.defrags import Defrags
    from balsad.server.driver import Driver
    from balsad.server.plain_txn import PlainTxn
    from balsad.server.read_index import ReadIndex
    from balsad.server.request_ids import RequestIds
    from balsad.storage import Backend
    from balsad.transport import Call

# Field numbers of InternalRaftRequest.
FIELDS: Final[dict[str, int]] = {
    field.name: field.number for field in raft_internal_pb2.InternalRaftRequest.DESCRIPTOR.fields
}
_TAGS: Final[dict[str, bytes]] = {name: uvarint(number << 3 | 2) for name, number in FIELDS.items()}
_HEADER: Final = 100
log = logging.getLogger(__name__)

_POSITIVE: Final = (1 << 63) - 1


class LeaderLeases(Protocol):
    """The leases as the leader knows them, asked by a follower."""

    def renew(self, lease_id: int, done: Callable[[int], None], failed: Callable[[RequestError], None]) -> None: ...

    def times(
        self,
        lease_id: int,
        with_keys: bool,
        done: Callable[[int, int, Iterable[bytes]], None],
        failed: Callable[[RequestError], None],
    ) -> None: ...


class Service:
    """One member, seen from its API."""

    def __init__(
        self,
        *,
        config: ServerConfig,
        env: Env,
        backend: Backend,
        store: Store,
        lessor: Lessor,
        alarms: Alarms,
        applier: Applier,
        driver: Driver,
        read_index: ReadIndex,
        cluster: Cluster,
        header: HeaderBytes,
        request_ids: RequestIds,
        compactions: Compactions,
        commits: BackendCommits,
        defrags: Defrags,
        auth: AuthStore,
        access: Access,
        member_id: int,
        cluster_id: int,
        metrics: Metrics,
    ) -> None:
        self.config = config
        self.metrics = metrics
        self.env = env
        self.backend = backend
        self.store = store
        self.lessor = lessor
        self.alarms = alarms
        self.applier = applier
        self.driver = driver
        self.cluster = cluster
        self.header = header
        self.member_id = member_id
        self.cluster_id = cluster_id
        self.auth = auth
        self.access = access
        self.reads_are_local = False
        self.reads_are_free = False  # and nobody is asked who they are
        self.feed_watchers: Callable[[], None] = _nothing  # some watcher may be behind
        self._quota = applier.quota
        self.reads = read_index
        self._ids = request_ids
        self._compactions = compactions
        self._commits = commits
        self._defrags = defrags
        self._monotonic = env.clock.monotonic
        self.member_changes = MemberChanges(self)
        self.passwords = PasswordRequests(self)
        self.lease_checkpoints = LeaseCheckpoints(self)
        self.downgrades = Downgrades(self)
        auth.on_switch = self._note_local_reads
        # Followers ask the leader; set where there are others to ask.
        self.leader_leases: LeaderLeases | None = None
        self.ask_leader_to_promote: Callable[[int, Callable[[RequestError | None], None]], None] | None = None
        applier.raise_nospace = self._raise_nospace

    # Writes.

    def put_plain(self, call: Call, raw: bytes, key: bytes, value_at: int) -> None:
        """A put of key and value alone; `raw` is the request as it came. The hot way in."""
        quota = self._quota
        size = len(raw)
        if quota.limit_bytes >= 0 and self.backend.size + KEY_COST + size >= quota.limit_bytes:
            self.put(call, rpc_pb2.PutRequest.FromString(raw))
            return
        request_id, id_field = self._ids.next_field()
        pending = Pending(request_id, call, None, PLAIN_PUT, None, key, raw, value_at)
        self.driver.propose(b"\x22%b%b%b" % (LAST[size] if size < 16384 else uvarint(size), raw, id_field), pending)

    def put(self, call: Call, request: rpc_pb2.PutRequest) -> None:
        if self._has_room(KEY_COST + len(request.key) + len(request.value), call):
            self._submit("put", request, call)

    def txn(self, call: Call, request: rpc_pb2.TxnRequest) -> None:
        if self._has_room(txn_cost(request), call):
            self._submit("txn", request, call)

    def txn_plain(self, call: Call, raw: bytes, request: PlainTxn) -> None:
        """A txn that was read from `raw`, the request as it came, which goes into the log."""
        if not self._quota.available(request.cost):
            self.txn(call, rpc_pb2.TxnRequest.FromString(raw))
            return
        size = len(raw)
        request_id, id_field = self._ids.next_field()
        pending = Pending(request_id, call, None, PLAIN_TXN, request, b"", raw)
        self.driver.propose(b"\x32%b%b%b" % (LAST[size] if size < 16384 else uvarint(size), raw, id_field), pending)

    def delete_range(self, call: Call, request: rpc_pb2.DeleteRangeRequest) -> None:
        self._submit("delete_range", request, call)

    def lease_grant(self, call: Call, request: rpc_pb2.LeaseGrantRequest) -> None:
        if not self._has_room(LEASE_COST, call):
            return
        while request.ID == 0:
            request.ID = self._ids.next() & _POSITIVE
        self._submit("lease_grant", request, call)

    def lease_revoke(self, call: Call, request: rpc_pb2.LeaseRevokeRequest) -> None:
        self._submit("lease_revoke", request, call)

    def alarm(self, call: Call, request: rpc_pb2.AlarmRequest) -> None:
        self._submit("alarm", request, call)

    def compact(self, call: Call, request: rpc_pb2.CompactionRequest) -> None:
        """Answers when the compaction is scheduled; when `physical`, once the keys are gone from the disk."""

        def answer(result: Result) -> None:
            if isinstance(result, RequestError):
                call.fail(result.code, result.text)
            elif request.physical:
                self._compactions.when_done(lambda: call.respond(self.header.at(self.store.current_revision)))
            else:
                call.respond(result)

        self._submit("compaction", request, call, answer)

    def auth_request(self, field: str, request: Any, call: Call) -> None:
        """A request about users, roles or authentication itself."""
        self._submit(field, request, call)

    def propose(
        self, field: str, request: Any, done: Callable[[Result], None], *, only_as_leader: bool = False
    ) -> None:
        """A request the member makes itself; `only_as_leader`: not if another leads by then. Raises: RequestError."""
        # Only to revoke a lease does it need permission for what hangs on it.
        who = self.access.root if field == "lease_revoke" else None
        self._propose(field, request, None, done, who, only_as_leader=only_as_leader)

    def propose_raw(self, data: bytes, request_id: int, done: Callable[[Result], None]) -> None:
        """An entry in a form of its own (a v2 Request) under an id from `next_id`."""
        self.driver.propose(data, Pending(request_id, None, done))

    def next_id(self) -> int:
        return self._ids.next()

    def _submit(self, field: str, request: Any, call: Call, done: Callable[[Result], None] | None = None) -> None:
        """Propose it on behalf of whoever calls; `done` gets the result in place of the call."""
        if self.access.must_identify(call):
            self.access.identify(call, lambda who: self._propose(field, request, call, done, who))
        else:
            self._propose(field, request, call, done, None)

    def _propose(
        self,
        field: str,
        request: Any,
        call: Call | None,
        done: Callable[[Result], None] | None,
        who: Identity | None,
        *,
        only_as_leader: bool = False,
    ) -> None:
        request_id = self._ids.next()
        header = b"\x08" + uvarint(request_id)
        if who is not None:
            if who.username:
                username = who.username.encode()
                header += b"\x12%b%b" % (uvarint(len(username)), username)
            if who.revision:
                header += b"\x18" + uvarint(who.revision)
        # What a client wrote into a field of another type, or into one unknown here, might be read otherwise
        # by other members: every member is to read in the log what was understood here, and nothing else.
        request.DiscardUnknownFields()
        message = request.SerializeToString()
        body = b"%b%b%b" % (_TAGS[field], uvarint(len(message)), message)
        head = b"%b%b%b" % (_TAGS["header"], uvarint(len(header)), header)
        # In the order of the field numbers, as etcd writes them.
        data = body + head if FIELDS[field] < _HEADER else head + body
        pending = Pending(request_id, call, done, field, request, identity=who)
        self.driver.propose(data, pending, only_as_leader=only_as_leader)

    # Space.

    def _has_room(self, cost: int, call: Call) -> bool:
        """Whether the backend can take `cost` bytes; if not, the alarm is raised and the call refused."""
        if self._quota.available(cost):
            return True

        def refuse() -> None:
            call.fail(NoSpaceError.code, NoSpaceError.message)

        self._raise_nospace(refuse)
        return False

    def _raise_nospace(self, done: Callable[[], None]) -> None:
        request = rpc_pb2.AlarmRequest(
            action=rpc_pb2.AlarmRequest.ACTIVATE,
            memberID=self.member_id,
            alarm=NOSPACE,  # type: ignore[arg-type]
        )
        try:
            self.propose("alarm", request, lambda _: done())
        except RequestError:
            done()

    # Reads.

    def linearize(self, done: Callable[[RequestError | None], None]) -> None:
        """Call `done(None)` once a read of the local store is linearizable, `done(error)` when it can't be."""
        if self.reads_are_local:
            done(None)
        else:
            self.reads.read(done, self._monotonic())

    def make_sure_to_lead(self, done: Callable[[RequestError | None], None]) -> None:
        """Call `done(None)` once this leader knows that no other was elected meanwhile, `done(error)` if it can't."""
        if self.driver.leads_surely:
            done(None)
        else:
            self.linearize(done)

    def on_leader(self) -> None:
        """The leader, or our own role, changed."""
        if not self.driver.is_leader and self.lessor.is_primary:
            # Only a leader may say that a lease is over.
            self.lessor.demote()
        self._note_local_reads()

    def on_empty_entry(self) -> None:
        """A leader's first entry was applied: what was committed before is known to be applied here."""
        driver = self.driver
        if driver.is_leader:
            self.lessor.promote(self.config.election_timeout_s, self._monotonic())
        self._note_local_reads()

    def on_voters(self) -> None:
        """Voters came or went: whoever was alone may not be any more, and has to ask from now on."""
        self._note_local_reads()

    def _note_local_reads(self) -> None:
        # The only voter needs no quorum's word: it has applied all of which anybody was told.
        driver = self.driver
        self.reads_are_local = (
            driver.is_leader
            and self.applier.conf_state.voters == (self.member_id,)
            and not self.applier.conf_state.voters_outgoing
            and self.applier.applied_term == driver.hard_state.term
        )
        self.reads_are_free = self.reads_are_local and not self.auth.enabled

    # What is known here.

    @property
    def leader(self) -> int:
        return self.driver.leader

    @property
    def term(self) -> int:
        return self.driver.hard_state.term

    @property
    def is_learner(self) -> bool:
        member = self.cluster.member(self.member_id)
        return member is not None and member.is_learner

    @property
    def cluster_version(self) -> str:
        """`3.5.0`; empty while it is not decided."""
        version = self.cluster.version
        return "" if version is None else str(version)

    def members(self) -> list[Member]:
        return self.cluster.members()

    def check_leader(self) -> None:
        """Raises: NoLeaderError."""
        if self.driver.leader == 0:
            raise NoLeaderError

    def promote_member(self, member_id: int, done: Callable[[RequestError | None], None]) -> None:
        """Make a voter of a learner, by asking the leader when another member is that. Raises: RequestError."""
        if not self.driver.is_leader and self.ask_leader_to_promote is not None:
            self.ask_leader_to_promote(member_id, done)
        else:
            self.member_changes.promote(member_id, done)

    def move_leader(self, target: int, done: Callable[[RequestError | None], None]) -> None:
        """Hand leadership to `target`; `done` hears once it has it, or that it took too long.

        Raises: NotLeaderError, BadLeaderTransfereeError.
        """
        driver = self.driver
        if not driver.is_leader:
            raise NotLeaderError
        member = self.cluster.member(target)
        if member is None or member.is_learner:
            raise BadLeaderTransfereeError
        if target == self.member_id:
            done(None)
            return
        log.info(
            "leadership transfer starting",
            extra={"current-leader-member-id": f"{self.member_id:x}", "transferee-member-id": f"{target:x}"},
        )
        driver.node.transfer_leader(target)
        driver.wake()
        give_up_at = self._monotonic() + self.config.request_timeout_s
        loop = asyncio.get_running_loop()

        def look() -> None:
            if driver.leader == target:
                done(None)
            elif self._monotonic() >= give_up_at:
                done(UnknownError("etcdserver: request timed out, leader transfer took too long"))
            else:
                loop.call_later(self.config.tick_s, look)

        look()

    def longest_connected(self) -> int:
        """The other voter this member has been connected to for longest; 0 when there is none."""
        best, since = 0, 0.0
        for voter in self.cluster.voters():
            active = self.driver.links.active_since(voter.id) if voter.id != self.member_id else 0.0
            if active and (not best or active < since):
                best, since = voter.id, active
        return best

    # The backend.

    def commit_then(self, done: Callable[[], None]) -> None:
        """Call `done` once what was applied by now is in the db file and no commit is under way."""
        self._commits.commit_then(done)

    @property
    def is_defragmenting(self) -> bool:
        return self._defrags.is_running

    def defragment(self, done: Callable[[], None], failed: Callable[[str], None]) -> None:
        """Write the db file anew, without its free pages; all else goes on meanwhile."""
        self._defrags.start(done, failed)

    def expect_rush(self) -> None:
        """Much is about to be written to the disk, here or by whom it is sent to."""
        self.driver.expect_rush()


def _nothing() -> None:
    pass
