"""BMUF: block-wise model update filtering."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.requests import AllReduce, Local
from loosestep.strategies.base import Cost, State, Strategy, cost_of_mean, outer_cautions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class BMUF(Strategy):
    """Momentum on what each block of steps moved the mean: D <- m D + z (mean_i x_i - c), c <- c + D, x_i <- c.

    That is the classical form; Nesterov's has c <- c + m D + z (mean_i x_i - c). With Nesterov, c is where
    workers restart, the look-ahead point w + m D of the filtered model w <- w + D, and the block gradient is
    measured from it: so BMUF(form='nesterov') is DiLoCo with rate z. The consensus is the mean of the replicas,
    after a round c. The mean is weighted by the samples each worker used in the round.

    period: local steps of a block.
    block_momentum: m, by default 1 - 1/n but at most 0.5. What a block moves the mean becomes z / (1 - m) times as
        much in the end: with the paper's 1 - 1/n, for SGD, n times, which is too much where the local optimizer
        has momentum as well.
    rate: z, the block learning rate; 1 with m = 0 is local SGD.
    form: 'classical' or 'nesterov'.

    A round sends 2 (n-1)/n d values a worker in 2 (n-1) messages.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.BMUF(period=4), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 1e-3)
    True

    Reference: K. Chen, Q. Huo, Scalable Training of Deep Learning Machines by Incremental Block Training with
    Intra-Block Parallel Optimization and Blockwise Model-Update Filtering, ICASSP 2016; the classical
    form as in CNTK's trainer. CNTK's Nesterov form is another method: it keeps the look-ahead point as the next w,
    so that a block moves c by (1 + m) D, where this one moves it by m D + z (mean_i x_i - c).
    """

    replicas_agree: ClassVar[bool] = True
    period: int = 16
    block_momentum: float | None = None
    rate: float = 1.0
    form: Literal["classical", "nesterov"] = "classical"

    def __post_init__(self) -> None:
        checks.integer("period", self.period)
        checks.positive("rate", self.rate)
        checks.one_of("form", self.form, ("classical", "nesterov"))
        if self.block_momentum is not None:
            checks.positive("block_momentum", self.block_momentum, zero=True)

    def momentum(self, size: int) -> float:
        """Return m for that many workers."""
        return min(0.5, 1 - 1 / size) if self.block_momentum is None else self.block_momentum

    def warnings(self, size: int) -> list[str]:
        return outer_cautions(self.period, self.rate, self.momentum(size))

    def cost(self, n: int, d: int) -> Cost:
        return cost_of_mean(n, d)

    def init(self, worker: Worker) -> State:
        return State(anchor=worker.copy_of_params(), moved=buffers.like(worker.params))

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(self.period)
        yield AllReduce(worker.params, op="mean", weight=worker.samples)
        outer = ops.outer_nesterov if self.form == "nesterov" else ops.outer_momentum
        outer(worker.params, state.anchor, state.moved, self.rate, self.momentum(worker.size))
