"""Asynchronous SGD with delay compensation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep.foundation import checks
from loosestep.requests import Fetch, Local, Push
from loosestep.strategies.base import Cost, State, Strategy, pull, steps_taken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker

EPSILON = 1e-12  # keeps the root of the mean square away from 0


@dataclass(frozen=True, repr=False)
class DCASGD(Strategy):
    """Asynchronous SGD whose late gradients are corrected to first order, g g for the Hessian's diagonal.

    A worker pushes its step s, made at b, which it had pulled; where the center is kept, element by element,

        v <- decay v + (1 - decay) s s,  c <- c + s - strength s s (c - b) / sqrt(v + 1e-12),  b <- c

    and it pulls b, so that no other push comes between. With SGD(eta), s = -eta g, this is
    c <- c - eta (g + lambda g g (c - b)) of the paper with lambda = strength / sqrt(mean of g g), whatever eta is.

    strength: lambda_0 of the adaptive form. 0 is plain asynchronous SGD. Where eta strength |g| comes near 2 in
        any element, as early in training, the correction itself diverges.
    decay: of the mean square; 1 is the form with a constant lambda: without the root, lambda = strength * eta.

    A round sends d values in 1 message and receives d values in 1. The center keeps n + 2 vectors: c, v, and a b
    for each worker.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.DCASGD(), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 0.1)
    True

    Reference: S. Zheng et al., Asynchronous Stochastic Gradient Descent with Delay Compensation, arXiv:1609.08326,
    equation 10 and algorithm 2, written for steps instead of gradients (the constants are not verified).
    """

    synchronous: ClassVar[bool] = False
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "one-sided"
    consensus_in: ClassVar[str] = "state.center"
    strength: float = 2.0
    decay: float = 0.95

    @classmethod
    def example(cls) -> DCASGD:
        """Return one that is stable at the gradients of the contract tests."""
        return cls(strength=0.1)

    def __post_init__(self) -> None:
        checks.positive("strength", self.strength, zero=True)
        checks.positive("decay", self.decay, zero=True)
        checks.at_most("decay", self.decay, 1)

    @property
    def epsilon(self) -> float:
        """Return 0 for a constant strength, which is divided by the root of 1."""
        return 0.0 if self.decay == 1 else EPSILON

    def cost(self, n: int, d: int) -> Cost:
        return Cost(d, 1)

    def init(self, worker: Worker) -> State:
        pulled, squares = worker.copy_of_params(), worker.copy_of_params()
        squares.fill(self.decay == 1)
        center, square = worker.shared("center", like=pulled), worker.shared("square", like=squares)
        backups = {name: worker.shared(name, like=pulled) for name in map(backup, range(worker.size))}
        return State(center=center, square=square, pulled=pulled, backups=State(**backups))

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(1)
        mine = getattr(state.backups, backup(worker.rank))
        scalars = (self.strength, self.decay, self.epsilon)
        yield Push("compensate", (state.center, mine, state.square), (steps_taken(worker, state),), scalars)
        yield from pull(worker, state, mine)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Fetch the center."""
        yield Fetch(state.center, into=out)


def backup(rank: int) -> str:
    """Return the name of the shared variable that holds what a worker has pulled."""
    return f"backup_{rank}"
