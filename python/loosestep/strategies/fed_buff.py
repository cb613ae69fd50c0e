"""FedBuff: a center that moves when enough updates have come, each weighted by how late it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.requests import Fetch, Local, Push
from loosestep.strategies.base import Cost, State, Strategy, pull

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class FedBuff(Strategy):
    """Buffered asynchronous aggregation. A worker makes local steps from the center that it pulled, pushes
    D = what it pulled - x, and pulls c. Where c is kept,

    b <- b + D / (1 + s)^w, and with every B-th push: c <- c - r b / B, b <- 0.

    s, the staleness of a push, is how many steps the center has made since its worker pulled. So B workers of
    one speed move c to the mean of where they came, as FedAvg does, and slow ones hold nobody up but count
    less. B = 1 moves c at each push. Workers of a whole buffer that pull before it is full begin where they began.

    period: local steps between two pushes.
    buffer: B, by default the number of workers; NVFlare's example has 4 for 8 clients.
    rate: r, the server's learning rate.
    discount: w; 0.5 in the paper, 0 weighs all pushes alike.

    A round sends d values in 1 message and receives d values in 1.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.FedBuff(period=4), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 0.1)
    True

    Reference: J. Nguyen et al., Federated Learning with Buffered Asynchronous Aggregation, arXiv:2106.06639,
    algorithm 1 (from memory; the secure aggregation of its buffer is not part of this).
    """

    synchronous: ClassVar[bool] = False
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "one-sided"
    consensus_in: ClassVar[str] = "state.center"
    period: int = 8
    buffer: int | None = None
    rate: float = 1.0
    discount: float = 0.5

    @classmethod
    def example(cls) -> FedBuff:
        return cls(period=1)

    def __post_init__(self) -> None:
        checks.integer("period", self.period)
        if self.buffer is not None:
            checks.integer("buffer", self.buffer)
        checks.positive("rate", self.rate)
        checks.positive("discount", self.discount, zero=True)

    def cost(self, n: int, d: int) -> Cost:
        return Cost(d, 1)

    def init(self, worker: Worker) -> State:
        rest = buffers.like(worker.params)
        return State(
            center=worker.shared("center", like=worker.params),
            buffer=worker.shared("buffer", like=rest),
            pulled=worker.copy_of_params(),
            seen=buffers.zeros(1, float),
        )

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(self.period)
        change = state.pulled  # until it holds what is pulled next
        ops.subtract(state.pulled, worker.params, change)
        scalars = (self.rate, float(self.buffer or worker.size), float(state.seen[0]), self.discount)
        yield Push("buffered", (state.center, state.buffer), (change,), scalars)
        yield from pull(worker, state, state.center, state.seen)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Fetch the center."""
        yield Fetch(state.center, into=out)
