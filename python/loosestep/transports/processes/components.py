"""What a session of processes is composed of, besides its messages: its collectives and its centers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from loosestep.requests import Buffer, Request, Shared
    from loosestep.transports.processes.collective_slots import CollectiveSlot
    from loosestep.transports.processes.mailbox import Arrivals, Operations
    from loosestep.transports.processes.mapping import Memories
    from loosestep.transports.processes.progress import BlockingCalls

    Handlers = Mapping[type[Request], Callable[[Any], object]]
    Background = Mapping[type[Request], Callable[[Any], Callable[[Request], object]]]


class Component(ABC):
    """What carries out some types of requests."""

    operations: Operations  # requests that the progress engine begins

    @abstractmethod
    def open(self, calls: BlockingCalls) -> None:
        """Make what all ranks need to have at once; every rank calls it."""

    @property
    @abstractmethod
    def handlers(self) -> Handlers:
        """Return what performs requests, by type."""

    @property
    @abstractmethod
    def background(self) -> Background:
        """Return what starts requests, by type, where the progress engine does not.

        Each gives the function that waits for it, which is given the `Wait`.
        """


class Collectives(Component):
    """How collectives are carried out, where that is not by lowered messages alone."""

    hosted: bool  # all workers share a host's memory
    grouped: bool  # its handlers take groups
    slots: Sequence[CollectiveSlot]  # what the progress engine advances
    memories: Memories  # in which they are carried out

    @abstractmethod
    def place(self, values: Buffer) -> Buffer:
        """Return a flat copy of a vector where collectives reach it better, or the vector itself.

        Every rank calls it, with a vector as large.
        """


class Centers(Component):
    """Where shared variables are kept, and how workers reach them."""

    arrivals: Arrivals  # messages that it expects

    @abstractmethod
    def share(self, name: str, like: Buffer) -> Shared:
        """Make the shared variable of that name with rank 0's values; every rank calls it."""

    @abstractmethod
    def store(self, shared: Shared, values: Buffer, version: int) -> None:
        """Set a shared variable, and how often it was moved."""

    @abstractmethod
    def version(self, shared: Shared) -> int:
        """Return how often a shared variable was moved."""

    @abstractmethod
    def in_common(self, name: str, like: Buffer) -> Buffer:
        """Return the buffer of that name, one for all workers of a host; every rank calls it."""

    @abstractmethod
    def close(self) -> None:
        """Give everything back."""
