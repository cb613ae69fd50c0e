"""DOWNPOUR SGD whose center is averaged over time."""

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


@dataclass(frozen=True, repr=False)
class AveragedDownpour(Strategy):
    """DOWNPOUR, evaluated at the average of its center over time.

    c <- c + (x - what was pulled), x <- c, and at every push, where the center is kept, z <- z + a (c - z); z
    never feeds back. The average costs no message.

    period: local steps between two pushes.
    weight: a. 0 is 1 / (t + 1) at push t of all workers, so that z is the mean of the start and of every center:
        ADOWNPOUR; MVADOWNPOUR is a constant, 0.001 in the paper.

    A round sends d values in 1 message and receives d values in 1.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> strategy = ls.AveragedDownpour(weight=0.05)
    >>> result = ls.run(strategy, lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 0.1)
    True

    Reference: S. Zhang, A. Choromanska, Y. LeCun, arXiv:1412.6651, section 5 (ADOWNPOUR and MVADOWNPOUR; that the
    mean holds the start is this library's choice).
    """

    synchronous: ClassVar[bool] = False
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "one-sided"
    consensus_in: ClassVar[str] = "state.average"
    period: int = 1
    weight: float = 0.0

    def __post_init__(self) -> None:
        checks.integer("period", self.period)
        checks.positive("weight", self.weight, zero=True)
        checks.at_most("weight", self.weight, 1)

    def cost(self, n: int, d: int) -> Cost:
        return Cost(d, 1)

    def init(self, worker: Worker) -> State:
        center, average = (worker.shared(name, like=worker.params) for name in ("center", "average"))
        return State(center=center, average=average, pulled=worker.copy_of_params())

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(self.period)
        yield Push("add_and_average", (state.center, state.average), (steps_taken(worker, state),), (self.weight,))
        yield from pull(worker, state, state.center)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Fetch the average."""
        yield Fetch(state.average, into=out)
