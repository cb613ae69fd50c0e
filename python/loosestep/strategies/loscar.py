"""LOSCAR-SGD: local SGD whose averages are of some coordinates and come late, and lose no step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.requests import AllReduce
from loosestep.strategies.base import Cost, State, cost_of_mean
from loosestep.strategies.delayed import LateStrategy
from loosestep.strategies.sparse_average import check_fraction, some_of

if TYPE_CHECKING:
    from loosestep.requests import Communication
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class LOSCAR(LateStrategy):
    """Local SGD that averages a random set of coordinates at a time, while workers go on.

    Every `period` steps a set S of coordinates of y_i <- x_i begins to be averaged; `delay` steps later, when the
    worker is at z_i, the average is merged with the steps made meanwhile:

    x_i,S <- mean_j y_j,S + (z_i,S - y_i,S), and the other coordinates stay as they are.

    The merge leaves the mean of the replicas as it is, and loses no step. S has p d coordinates (at least one),
    drawn without replacement by seed and round, and is never sent. With p = 1 it is DaSGD(merge="correct"). The
    mean is weighted by the samples each worker used in the round. Local optimizer buffers are kept.

    period: local steps between two averages (the paper's H_i, the same for all workers here).
    delay: local steps from the start of an average to its merge (Q_i), by default half the period.
    fraction: p, the share of the parameters that meet in a round.

    A round sends 2 (n-1)/n p d values a worker in 2 (n-1) messages, while it computes.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 800)
    >>> strategy = ls.LOSCAR(period=4, fraction=0.5)
    >>> result = ls.run(strategy, lambda x, b: x - b, np.zeros(8), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 1e-2)
    True

    Reference: Y. Maziane, A. Mahran, A. Maranjyan, P. Richtarik, LOSCAR-SGD, arXiv:2605.20866 (after a secondary
    source; there every worker has numbers of steps of its own).
    """

    period: int = 8
    delay: int | None = None
    fraction: float = 0.1

    @classmethod
    def example(cls) -> LOSCAR:
        return cls(period=4, fraction=0.5)

    def __post_init__(self) -> None:
        checks.integer("period", self.period)
        self.check_delay()
        check_fraction(self.fraction)

    def cost(self, n: int, d: int) -> Cost:
        return cost_of_mean(n, some_of(d, self.fraction))

    def init(self, worker: Worker) -> State:
        count = some_of(worker.params.size, self.fraction)
        average, sent = buffers.like(worker.params, count), buffers.like(worker.params, count)
        return State(average=average, sent=sent, number=0, coming=None)

    def send(self, worker: Worker, state: State) -> Communication:
        state.number = worker.round  # by which the coordinates are known when the average is there
        state.sent[:] = worker.params[worker.sample(state.sent.size, state.number)]
        ops.copy(state.sent, state.average)
        return AllReduce(state.average, op="mean", weight=worker.samples)

    def receive(self, worker: Worker, state: State) -> None:
        places, values = worker.sample(state.sent.size, state.number), worker.workspace("some", state.sent.size)
        values[:] = worker.params[places]
        ops.correct(values, state.sent, state.average)
        worker.params[places] = values
