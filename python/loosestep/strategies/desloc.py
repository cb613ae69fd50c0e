"""DES-LOC: parameters and the local optimizer's moments, each averaged on a clock of its own."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING, ClassVar

from loosestep.foundation import checks
from loosestep.requests import AllReduce, Local
from loosestep.strategies.base import Cost, State, Strategy, cost_of_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class DESLOC(Strategy):
    """Local steps of Adam, whose parameters and moments are each averaged with a period of their own.

    x_i <- mean_j x_j every `params` steps, u_i <- mean_j u_j every `first` and v_i <- mean_j v_j every `second`, u
    and v being the two moments.

    A moment of decay b has a half-life of ln(1/2) / ln b steps: 7 for b = 0.9, 69 for 0.99, 693 for 0.999. Three
    equal periods are Local Adam, `LocalSGD(momentum="average")` bit for bit. An optimizer with one buffer (heavy
    ball) has a first moment alone; one without any makes it local SGD; buffers after the second are averaged with
    it. Means are weighted by the samples each worker used in the round, which is the greatest common divisor of
    the three periods. The paper clips every gradient at rho: let the gradient function, or the torch loop, do so.

    In the practice of 2026 the local optimizer is `AdamW`, and `params` 30 to 100.

    params: local steps between two averages of the parameters (K_x).
    first: of the first moment (K_u), by default 3 K_x.
    second: of the second moment (K_v), by default 6 K_x.

    A round sends 2 (n-1)/n d values a worker in 2 (n-1) messages where it ends with an average of the parameters,
    and as much for each moment that is averaged: with the defaults and Adam, half as much again in the long run.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 800)
    >>> strategy, adam = ls.DESLOC(params=4), ls.Adam(0.01)
    >>> gradient = lambda x, b: x - b
    >>> result = ls.run(strategy, gradient, np.zeros(3), batches, optimizer=adam, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 0.05)
    True

    Reference: A. Iacob et al., DES-LOC: Desynced Low Communication Adaptive Optimizers for Training Foundation
    Models, arXiv:2505.22549 (after a secondary source; there moments are averaged before a step, here after the
    step before it, which is the same).
    """

    identity_at_one: ClassVar[bool] = True
    params: int = 32
    first: int | None = None
    second: int | None = None

    @classmethod
    def example(cls) -> DESLOC:
        return cls(params=2)

    def __post_init__(self) -> None:
        checks.integer("params", self.params)
        for name in ("first", "second"):
            if getattr(self, name) is not None:
                checks.integer(name, getattr(self, name))

    @property
    def periods(self) -> tuple[int, int]:
        """Return the local steps between two averages of the first moment, and of the others."""
        return self.first or 3 * self.params, self.second or 6 * self.params

    @property
    def period(self) -> int:
        """Return the local steps of a round."""
        return gcd(self.params, *self.periods)

    @property
    def replicas_agree(self) -> bool:  # type: ignore[override]
        return self.params == self.period

    def cost(self, n: int, d: int) -> Cost:
        return cost_of_mean(n, d) if self.replicas_agree else Cost(0, 0)

    def largest_cost(self, n: int, d: int) -> Cost:
        return cost_of_mean(n, d)

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(self.period)
        steps = worker.round * self.period
        if steps % self.params == 0:
            yield AllReduce(worker.params, op="mean", weight=worker.samples)
        for place, moment in worker.ordered_moments():
            if steps % self.periods[min(place, 1)] == 0:
                yield AllReduce(moment, op="mean", weight=worker.samples)
