"""SNOO: an outer Nesterov step over the steps of one training run, however many workers make each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.requests import Update
from loosestep.strategies.base import Cost, State, Strategy, cost_of_mean_gradient, mean_gradient, outer_cautions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class SNOO(Strategy):
    """Mini-batch steps on the union of all batches, x <- x - eta mean_i g_i(x), and every `outer` steps

    D <- c - x, u <- m u + D, c <- c - r (D + m u), x <- c.

    That is DiLoCo of a single worker, which may consist of many: replicas are the same after every step, and the
    outer step sends nothing. With one worker it is `DiLoCo(outer, rate, momentum)` bit for bit. r = 1 and m = 0 is
    `AllReduceSGD`; m = 0 is Lookahead. The local optimizer keeps its moments.

    In the practice of 2026: `AdamW` or `Muon` inside, outer momentum 0.8 and 0.6, 30 to 100 steps.

    outer: mini-batch steps between two outer ones (K).
    rate: r, the outer learning rate.
    momentum: m, the outer momentum.

    A round sends 2 (n-1)/n d values a worker, in 2 (n-1) messages a bucket.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 800)
    >>> strategy = ls.SNOO(outer=4, momentum=0.5)
    >>> result = ls.run(strategy, lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 1e-3)
    True

    Reference: SNOO: Step-K Nesterov Outer Optimizer, arXiv:2510.15830 (abstract; the rule is DiLoCo's with one
    worker, as facebookresearch/optimizers says).
    """

    replicas_agree: ClassVar[bool] = True
    all_alike: ClassVar[bool] = True
    outer: int = 50
    rate: float = 0.7
    momentum: float = 0.8

    @classmethod
    def example(cls) -> SNOO:
        return cls(outer=4, momentum=0.5)

    def __post_init__(self) -> None:
        checks.integer("outer", self.outer)
        checks.positive("rate", self.rate)
        checks.positive("momentum", self.momentum, zero=True)

    def warnings(self, size: int) -> list[str]:
        return outer_cautions(self.outer, self.rate, self.momentum)

    def cost(self, n: int, d: int) -> Cost:
        return cost_of_mean_gradient(n, d)

    def init(self, worker: Worker) -> State:
        return State(anchor=worker.copy_of_params(), momentum=buffers.like(worker.params))

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield from mean_gradient(worker, untouched=True)
        yield Update()
        if worker.round % self.outer == 0:
            ops.outer_nesterov(worker.params, state.anchor, state.momentum, self.rate, self.momentum)
