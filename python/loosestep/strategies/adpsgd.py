"""Asynchronous decentralized parallel SGD."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep import ops
from loosestep.foundation import checks
from loosestep.requests import Fetch, Gradient, Push, Start, Update, Wait
from loosestep.strategies.base import Cost, State, Strategy, numbered
from loosestep.topologies.base import Topology
from loosestep.topologies.complete import Complete

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request, Shared
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class ADPSGD(Strategy):
    """Pairs average whenever one of them likes: x_i, x_j <- (x_i + x_j) / 2 atomically, then x_i <- x_i - eta g.

    g is the gradient at x_i as it was before others averaged with it. No worker waits for another. Replicas are
    shared variables, one of each worker: both of a pair are averaged in place, element by element in one atomic
    move that locks them in one order. So pairs cannot wait for each other in a circle, on any graph (the paper
    needs a bipartite one), and the sum of all replicas is conserved whoever meets when. The average is made while
    the gradient is computed.

    Variables are kept as a center's are: in one host's memory, or cut over all processes; in `Simulated` behind
    the center's one link, or, with `center="shards"`, cut over all workers as between processes. The consensus is
    the mean of the replicas.

    topology: whom a worker may meet, by default everybody; its weights do not count.
    seed: of the draw of the partners.

    A round sends d values in 2 messages, one of them empty, and receives d values in 1.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.ADPSGD(), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(4))
    >>> bool(abs(result.params - 2.5).max() < 0.1)
    True

    Reference: X. Lian, W. Zhang, C. Zhang, J. Liu, Asynchronous Decentralized Parallel Stochastic Gradient
    Descent, arXiv:1710.06952, algorithm 1.
    """

    synchronous: ClassVar[bool] = False
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "one-sided"
    consensus_in: ClassVar[str] = "state.of"
    topology: Topology = field(default_factory=Complete)
    seed: int = 1

    def __post_init__(self) -> None:
        checks.instance("topology", self.topology, Topology)
        checks.integer("seed", self.seed)

    def warnings(self, size: int) -> list[str]:
        return self.topology.faults(size)

    def cost(self, n: int, d: int) -> Cost:
        return Cost(d, 1 + sum(bool(self.topology.readers(rank, n, 0)) for rank in range(n)) / n)

    def init(self, worker: Worker) -> State:
        self.topology.check_size(worker.size)
        x, ranks = worker.params, range(worker.size)
        return State(of=State(**{numbered(rank): worker.shared(f"replica {rank}", like=x) for rank in ranks}))

    def partner(self, worker: Worker) -> int | None:
        """Return whom a worker meets in this round: by seed, rank and round alone."""
        others = self.topology.readers(worker.rank, worker.size, worker.round - 1)
        draw = Random(f"partner {self.seed}, {worker.rank}, {worker.round}")
        return draw.choice(others) if others else None

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        mine, other = self.replica(state, worker.rank), self.partner(worker)
        yield Fetch(mine, into=worker.params)
        meeting = None
        if other is not None:
            meeting = Push("elastic", (mine, self.replica(state, other)), (), (0.5,), arrived=True)
            yield Start(meeting)
        yield Gradient()
        if meeting is not None:
            yield Wait(meeting)
        before = worker.scratch("before", like=worker.params)
        ops.copy(worker.params, before)
        yield Update()
        ops.subtract(worker.params, before, before)
        yield Push("axpy", (mine,), (before,), (1.0,), arrived=True)

    def replica(self, state: State, rank: int) -> Shared:
        """Return a worker's replica, as all see it."""
        shared: Shared = getattr(state.of, numbered(rank))
        return shared

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Fetch all replicas, and make their mean."""
        replica = worker.scratch("replica", like=out)
        yield Fetch(self.replica(state, 0), into=out)
        for rank in range(1, worker.size):
            yield Fetch(self.replica(state, rank), into=replica)
            ops.lerp(out, replica, 1 / (rank + 1))
