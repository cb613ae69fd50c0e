"""Memory that processes of one host map: made by the first, opened by the others, nameless from then on."""

from __future__ import annotations

import os
import time
from math import inf
from typing import TYPE_CHECKING, Any

from loosestep import _core

if TYPE_CHECKING:
    from collections.abc import Callable

    from loosestep.requests import Group
    from loosestep.transports.processes.arena import Arena
    from loosestep.transports.processes.forms import Forms
    from loosestep.transports.processes.progress import BlockingCalls


def map_memory(
    calls: BlockingCalls, group: Group, name: str, size: int, opened: Callable[[str | int, bool], Any]
) -> Any:
    """Create shared memory on the host's first rank and map it on all; every rank of the run calls this.

    The file descriptor is closed once all have mapped it. opened: maps a descriptor or a path, new or not.
    """
    first = calls.rank == group[0]
    descriptor = _core.Host.make(size) if first else -1
    mine = opened(descriptor, True) if first else None
    paths = calls.all_gather_object(f"{name} at", lambda: f"/proc/{os.getpid()}/fd/{descriptor}")()
    mine = mine if first else opened(paths[group[0]], False)
    calls.barrier(f"{name} mapped")
    if first:
        os.close(descriptor)
    return mine


def map_collectives(calls: BlockingCalls, group: Group, kind: type[Any], name: str) -> Any:
    """Map memory for collectives of a group: a `Host` or a `HostLane` of the core."""
    size, me = len(group), group.index(calls.rank)
    return map_memory(calls, group, name, _core.Host.needed(size), lambda path, new: kind(path, size, me, new))


class Memories:
    """Memory for collectives of a group, as far as it is mapped. Every rank's core shows in it that it lives."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.hosts: list[_core.Host] = []
        self.queues: list[_core.HostLane] = []
        self.arena: Arena | None = None
        self.placed = self.measured = False  # it was tried to map the arena; forms were chosen
        self.spins = False  # who waits in a collective spins: there is a core for every rank of the group

    @property
    def everything(self) -> list[_core.Host | _core.HostLane]:
        """Return every memory that is mapped."""
        return [*self.hosts, *self.queues]

    @property
    def moved(self) -> int:
        """Return a count that grows whenever a collective of this rank goes on."""
        return sum(memory.moved for memory in self.everything)

    def last_heard(self, rank: int) -> float:
        """Return when the core of that rank, which goes on where Python does not, gave its last sign of life."""
        if rank not in self.group or not self.hosts:
            return -inf
        return time.monotonic() - self.hosts[0].beat_age(self.group.index(rank))

    def use(self, forms: Forms) -> None:
        """Carry out collectives in these forms from now on; every rank of the group calls it."""
        for memory in self.everything:
            memory.use(None if self.arena is None else self.arena.core, *forms, self.spins)

    def abort(self) -> None:
        """End every collective on all ranks of the group."""
        for memory in self.everything:
            memory.abort()

    def close(self) -> None:
        """Give the memory back."""
        for memory in self.everything:
            memory.close()
        if self.arena is not None:
            self.arena.close()
