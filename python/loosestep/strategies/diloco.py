"""DiLoCo: an outer Nesterov optimizer over many local steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.requests import AllReduce, Local
from loosestep.strategies.base import Cost, State, Strategy, cost_of_mean, outer_cautions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class DiLoCo(Strategy):
    """Local steps, then an outer gradient: D <- c - mean_i x_i, u <- m u + D, c <- c - r (D + m u), x_i <- c.

    The local optimizer (the paper's is `AdamW`) keeps its moments. r = 1 and m = 0 is local SGD. On a quadratic of
    curvature h with local SGD of rate eta, q = (1 - eta h)^period, it is stable iff
    r (1 - q) < 2 (1 + m) / (1 + 2 m). The mean is weighted by the samples each worker used in the round.

    The defaults are for periods of 50 steps and more with AdamW inside, and for many rounds: with a period of some
    steps, or momentum in a local SGD, outer momentum multiplies with the inner one and the run may diverge. In the
    practice of 2026 a period has 30 to 100 steps, and m goes by the local optimizer: 0.9 with AdamW, 0.8 where
    there is one worker, 0.6 with Muon. `DiLoCo(30, 0.7, 0.6)` with `Muon.muloco()` is MuLoCo.

    period: local steps of a round (H).
    rate: r, the outer learning rate.
    momentum: m, the outer momentum.

    A round sends 2 (n-1)/n d values a worker in 2 (n-1) messages.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 800)
    >>> result = ls.run(ls.DiLoCo(period=4), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 1e-3)
    True

    Reference: A. Douillard et al., DiLoCo, arXiv:2311.08105, algorithm 1 (that moments are kept as in MaxText's
    code); bentherien/muloco-1.
    """

    replicas_agree: ClassVar[bool] = True
    period: int = 500
    rate: float = 0.7
    momentum: float = 0.9

    @classmethod
    def example(cls) -> DiLoCo:
        return cls(period=4, momentum=0.5)

    def __post_init__(self) -> None:
        checks.integer("period", self.period)
        checks.positive("rate", self.rate)
        checks.positive("momentum", self.momentum, zero=True)

    def warnings(self, size: int) -> list[str]:
        return outer_cautions(self.period, self.rate, self.momentum)

    def cost(self, n: int, d: int) -> Cost:
        return cost_of_mean(n, d)

    def init(self, worker: Worker) -> State:
        return State(anchor=worker.copy_of_params(), momentum=buffers.like(worker.params))

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(self.period)
        yield AllReduce(worker.params, op="mean", weight=worker.samples)
        ops.outer_nesterov(worker.params, state.anchor, state.momentum, self.rate, self.momentum)
