"""Memory that processes of one host map: made by the first, opened by the others, nameless from then on."""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from loosestep import _core
from loosestep.foundation import buffers
from loosestep.lowering.host_forms import Forms, measured, of_facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from loosestep.requests import Buffer, Group
    from loosestep.transports.processes.progress import BlockingCalls

CHOSEN: dict[int, Forms] = {}
"""What this process has measured, by the number of ranks."""

MEASURED_FROM = 1 << 20
"""Bytes: vectors for which the measurement pays."""

PRIVATE = "so it is private, and collectives copy it through memory that they share"


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


class Arena:
    """This rank's part of it. What has no room there is private, which a line on standard error says once."""

    def __init__(self, core: _core.HostArena) -> None:
        self.core = core
        self.full = False
        buffers.ARENAS.append(self)

    def holds(self, array: NDArray[Any]) -> bool:
        """Return whether an array lies in this rank's part."""
        return self.core.holds(array)

    def allocate(self, size: int) -> NDArray[np.uint8] | None:
        """Return so many zeroed bytes, aligned; None where there is no room."""
        made = self.core.allocate(size)
        if made is None and not self.full:
            self.full = True
            say(f"there is no room for a buffer of {size} bytes in memory that this host's ranks share, {PRIVATE}")
        return made

    def copy_of(self, values: Buffer) -> Buffer:
        """Return a flat buffer with these values, in the arena if there is room."""
        made = buffers.zeros_in(self, values.size, values.dtype)
        made[:] = values.reshape(-1)
        return made

    def close(self) -> None:
        """Make every buffer this process's own, at the same address; they are ordinary memory from then on."""
        if self in buffers.ARENAS:
            buffers.ARENAS.remove(self)
        self.core.close()


def place(
    calls: BlockingCalls, memories: Memories, values: Buffer, perform: Callable[[Any], object] | None
) -> Buffer:
    """Return a flat copy of a vector, where the collectives of its host reach it in place, or the vector itself.

    Every rank of the run calls this, with vectors of one size. The first large one brings the arena, and lets the
    ranks measure the forms of collectives, unless this process has measured them before.

    perform: carries out a collective; None: nothing is measured.
    """
    nbytes = values.nbytes
    sizes = set(calls.all_gather_object("bytes of a vector", lambda: nbytes)())
    if nbytes < buffers.ARENA_FROM or len(sizes) > 1:  # ranks that differ are told by those who compare runs
        return values
    if not memories.placed:
        memories.placed = True
        memories.arena = map_arena(calls, memories.group)
        memories.use(Forms())
    if memories.arena is None:
        return values
    if perform and memories.spins and nbytes >= MEASURED_FROM and not memories.measured:
        memories.measured = True
        memories.use(choose(calls, memories, memories.arena, perform))
    return memories.arena.copy_of(values)


def choose(calls: BlockingCalls, memories: Memories, arena: Arena, perform: Callable[[Any], object]) -> Forms:
    """Return the forms that the first rank knows from an earlier run of its process, else measure them."""
    group = memories.group
    known = CHOSEN.get(len(group))
    first = of_facts(calls.all_gather_object("forms of collectives", lambda: known)()[group[0]])
    if first is None:
        shared = partial(buffers.zeros_in, arena, dtype=np.float32)
        first, _ = measured(perform, memories.use, shared, len(group))
    CHOSEN[len(group)] = first
    return first


def map_arena(calls: BlockingCalls, group: Group) -> Arena | None:
    """Map an arena of this host's ranks; None on all where one cannot. Every rank of the run calls this."""
    first, me = calls.rank == group[0], group.index(calls.rank)
    descriptor = -1
    if first and len(group) > 1:
        try:
            descriptor = _core.HostArena.make(len(group))
        except OSError as error:
            say(f"{error}: buffers are private, and collectives copy them")
    path = f"/proc/{os.getpid()}/fd/{descriptor}" if descriptor >= 0 else ""
    there = calls.all_gather_object("arena at", lambda: path)()[group[0]]
    core = opened(descriptor if first else there, len(group), me) if there else None
    has = core is not None
    all_have = all(calls.all_gather_object("arena mapped", lambda: has)()[rank] for rank in group)
    if descriptor >= 0:
        os.close(descriptor)
    if core is not None and not all_have:
        core.close()
    return Arena(core) if core is not None and all_have else None


def opened(path: str | int, size: int, rank: int) -> _core.HostArena | None:
    """Return the arena at a descriptor or path; None, with a line that says why, where it cannot be mapped."""
    try:
        return _core.HostArena(path, size, rank, False)
    except OSError as error:
        say(f"{error}: buffers are private, and collectives copy them")
        return None


def say(words: str) -> None:
    """Print a line on standard error."""
    print(f"loosestep: {words}", file=sys.stderr, flush=True)
