"""SPARTA-DiLoCo: a few parameters meet after every step, all of them seldom, with an outer Nesterov step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.requests import AllReduce, Local
from loosestep.strategies.base import Cost, State, Strategy, cost_of_mean, outer_cautions
from loosestep.strategies.sparse_average import average_some, check_fraction, some_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class SPARTADiLoCo(Strategy):
    """SPARTA's sparse average after every step, and every `outer` steps DiLoCo's step on top of it:

    x_i,S <- mean_j x_j,S, S anew in every step; then at the end of H steps D <- c - mean_i x_i, u <- m u + D,
    c <- c - r (D + m u), x_i <- c.

    What the sparse averages keep together lets H be longer than DiLoCo's alone. S has p d coordinates, drawn by
    seed and step, and is never sent. The sparse averages leave mean_i x_i as it is, so that without outer momentum
    and with r = 1 the outer step is an average of all parameters. Means are weighted by the samples each worker
    used in the step.

    fraction: p, the share of the parameters that meet in a step.
    outer: H, local steps between two outer steps.
    rate: r, the outer learning rate.
    momentum: m, the outer momentum.

    A round sends 2 (n-1)/n p d values a worker in 2 (n-1) messages, at the end of H steps 2 (n-1)/n d more.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 800)
    >>> strategy = ls.SPARTADiLoCo(fraction=0.25, outer=4, momentum=0.5)
    >>> result = ls.run(strategy, lambda x, b: x - b, np.zeros(8), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 1e-3)
    True

    Reference: M. Beton, M. Howes, A. Cheema, SPARTA, as released in exo-explore/gym (exogym/strategy), where the
    two are composed so; that S has a fixed size is this library's.
    """

    fraction: float = 0.005
    outer: int = 100
    rate: float = 0.7
    momentum: float = 0.9

    @classmethod
    def example(cls) -> SPARTADiLoCo:
        return cls(fraction=0.25, outer=4, momentum=0.5)

    def __post_init__(self) -> None:
        check_fraction(self.fraction)
        checks.integer("outer", self.outer)
        checks.positive("rate", self.rate)
        checks.positive("momentum", self.momentum, zero=True)

    def warnings(self, size: int) -> list[str]:
        return outer_cautions(self.outer, self.rate, self.momentum)

    def cost(self, n: int, d: int) -> Cost:
        return cost_of_mean(n, some_of(d, self.fraction))

    def largest_cost(self, n: int, d: int) -> Cost:
        sparse, whole = self.cost(n, d), cost_of_mean(n, d)
        return Cost(sparse.values + whole.values, sparse.messages + whole.messages)

    def init(self, worker: Worker) -> State:
        return State(anchor=worker.copy_of_params(), momentum=buffers.like(worker.params))

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(1)
        yield from average_some(worker, self.fraction)
        if worker.round % self.outer == 0:
            yield AllReduce(worker.params, op="mean", weight=worker.samples)
            ops.outer_nesterov(worker.params, state.anchor, state.momentum, self.rate, self.momentum)
