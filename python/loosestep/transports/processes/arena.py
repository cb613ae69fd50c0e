"""Memory of every rank of a host that all of them map, so that collectives reach each other's buffers in place."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from loosestep import _core
from loosestep.foundation import buffers
from loosestep.transports.processes.forms import Forms, measured, of_facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from loosestep.requests import Buffer, Group
    from loosestep.transports.processes.mapping import Memories
    from loosestep.transports.processes.progress import BlockingCalls

CHOSEN: dict[int, Forms] = {}
"""What this process has measured, by the number of ranks."""

MEASURED_FROM = 1 << 20
"""Bytes: vectors for which the measurement pays."""

PRIVATE = "so it is private, and collectives copy it through memory that they share"


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
