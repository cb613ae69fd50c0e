"""Post-local SGD: first together, later apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from loosestep.foundation import checks
from loosestep.requests import AllReduce, Local
from loosestep.strategies.base import Cost, State, Strategy, cost_of_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class PostLocalSGD(Strategy):
    """An average x_i <- mean_j x_j after every step until `switch`, from there after every `later` steps.

    Parameters are averaged in both phases, as in the release, and local momentum is kept: with SGD, heavy ball and
    Nesterov the first phase is mini-batch SGD. The mean is weighted by the samples each worker used in the round.

    switch: the local step from which workers go on apart (the paper: at the first drop of the learning rate); 0 is
        local SGD from the start, None never.
    later: local steps between two averages from then on (tau).

    A round sends 2 (n-1)/n d values a worker in 2 (n-1) messages.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 100)
    >>> result = ls.run(ls.PostLocalSGD(50), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> [round(float(v), 3) for v in result.params]
    [1.5, 1.5, 1.5]

    Reference: T. Lin, S. Stich, K. Patel, M. Jaggi, Don't Use Large Mini-batches, Use Local SGD, arXiv:1808.07217.
    """

    replicas_agree: ClassVar[bool] = True
    identity_at_one: ClassVar[bool] = True
    switch: int | None = 1000
    later: int = 16

    @classmethod
    def example(cls) -> PostLocalSGD:
        return cls(switch=6, later=4)

    def __post_init__(self) -> None:
        checks.integer("later", self.later)
        if self.switch is not None:
            checks.integer("switch", self.switch, 0)

    def cost(self, n: int, d: int) -> Cost:
        return cost_of_mean(n, d)

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        together = self.switch is None or worker.clock < self.switch
        yield Local(1 if together else self.later)
        yield AllReduce(worker.params, op="mean", weight=worker.samples)
