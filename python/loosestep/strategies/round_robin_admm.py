"""The baseline that elastic averaging was measured by: ADMM, one worker after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from loosestep import ops
from loosestep.foundation import checks
from loosestep.requests import AllReduce, Gradient, Update
from loosestep.strategies.base import Cost, State, Strategy
from loosestep.strategies.round_robin import hand_on, my_turn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class RoundRobinADMM(Strategy):
    """Linearised ADMM in turn: elastic averaging with a multiplier l_i at every worker. Worker i, at its turn:

    l_i <- l_i - (x_i - c),  x_i <- (x_i - eta g_i(x_i) + a (l_i + c)) / (1 + a),  c <- mean_j (x_j - l_j)

    with a = eta rho. It is here because it is unstable where elastic averaging is not: with 3 workers, eta = 1e-3
    and rho = 2.5 on a quadratic of curvature 1 the center first falls, then swings wider without end. The center
    goes round the workers as a message; gradients are computed side by side.

    moving_rate: a, the learning rate times the penalty rho.

    A round sends d values in 1 message.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.RoundRobinADMM(), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 0.1)
    True

    Reference: S. Zhang, A. Choromanska, Y. LeCun, arXiv:1412.6651, section 3 (the order of the updates is not
    verified; its instability is the paper's).
    """

    consensus_in: ClassVar[str] = "state.center"
    moving_rate: float = 0.1

    def __post_init__(self) -> None:
        checks.positive("moving_rate", self.moving_rate, zero=True)

    def cost(self, n: int, d: int) -> Cost:
        return Cost(d, 1) if n > 1 else Cost(0, 0)

    def init(self, worker: Worker) -> State:
        multiplier = worker.copy_of_params()
        multiplier.fill(0)
        if worker.rank:
            return State(multiplier=multiplier)
        return State(multiplier=multiplier, center=worker.copy_of_params())

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        x, multiplier = worker.params, state.multiplier
        center = worker.scratch("center", like=x) if worker.rank else state.center
        before, aim = worker.scratch("before", like=x), worker.scratch("aim", like=x)
        yield Gradient()
        yield from my_turn(worker, center)
        ops.subtract(x, multiplier, before)
        ops.axpy(multiplier, x, -1.0)
        ops.axpy(multiplier, center, 1.0)
        yield Update()
        ops.copy(multiplier, aim)
        ops.axpy(aim, center, 1.0)
        ops.lerp(x, aim, self.moving_rate / (1 + self.moving_rate))
        ops.subtract(x, multiplier, aim)
        ops.axpy(center, aim, 1 / worker.size)  # the mean, of which one part has changed
        ops.axpy(center, before, -1 / worker.size)
        yield from hand_on(worker, center)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Sum the center, which worker 0 holds between rounds, and zeros."""
        out.fill(0)
        if not worker.rank:
            ops.copy(state.center, out)
        yield AllReduce(out, op="sum")
