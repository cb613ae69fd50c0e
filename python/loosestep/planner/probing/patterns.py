"""What workers do while a cluster is measured: each pattern is one repetition, as requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from loosestep.foundation import buffers
from loosestep.requests import AllReduce, Exchange, Fetch, Gradient, Mix, Request
from loosestep.topologies.ring import Ring

if TYPE_CHECKING:
    from loosestep.requests import Buffer, Shared
    from loosestep.requests.worker import Worker

Pattern: TypeAlias = "Callable[[Messages], Iterator[Request]]"


class Messages:
    """One worker's buffers for messages of some bytes among some workers, and tags of its own for each pattern."""

    def __init__(self, worker: Worker, ranks: Sequence[int], nbytes: int, first_tag: int, shared: Shared) -> None:
        self.worker, self.ranks, self.tag, self.shared = worker, tuple(ranks), first_tag, shared
        self.n, self.me = len(ranks), self.ranks.index(worker.rank)
        self.values = max(1, nbytes // 4)
        self.own = buffers.zeros(self.values, "float32")
        self._rooms: dict[int, Buffer] = {}

    @property
    def group(self) -> tuple[int, ...] | None:
        """Return the workers as requests name them: None for all."""
        return None if self.n == self.worker.size else self.ranks

    def room(self, source: int) -> Buffer:
        """Return where a message from there is written."""
        if source not in self._rooms:
            self._rooms[source] = buffers.zeros(self.values, "float32")
        return self._rooms[source]

    def exchange(self, to: Sequence[int], sources: Sequence[int], values: int | None = None) -> Exchange:
        """Return an exchange that sends to some of these workers, by their places, and receives from others.

        values: how many of a message's values are sent; all by default.
        """
        self.tag += 1
        sends = [(self.ranks[place], self.own[:values]) for place in to]
        rooms = [(self.ranks[place], self.room(place)[:values]) for place in sources]
        return Exchange(sends, rooms, tag=self.tag)


def nothing(messages: Messages) -> Iterator[Request]:
    """Send nothing."""
    return iter(())


def ring(messages: Messages) -> Iterator[Request]:
    """Send one message to the next worker, and receive one from the worker before."""
    n, me = messages.n, messages.me
    yield messages.exchange([(me + 1) % n], [(me - 1) % n])


def everyone(messages: Messages) -> Iterator[Request]:
    """Send a message to each other worker, and receive one from each."""
    n, me = messages.n, messages.me
    hops = range(1, n)
    yield messages.exchange([(me + hop) % n for hop in hops], [(me - hop) % n for hop in hops])


def round_trip(messages: Messages) -> Iterator[Request]:
    """Send a message from the first worker to the second and back; the others rest."""
    there, back = ([1], [0]), ([0], [1])
    for to, sources in (there, back):
        if messages.me in (0, 1):
            sends = messages.me == sources[0]
            yield messages.exchange(to if sends else [], [] if sends else sources)


def incast(messages: Messages) -> Iterator[Request]:
    """Send from all workers to the first, which then answers each with one value."""
    others = range(1, messages.n)
    if messages.me == 0:
        yield messages.exchange([], others)
        yield messages.exchange(others, [], values=1)
    else:
        yield messages.exchange([0], [])
        yield messages.exchange([], [0], values=1)


def mix(messages: Messages) -> Iterator[Request]:
    """Average with the neighbours on a ring; where only some workers do, exchange with them."""
    weights = Ring().weights(messages.me, messages.n)
    if messages.group is None:
        yield Mix(messages.own, weights)
    else:
        yield messages.exchange(weights.readers, weights.readers)


def all_reduce(messages: Messages) -> Iterator[Request]:
    """Average over all workers."""
    yield AllReduce(messages.own, op="mean", group=messages.group)


def fetch_idle(messages: Messages) -> Iterator[Request]:
    """Read one value, which the last worker keeps, from the first, while the others wait."""
    if messages.me == 0:
        yield Fetch(messages.shared, into=messages.own)


def fetch_busy(messages: Messages) -> Iterator[Request]:
    """Read one value, which the last worker keeps, from the first, while the others compute."""
    yield Fetch(messages.shared, into=messages.own) if messages.me == 0 else Gradient()
