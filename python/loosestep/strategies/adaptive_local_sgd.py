"""Local SGD whose period follows what it costs, or how far replicas drift apart."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, sqrt
from typing import TYPE_CHECKING, ClassVar

from loosestep import ops
from loosestep.foundation import checks
from loosestep.requests import AllReduce, Local
from loosestep.strategies.base import Cost, Need, State, Strategy, cost_of_mean

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class AdaptiveLocalSGD(Strategy):
    """Local SGD, x_i <- mean_j x_j every tau local steps, with a tau that adapts from round to round:

    to the drift D = mean_i |x_i - mean_j x_j|^2 before the average, which grows about as tau^2:
        tau <- tau min(2, sqrt(distance / D)), rounded down;
    or to the time c of a round's communication (of the worker that waited least) and k of a step (of the slowest):
        tau <- min(2 tau, c (1 - time_share) / (time_share k)), rounded up.

    period: the first tau.
    distance: keep D below this; None where `time_share` is given.
    time_share: spend at most this part of the time on communication (waiting for slower workers left out).
    longest: tau is never more.

    A round sends 2 (n-1)/n d values a worker in 2 (n-1) messages, and then one or two numbers likewise. Means are
    weighted by the samples each worker used in the round; the local optimizer's buffers are kept.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> strategy = ls.AdaptiveLocalSGD(distance=1e-2)
    >>> result = ls.run(strategy, lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 1e-3)
    True

    Reference: after J. Wang, G. Joshi, Adaptive Communication Strategies, arXiv:1810.08313, which adapts tau to
    the training loss; both rules here are the library's own.
    """

    course_depends_on_values: ClassVar[bool] = True
    identity_at_one: ClassVar[bool] = True
    replicas_agree: ClassVar[bool] = True
    period: int = 1
    distance: float | None = 1e-2
    time_share: float | None = None
    longest: int = 1000

    def __post_init__(self) -> None:
        checks.integer("period", self.period)
        checks.integer("longest", self.longest)
        if (self.distance is None) == (self.time_share is None):
            raise ValueError("give either distance or time_share, and None for the other")
        if self.distance is not None:
            checks.positive("distance", self.distance)
        if self.time_share is not None:
            checks.positive("time_share", self.time_share)
            if self.time_share >= 1:
                raise ValueError(f"time_share must be below 1, got {self.time_share!r}")

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        return frozenset() if self.time_share is None else frozenset({Need.STEP_TIMES})

    def cost(self, n: int, d: int) -> Cost:
        whole, numbers = cost_of_mean(n, d), cost_of_mean(n, 1 if self.time_share is None else 2)
        return Cost(whole.values, whole.messages + numbers.messages, 8 * numbers.values)

    def init(self, worker: Worker) -> State:
        return State(period=self.period, computing=worker.computing, communicating=worker.communicating)

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(state.period)
        alone = worker.scratch("alone", like=worker.params)
        ops.copy(worker.params, alone)
        yield AllReduce(worker.params, op="mean", weight=worker.samples)
        if self.distance is not None:
            grown = yield from self.by_distance(worker, alone)
            state.period = self.limited(int(state.period * grown))
        else:
            wanted = yield from self.by_time(worker, state)
            state.period = self.limited(ceil(min(2 * state.period, wanted)))

    def limited(self, period: int) -> int:
        """Return the period, at least 1 and at most the longest."""
        return max(1, min(period, self.longest))

    def by_distance(self, worker: Worker, alone: Buffer) -> Generator[Request, None, float]:
        """Average the drift, and return by what the period is multiplied."""
        ops.subtract(alone, worker.params, alone)
        drift = worker.workspace("drift", 1, "float64")
        drift[0] = ops.norm(alone) ** 2
        yield AllReduce(drift, op="mean", weight=worker.samples)
        assert self.distance is not None
        return min(2.0, sqrt(self.distance / drift[0])) if drift[0] else 2.0

    def by_time(self, worker: Worker, state: State) -> Generator[Request, None, float]:
        """Return the period at which communication takes its share; this exchange counts in the next round."""
        costs = worker.workspace("costs", 2, "float64")
        costs[:] = worker.communicating - state.communicating, -(worker.computing - state.computing) / state.period
        state.computing, state.communicating = worker.computing, worker.communicating
        yield AllReduce(costs, op="min")
        average, step = costs[0], -costs[1]
        assert self.time_share is not None
        return float(average * (1 - self.time_share) / (self.time_share * step)) if step else inf
