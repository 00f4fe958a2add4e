"""What nobody outside can see, and what must hold all the same, at every step.

One leader a term (Raft: election safety). Whoever applies an index applies the same entry (state
machine safety), also a member that applies it again after a restart, and has the same revision and members then.
What was applied anywhere was not only said to be committed: it never changes.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from balsad.raft import ConfState
    from balsad.server.member import Member
    from balsad.sim.machine import Machine
    from balsad.sim.world import World


class Witness:
    def __init__(self, world: World) -> None:
        self._world = world
        self.leaders: dict[int, int] = {}  # by term
        self.entries: dict[int, tuple[int, int]] = {}  # by index: term, checksum
        self.revisions: dict[int, int] = {}  # by index: the store's once it is applied
        self.configurations: dict[int, ConfState] = {}  # by index: raft's once it is applied

    def attend(self, machine: Machine, member: Member) -> None:
        """Look over a member's shoulder for its life."""
        driver = member.driver
        on_applied, on_leader = driver.on_applied, driver.on_leader
        seen = member.applier.applied_index

        def applied() -> None:
            nonlocal seen
            index = member.applier.applied_index
            if index > seen:
                self._check_applied(machine, member, seen + 1, index)
                seen = index
            if on_applied is not None:
                on_applied()

        def leader() -> None:
            self._check_leader(machine, member)
            if on_leader is not None:
                on_leader()

        driver.on_applied = applied
        driver.on_leader = leader

    def _check_leader(self, machine: Machine, member: Member) -> None:
        driver = member.driver
        if not driver.is_leader:
            return
        term = driver.node.raft.term
        other = self.leaders.setdefault(term, driver.member_id)
        if other != driver.member_id:
            self._world.violation(f"two leaders in term {term}: {other:x} and {machine.name}")

    def _check_applied(self, machine: Machine, member: Member, first: int, last: int) -> None:
        log = member.booted.log_storage
        first = max(first, log.first_index())
        if first <= last:
            for entry in log.entries(first, last + 1, 1 << 62):
                said = (entry.term, zlib.crc32(entry.data, entry.type))
                known = self.entries.setdefault(entry.index, said)
                if known != said:
                    self._world.violation(
                        f"{machine.name} applied another entry at index {entry.index}: "
                        f"term {said[0]} checksum {said[1]:x}, before term {known[0]} checksum {known[1]:x}"
                    )
        configuration = member.driver.node.raft.tracker.config.conf_state()
        known_configuration = self.configurations.setdefault(last, configuration)
        if known_configuration != configuration:
            self._world.violation(
                f"{machine.name} has other members after index {last}: {configuration}, "
                f"before it was {known_configuration}"
            )
        if member.applier.consistent_index == last:
            # An index the backend was already past is skipped: then the store is from later.
            revision = member.store.current_revision
            known_revision = self.revisions.setdefault(last, revision)
            if known_revision != revision:
                self._world.violation(
                    f"{machine.name} is at revision {revision} after index {last}, before it was {known_revision}"
                )
