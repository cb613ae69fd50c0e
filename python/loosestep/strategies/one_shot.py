"""One-shot averaging: train apart, average once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from loosestep.requests import Local
from loosestep.strategies.base import Cost, State, Strategy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class OneShotAveraging(Strategy):
    """Every worker trains alone, x_i <- x_i - eta g_i(x_i); the result is mean_i x_i, made at evaluations and
    the end.

    On least squares with alike data the variance falls as 1/n, and the bias of start and step size does not fall
    at all. The mean is that of the workers, each counted once. The replicas stay apart, so a run can go on.

    No messages but those of the consensus.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 100)
    >>> result = ls.run(ls.OneShotAveraging(), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> [round(float(v), 3) for v in result.params]
    [1.5, 1.5, 1.5]

    Reference: M. Zinkevich, M. Weimer, A. Smola, L. Li, Parallelized Stochastic Gradient Descent, NIPS 2010,
    algorithm 3; R. McDonald, K. Hall, G. Mann, NAACL-HLT 2010, for averages after every epoch, which is LocalSGD.
    """

    keeps_temperature: ClassVar[bool] = True  # chains do not meet
    identity_at_one: ClassVar[bool] = True

    def weigh(self, worker: Worker) -> float:
        """Return 1: each worker is counted once."""
        return 1.0

    def cost(self, n: int, d: int) -> Cost:
        return Cost(0, 0)

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(1)
