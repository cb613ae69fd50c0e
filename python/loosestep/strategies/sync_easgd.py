"""Elastic averaging SGD in lockstep, without a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep import ops
from loosestep.foundation import checks
from loosestep.requests import AllReduce, Gradient, Local, Update
from loosestep.strategies.base import Cost, State, Strategy, cost_of_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class SyncEASGD(Strategy):
    """Synchronous elastic averaging; every worker holds the same copy of the center c:

    x_i <- x_i - a (x_i - c),  c <- (1 - b) c + b mean_i x_i, both from the old values, every `period` steps.

    The mean is weighted by the samples each worker used in the round.

    period: local steps between two exchanges (tau).
    moving_rate: a, by default 0.9 / n.
    center_rate: b, by default n a (elastic symmetry). b = 1 makes the center the mean of the replicas.
    order: 'after' moves elastically after the local steps; 'published' takes the round's first gradient
        before the move and applies both: all meet at once, so whether they meet before or after that gradient
        changes no number. With period 1 'published' is stable on a quadratic of curvature h
        iff eta h + a < 2 and b < (4 - 2 (eta h + a)) / (2 - eta h).

    A round sends 2 (n-1)/n d values a worker in 2 (n-1) messages.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.SyncEASGD(period=4), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 1e-3)
    True

    Reference: S. Zhang, A. Choromanska, Y. LeCun, arXiv:1412.6651, equations 3 and 4.
    """

    consensus_in: ClassVar[str] = "state.center"
    period: int = 10
    moving_rate: float | None = None
    center_rate: float | None = None
    order: Literal["after", "published"] = "after"

    def __post_init__(self) -> None:
        checks.integer("period", self.period)
        checks.one_of("order", self.order, ("after", "published"))
        for name in ("moving_rate", "center_rate"):
            if getattr(self, name) is not None:
                checks.positive(name, getattr(self, name), zero=True)

    def rates(self, size: int) -> tuple[float, float]:
        """Return (a, b) for that many workers."""
        moving = 0.9 / size if self.moving_rate is None else self.moving_rate
        return moving, size * moving if self.center_rate is None else self.center_rate

    def warnings(self, size: int) -> list[str]:
        moving, center = self.rates(size)
        if moving + center < 2:
            return []
        return [
            f"moving_rate {moving:g} with center_rate {center:g} is unstable at any learning rate: their sum "
            f"must be below 2, and is {0.9 + 0.9 / size:.3g} by default"
        ]

    def cost(self, n: int, d: int) -> Cost:
        return cost_of_mean(n, d)

    def init(self, worker: Worker) -> State:
        state = State(center=worker.copy_of_params())
        if self.order == "published":
            state.met = False  # in this round
        return state

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        if self.order == "published":
            if not state.met:
                yield Gradient()
                yield from self.exchange(worker, state)
                yield Update()
            state.met = True
            yield Local(self.period - 1, after=0)
            state.met = False
        else:
            yield Local(self.period)
            yield from self.exchange(worker, state)

    def exchange(self, worker: Worker, state: State) -> Iterator[Request]:
        """Move every replica and the center elastically, from the old values."""
        moving, center = self.rates(worker.size)
        mean = worker.scratch("mean", like=worker.params)
        ops.copy(worker.params, mean)
        yield AllReduce(mean, op="mean", weight=worker.samples)
        ops.lerp(worker.params, state.center, moving)
        ops.lerp(state.center, mean, center)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Copy the center: every worker holds the same."""
        ops.copy(state.center, out)
        yield from ()
