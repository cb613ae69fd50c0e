"""A method as a part of another: its requests become those of the workers of a cluster, or of all clusters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

from loosestep.requests import (
    AllGather,
    AllReduce,
    Barrier,
    Broadcast,
    Communication,
    Compute,
    Elastic,
    Exchange,
    Fetch,
    Local,
    Mix,
    Request,
    Sleep,
    Start,
    Wait,
    Weights,
)
from loosestep.strategies.base import State, leaves

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from loosestep.requests import Buffer, Group
    from loosestep.requests.worker import Worker

COUNTERS = ("clock", "samples", "computing", "communicating", "inside", "unmetered", "calling", "fractions")
"""What a strategy reads of a worker while it changes."""


def seen_as(worker: Worker, rank: int, size: int, number: int, name: str) -> Worker:
    """Return the worker as a method sees it that knows so many, in the round of that number.

    Its shared variables begin with a name of their own.
    """
    seen = worker.sharing(lambda variable, like: worker.shared(f"{name} {variable}", like))
    seen.rank, seen.size, seen.round, seen.hosts = rank, size, number, ()
    return seen


def renumbered(weights: Weights, ranks: Sequence[int]) -> Weights:
    """Return a row of a mixing matrix, of workers that have other ranks."""
    row = tuple(sorted((ranks[rank], weight) for rank, weight in weights.row))
    return Weights(row, tuple(ranks[rank] for rank in weights.readers))


def exchanged(request: Exchange, ranks: Sequence[int]) -> Exchange:
    """Return an exchange with workers that have other ranks; its notes are kept under these."""
    sends, recvs = ([(ranks[rank], buf) for rank, buf in pairs] for pairs in (request.sends, request.recvs))
    return replace(request, sends=sends, recvs=recvs, notes=None if request.notes is None else {})


class Level(ABC):
    """The requests of a method's round, for others than all workers. What was begun is known by its new name."""

    def __init__(self, worker: Worker, seen: Worker) -> None:
        self.worker, self.seen = worker, seen
        self.begun: dict[Communication, Communication] = {}

    def perform(self, requests: Iterable[Request]) -> Iterator[Request]:
        """Yield what the requests of `seen` are for all workers."""
        for request in requests:
            yield from self.rewritten(request)
            self.follow()

    def follow(self) -> None:
        """Let the method see what has become of the worker."""
        for name in COUNTERS:
            setattr(self.seen, name, getattr(self.worker, name))

    def keep(self, state: State) -> None:
        """Let the state hold what was begun by the names that a checkpoint knows."""
        for _, holder, key, value in list(leaves(state)):
            if isinstance(value, Communication) and value in self.begun:
                setattr(holder, key, self.begun[value])

    def rewritten(self, request: Request) -> Iterator[Request]:
        """Yield a request; of `Start` and `Wait`, that of what they refer to."""
        if type(request) is Start:
            yield from self.start(request.request)
        elif type(request) is Wait:
            yield Wait(self.begun.get(request.request, request.request))
        else:
            yield from self.performed(request)

    @abstractmethod
    def start(self, request: Communication) -> Iterator[Request]:
        """Yield the start of a communication, and note its new name."""

    @abstractmethod
    def performed(self, request: Request) -> Iterator[Request]:
        """Yield what another request is for all workers."""


class Within(Level):
    """A method among the workers of one cluster, as though there were no others."""

    def __init__(self, worker: Worker, members: Sequence[int], cluster: int) -> None:
        seen = seen_as(worker, members.index(worker.rank), len(members), worker.round, f"within {cluster}")
        super().__init__(worker, seen)
        self.members = members

    def group(self, group: Group | None) -> Group | None:
        """Return the ranks of a group; of a cluster that is everybody None stays None."""
        if group is None and len(self.members) == self.worker.size:
            return None
        return tuple(self.members if group is None else (self.members[rank] for rank in group))

    def start(self, request: Communication) -> Iterator[Request]:
        self.begun[request] = renamed = self.renamed(request)
        yield Start(renamed)

    def performed(self, request: Request) -> Iterator[Request]:
        if not isinstance(request, Communication):
            yield request
            return
        renamed = self.renamed(request)
        yield renamed
        if isinstance(request, Exchange) and request.notes is not None and isinstance(renamed, Exchange):
            request.notes.update({self.members.index(rank): note for rank, note in (renamed.notes or {}).items()})

    def renamed(self, request: Communication) -> Communication:
        """Return the request among the cluster's ranks."""
        if isinstance(request, (AllReduce, AllGather, Barrier)):
            return replace(request, group=self.group(request.group))
        if isinstance(request, Broadcast):
            return replace(request, root=self.members[request.root], group=self.group(request.group))
        if isinstance(request, Mix):
            return replace(request, weights=renumbered(request.weights, self.members))
        return exchanged(request, self.members) if isinstance(request, Exchange) else request


class Between(Level):
    """A method among clusters, each of which is one worker of it: all members hold what that worker would.

    In means, broadcasts and barriers every member takes part, as a share of its cluster. Everything else is done
    by the first member, which gives what came to the others.
    """

    def __init__(self, worker: Worker, clusters: Sequence[Sequence[int]], cluster: int, number: int) -> None:
        super().__init__(worker, seen_as(worker, cluster, len(clusters), number, "between"))
        self.clusters, self.members = clusters, clusters[cluster]
        self.first = self.members[0]
        self.steps_made = False
        self.follow()

    def follow(self) -> None:
        super().follow()
        self.seen.samples *= len(self.members)  # of which each member's weight is its share

    def everybody(self, group: Group | None) -> Group | None:
        """Return the ranks of all members of a group of clusters."""
        return None if group is None else tuple(sorted(rank for each in group for rank in self.clusters[each]))

    def start(self, request: Communication) -> Iterator[Request]:
        shared = self.of_everybody(request)
        if shared is None:  # done at once; the handle is one of this worker alone
            yield from self.performed(request)
            shared = Barrier((self.worker.rank,))
        self.begun[request] = shared
        yield Start(shared)

    def performed(self, request: Request) -> Iterator[Request]:
        if isinstance(request, Compute):
            self.skip(request)
        elif isinstance(request, AllReduce) and len(self.clusters) == 1:
            pass  # of one worker
        elif (shared := self.of_everybody(request)) is not None:
            yield shared
        else:
            yield from self.by_first(request)

    def skip(self, request: Compute) -> None:
        """Pass over the steps with which a round begins: the clusters have made them."""
        if self.steps_made or type(request) is not Local:
            raise ValueError(f"between asks for {request} after its local steps, in round {self.seen.round}")
        self.steps_made = True

    def of_everybody(self, request: Request) -> Communication | None:
        """Return what all members take part in, or None."""
        if len(self.clusters) == 1 and not isinstance(request, Sleep):
            return None
        if isinstance(request, AllReduce) and request.op != "sum":
            weight = request.weight / len(self.members)
            return replace(request, weight=weight, group=self.everybody(request.group))
        if isinstance(request, Broadcast):
            return replace(request, root=self.clusters[request.root][0], group=self.everybody(request.group))
        if isinstance(request, Barrier):
            return replace(request, group=self.everybody(request.group))
        return request if isinstance(request, Sleep) else None

    def by_first(self, request: Request) -> Iterator[Request]:
        """Let the first member do it, and give what came to the others."""
        if self.worker.rank == self.first:
            yield self.among_firsts(request)
        if len(self.members) > 1:
            for buf in results(request):
                yield Broadcast(buf, root=self.first, group=tuple(self.members))

    def among_firsts(self, request: Request) -> Request:
        """Return the request with the ranks of the first members of the clusters."""
        firsts = [members[0] for members in self.clusters]
        if isinstance(request, (AllReduce, AllGather)):
            chosen = range(len(firsts)) if request.group is None else request.group
            return replace(request, group=tuple(firsts[each] for each in chosen))
        if isinstance(request, Mix):
            return replace(request, weights=renumbered(request.weights, firsts))
        if isinstance(request, Exchange):
            if request.notes is not None:
                raise ValueError("between must be a method whose messages carry no notes")
            return exchanged(request, firsts)
        return request


RESULTS: dict[type[Request], Callable[..., list[Buffer]]] = {
    AllReduce: lambda request: [request.buf],
    AllGather: lambda request: [request.out],
    Mix: lambda request: [request.buf],
    Elastic: lambda request: [request.buf],
    Exchange: lambda request: [buf for _, buf in request.recvs],
    Fetch: lambda request: [request.into] if request.version is None else [request.into, request.version],
}
"""The buffers in which what comes lands."""


def results(request: Request) -> list[Buffer]:
    """Return the buffers that a request fills."""
    return RESULTS[type(request)](request) if type(request) in RESULTS else []
