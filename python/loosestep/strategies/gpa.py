"""GPA: gradients between two averages of one training run; schedule-free training is a case of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from loosestep import ops
from loosestep.foundation import checks
from loosestep.requests import Update
from loosestep.strategies.base import Cost, State, Strategy, cost_of_mean_gradient, mean_gradient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class GPA(Strategy):
    """Generalized primal averaging: the gradient is taken at y, the local optimizer moves z, and x is evaluated:

    y <- a x + (1 - a) z, z <- z - eta mean_i d_i(y), x <- b x + (1 - b) z, d being the local optimizer's
    direction.

    z is the fast point, x its moving average, and y lies between the two. With a = b = 0 it is `AllReduceSGD`,
    with a = 0 and b > 0 a moving average of its iterates that is never fed back. Weight decay acts at z
    (decoupled, as in `AdamW`) or in the gradient. Replicas, and what they keep, are the same after every step.

    interpolation: a; 0.7 in the release.
    averaging: b; 0.9967 is as smooth as outer steps of 32 (0.974 of 4, 0.9934 of 16, 0.9984 of 64). None is
        1 - 1/t at step t = 1, 2, ..., the running mean: schedule-free training, with a = 0.9.

    A round sends 2 (n-1)/n d values a worker, in 2 (n-1) messages a bucket.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 800)
    >>> strategy = ls.GPA(averaging=0.9)
    >>> result = ls.run(strategy, lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 1e-3)
    True

    Reference: facebookresearch/optimizers (gpa), arXiv:2512.17131; for the running mean: A. Defazio et al., The
    Road Less Scheduled, arXiv:2405.15682.
    """

    replicas_agree: ClassVar[bool] = True
    consensus_in: ClassVar[str] = "state.average"
    interpolation: float = 0.7
    averaging: float | None = 0.9967

    @classmethod
    def example(cls) -> GPA:
        return cls(averaging=0.8)

    def __post_init__(self) -> None:
        checks.fraction("interpolation", self.interpolation)
        if self.averaging is not None:
            checks.fraction("averaging", self.averaging)

    def cost(self, n: int, d: int) -> Cost:
        return cost_of_mean_gradient(n, d)

    def init(self, worker: Worker) -> State:
        return State(average=worker.copy_of_params(), fast=worker.copy_of_params(), steps=0)

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield from mean_gradient(worker, untouched=True)
        ops.copy(state.fast, worker.params)
        yield Update()
        ops.copy(worker.params, state.fast)
        state.steps += 1
        share = 1 / state.steps if self.averaging is None else 1 - self.averaging
        ops.lerp(state.average, state.fast, share)
        ops.lerp(worker.params, state.average, self.interpolation)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Copy x: every worker holds the same."""
        ops.copy(state.average, out)
        yield from ()
