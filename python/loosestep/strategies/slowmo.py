"""SlowMo: slow momentum over local steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.optimizers.schedules import Rate, at
from loosestep.requests import AllReduce, Local
from loosestep.strategies.base import (
    Cost,
    State,
    Strategy,
    cost_of_mean,
    no_rate,
    note_rate,
    outer_cautions,
    settle_moments,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class SlowMo(Strategy):
    """After `period` local steps: u <- b u + (x - mean_i x_i) / eta, x <- x - a eta u, where x is where all began.

    eta is the local optimizer's learning rate when the round begins, so that a schedule which lets it fall
    shortens what u moves as much. u is kept as eta u: a constant eta cancels, and after a round of rate 0 eta u
    stays as it is. b = 0 and a = 1 is local SGD; period 1 and a = 1 with SGD is mini-batch heavy ball; a = 1 with
    a constant rate is classical BMUF. The mean is weighted by the samples each worker used in the round.

    period: local steps of a round (tau).
    slow_momentum: b; 0.4 to 0.8 in the paper.
    slow_rate: a.
    momentum: what a round does to the local optimizer's buffers: 'reset' zeroes them (the paper, for Nesterov),
        'keep' leaves them (for Adam), 'average' averages them (k buffers make k more averages).
    rate: another eta than the local optimizer's: a number, which is BMUF under any schedule, or a function of the
        step. In a torch loop the optimizer's is that of its first parameter group; only ratios count, so groups
        may differ by a factor.

    A round sends 2 (n-1)/n d values a worker in 2 (n-1) messages ('average': (1 + k) times that).

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.SlowMo(period=4), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 1e-3)
    True

    Reference: J. Wang, V. Tantia, N. Ballas, M. Rabbat, SlowMo, arXiv:1910.00643, algorithm 1 (where the rate
    changes inside a round, that it is the first step's is this library's choice).
    """

    replicas_agree: ClassVar[bool] = True
    period: int = 12
    slow_momentum: float = 0.5
    slow_rate: float = 1.0
    momentum: Literal["reset", "keep", "average"] = "reset"
    rate: Rate | None = None

    def __post_init__(self) -> None:
        checks.integer("period", self.period)
        checks.positive("slow_momentum", self.slow_momentum, zero=True)
        checks.positive("slow_rate", self.slow_rate)
        checks.one_of("momentum", self.momentum, ("reset", "keep", "average"))
        if self.rate is not None and not callable(self.rate):
            checks.positive("rate", self.rate)

    def warnings(self, size: int) -> list[str]:
        return outer_cautions(self.period, self.slow_rate, self.slow_momentum)

    def cost(self, n: int, d: int) -> Cost:
        return cost_of_mean(n, d)

    def init(self, worker: Worker) -> State:
        return State(anchor=worker.copy_of_params(), slow=buffers.like(worker.params), eta=no_rate())

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        note_rate(worker, state.eta, worker.rate() if self.rate is None else at(self.rate, worker.clock))
        yield Local(self.period)
        yield AllReduce(worker.params, op="mean", weight=worker.samples)
        momentum = self.slow_momentum * state.eta.ratio
        ops.outer_momentum(worker.params, state.anchor, state.slow, self.slow_rate, momentum)
        yield from settle_moments(worker, self.momentum, worker.samples)
