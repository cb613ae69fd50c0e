"""Local SGD: steps alone, then an average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep.foundation import checks
from loosestep.requests import AllReduce, Local
from loosestep.strategies.base import Cost, State, Strategy, cost_of_mean, settle_moments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class LocalSGD(Strategy):
    """Parallel restarted SGD: `period` local steps, then x_i <- mean_j x_j.

    The mean is weighted by the samples each worker used in the round, also that of an evaluation inside a round.

    period: local steps between two averages; 1 is mini-batch SGD, all steps is one-shot averaging.
    momentum: what an average does to the local optimizer's buffers: 'keep' leaves them, 'reset' zeroes them,
        'average' averages them as well (momentum local SGD; k buffers make k more averages).
    steps: how many of them each worker makes, in rank order (all by default); it waits for the others while they
        make theirs. As in PR-SGD the mean then weighs samples by period / steps: workers with equal batches
        count alike.

    A round sends 2 (n-1)/n d values a worker in 2 (n-1) messages ('average': (1 + k) times that).

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 100)
    >>> result = ls.run(ls.LocalSGD(period=4), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> [round(float(v), 3) for v in result.params]
    [1.5, 1.5, 1.5]

    Reference: S. Stich, Local SGD Converges Fast and Communicates Little, arXiv:1805.09767; H. Yu et al.,
    Parallel Restarted SGD, arXiv:1807.06629; for 'average': H. Yu et al., arXiv:1905.03817.
    """

    replicas_agree: ClassVar[bool] = True
    period: int = 8
    momentum: Literal["keep", "reset", "average"] = "keep"
    steps: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        checks.integer("period", self.period)
        for count in self.steps or ():
            checks.integer("every number in steps", count, 1, self.period)
        checks.one_of("momentum", self.momentum, ("keep", "reset", "average"))

    @property
    def identity_at_one(self) -> bool:  # type: ignore[override]
        return self.momentum != "reset"

    def steps_of(self, worker: Worker) -> int:
        """Return the steps that a worker makes in a period."""
        if self.steps is None:
            return self.period
        if len(self.steps) != worker.size:
            raise ValueError(f"steps must hold a number for each of {worker.size} workers, got {self.steps!r}")
        return self.steps[worker.rank]

    def weigh(self, worker: Worker) -> float:
        return worker.samples * self.period / self.steps_of(worker)

    def cost(self, n: int, d: int) -> Cost:
        return cost_of_mean(n, d)

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        steps = self.steps_of(worker)
        yield Local(steps, idle=self.period - steps)
        weight = self.weigh(worker)
        yield AllReduce(worker.params, op="mean", weight=weight)
        if self.momentum != "keep":
            yield from settle_moments(worker, self.momentum, weight)
