"""Eager DiLoCo: outer steps that take the last average, with their own share renewed, and wait for none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.requests import AllReduce, Local, Start, Wait
from loosestep.strategies.base import Cost, State, Strategy, cost_of_mean, outer_cautions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class EagerDiLoCo(Strategy):
    """DiLoCo whose outer gradients take a whole round to be averaged, while workers compute. At the end of round
    t, with D_i,t <- c_i - x_i the worker's own outer gradient and the average of the round before at hand:

    E <- mean_j D_j,t-1 + (D_i,t - D_i,t-1) / n, u_i <- m u_i + E, c_i <- c_i - r (E + m u_i), x_i <- c_i.

    So the worker's own share is fresh, and that of the others a round old. Anchors differ between workers by what
    is on its way: r/n of the worker's own outer gradient. In the first round the others' share is 0. With one
    worker it is DiLoCo. The average is weighted by the samples each worker used in the round; the own share is 1/n
    of it.

    With `eager=False` E <- mean_j D_j,t-1, the average as it came: a delay of one round, as in DiLoCoX; then all
    anchors are alike, and the first outer step moves nothing.

    In the practice of 2026 the local optimizer is `AdamW`, with 30 to 100 steps a round.

    A late outer gradient bears less momentum than `DiLoCo`'s. In a direction in which a round goes the share a
    of its way to rest, and with s = 1/n, or 0 without `eager`, outer steps go as the powers of the largest root
    of (z - 1)(z - m) z + r a (s z + 1 - s)((1 + m) z - m). At a = 1 that is 0.88 at most with the defaults, for
    any n. With m = 0.9, as DiLoCo has it, it is 0.994 for 4 workers, which swing for hundreds of rounds, and
    above 1 for more than 4, which swing ever farther: there a warning says from which a on.

    period: local steps of a round (H).
    rate: r, the outer learning rate.
    momentum: m, the outer momentum; 0.9 where no direction comes near to rest in a round.
    eager: whether the worker's own share is renewed.

    A round sends 2 (n-1)/n d values a worker in 2 (n-1) messages, while the next one computes.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 800)
    >>> strategy = ls.EagerDiLoCo(period=4, rate=0.4, momentum=0.3)
    >>> result = ls.run(strategy, lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 1e-2)
    True

    Reference: S. Kale, A. Douillard, Y. Donchev, Eager Updates for Overlapped Communication and Computation in
    DiLoCo, arXiv:2502.12996 (the rule from memory; what the first round does, and the default momentum, are this
    library's); DiLoCoX, arXiv:2506.21263 (the delay; its compression is not part of this).
    """

    period: int = 50
    rate: float = 0.4
    momentum: float = 0.5
    eager: bool = True

    @classmethod
    def example(cls) -> EagerDiLoCo:
        return cls(period=4, momentum=0.3)

    def __post_init__(self) -> None:
        checks.integer("period", self.period)
        checks.positive("rate", self.rate)
        checks.positive("momentum", self.momentum, zero=True)

    def warnings(self, size: int) -> list[str]:
        found = outer_cautions(self.period, self.rate, self.momentum)
        share = 1 / size if self.eager else 0.0
        if self.momentum < 1 and not settles(self.rate, self.momentum, share):
            most = largest_settled(self.rate, self.momentum, share)
            found.append(
                f"outer gradients are a round late: with rate {self.rate:g} and momentum {self.momentum:g} the "
                f"outer steps of {size} workers swing ever farther in directions in which a round goes more than "
                f"{most / self.rate:.0%} of its way to rest; with this momentum none do at a rate below {most:.3g}"
            )
        return found

    def cost(self, n: int, d: int) -> Cost:
        return cost_of_mean(n, d)

    def init(self, worker: Worker) -> State:
        anchor = worker.copy_of_params()
        own, average, momentum = (buffers.like(anchor) for _ in range(3))
        return State(anchor=anchor, momentum=momentum, own=own, average=average, coming=None)

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(self.period)
        if state.coming is not None:
            yield Wait(state.coming)
        fresh = worker.scratch("fresh", like=worker.params)
        ops.subtract(state.anchor, worker.params, fresh)
        if self.eager:
            ops.axpy(state.average, fresh, 1 / worker.size)
            ops.axpy(state.average, state.own, -1 / worker.size)
        ops.subtract(state.anchor, state.average, worker.params)
        ops.outer_nesterov(worker.params, state.anchor, state.momentum, self.rate, self.momentum)
        ops.copy(fresh, state.own)
        ops.copy(fresh, state.average)
        state.coming = AllReduce(state.average, op="mean", weight=worker.samples)
        yield Start(state.coming)


def settles(step: float, momentum: float, share: float) -> bool:
    """Return whether outer steps die away in a direction in which a round goes step / rate of its way to rest.

    The cubic of the class's docstring has all roots within the unit circle (Jury's criterion).

    share: of the outer gradient that is not late.
    """
    squared = step * share * (1 + momentum) - 1 - momentum
    linear = momentum + step * ((1 - share) * (1 + momentum) - share * momentum)
    constant = -step * (1 - share) * momentum
    inside = abs(constant) < 1 and abs(squared * constant - linear) < 1 - constant**2
    return inside and 1 - squared + linear - constant > 0


def largest_settled(unsettled: float, momentum: float, share: float) -> float:
    """Return the limit below which all steps settle; `unsettled` is one that does not."""
    low, high = 0.0, unsettled
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if settles(middle, momentum, share) else (low, middle)
    return low
