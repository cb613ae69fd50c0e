"""SPARTA: a few parameters, drawn anew, are averaged after every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from loosestep.requests import Local
from loosestep.strategies.base import Cost, State, Strategy, cost_of_mean
from loosestep.strategies.sparse_average import average_some, check_fraction, some_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class SPARTA(Strategy):
    """After every step a random set S of coordinates meets: x_i,S <- mean_j x_j,S; the others stay apart.

    S has p d coordinates (at least one), drawn without replacement by seed and step, so that it is the same on
    every worker and is never sent. Replicas stay within some 1/p steps of each other; the mean of the replicas is
    what it would be with an average of all. p = 1 averages all parameters after every step. The local optimizer's
    buffers are each worker's own. The mean is weighted by the samples each worker used in the step.

    fraction: p, the share of the parameters that meet in a step; the release's is 0.005.

    A round sends 2 (n-1)/n p d values a worker in 2 (n-1) messages.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.SPARTA(0.5), lambda x, b: x - b, np.zeros(8), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 1e-3)
    True

    Reference: M. Beton, M. Howes, A. Cheema, SPARTA, as released in exo-explore/gym (exogym/strategy/sparta.py),
    which draws every coordinate by itself, so that their number varies; here it is fixed.
    """

    identity_at_one: ClassVar[bool] = True
    fraction: float = 0.005

    @classmethod
    def example(cls) -> SPARTA:
        return cls(fraction=0.25)

    def __post_init__(self) -> None:
        check_fraction(self.fraction)

    def cost(self, n: int, d: int) -> Cost:
        return cost_of_mean(n, some_of(d, self.fraction))

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(1)
        yield from average_some(worker, self.fraction)
