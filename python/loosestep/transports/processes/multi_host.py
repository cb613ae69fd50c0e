"""Collectives where there are several hosts: by messages alone, or hierarchical."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loosestep import _core
from loosestep.lowering.hierarchical import PHASES
from loosestep.lowering.requests import IntraHost
from loosestep.transports.processes.collective_slots import CollectiveSlot, CollectiveSlots
from loosestep.transports.processes.components import Collectives
from loosestep.transports.processes.hosts import cores_for
from loosestep.transports.processes.mapping import Memories, map_collectives, place

if TYPE_CHECKING:
    from loosestep.requests import Buffer, Group
    from loosestep.transports.processes.components import Background, Handlers
    from loosestep.transports.processes.mailbox import Operations
    from loosestep.transports.processes.progress import BlockingCalls


class Messages(Collectives):
    """No collectives of its own: all are lowered to messages."""

    hosted, grouped = False, True

    def __init__(self) -> None:
        self.operations: Operations = {}
        self.slots = ()
        self.memories = Memories(())

    def open(self, calls: BlockingCalls) -> None:
        """Make nothing."""

    def place(self, values: Buffer) -> Buffer:
        """Return the vector: no other rank reaches it."""
        return values

    @property
    def handlers(self) -> Handlers:
        """Return nothing: all collectives are lowered."""
        return {}

    @property
    def background(self) -> Background:
        """Return nothing."""
        return {}


class Hierarchical(Collectives):
    """Collectives within each host in memory that its workers map, between hosts by messages of their leaders."""

    hosted, grouped = False, True

    def __init__(self, group: Group) -> None:
        self.group = group
        self.slots: CollectiveSlots = CollectiveSlots()
        self.operations: Operations = {IntraHost: self.slots.enter}
        self.memories = Memories(group)

    def open(self, calls: BlockingCalls) -> None:
        """Map a slot for each phase. The progress thread sees all of them at once."""
        self.calls = calls
        for phase in range(PHASES):
            self.memories.hosts.append(map_collectives(calls, self.group, _core.Host, f"phase {phase}"))
        self.slots.extend(CollectiveSlot(host, self.group) for host in self.memories.hosts)
        self.memories.spins = cores_for(calls, self.group) >= len(self.group)

    def place(self, values: Buffer) -> Buffer:
        """Return a flat copy of a vector in memory that its host maps, if it is large; else the vector itself."""
        return place(self.calls, self.memories, values, None)

    def perform(self, request: IntraHost) -> None:
        """Carry out a phase by itself."""
        self.calls.perform(request)

    @property
    def handlers(self) -> Handlers:
        """Return what performs a phase by itself; in a lowered collective the progress engine begins it."""
        return {IntraHost: self.perform}

    @property
    def background(self) -> Background:
        """Return nothing: what is started is lowered."""
        return {}
