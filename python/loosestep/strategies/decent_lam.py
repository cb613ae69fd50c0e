"""DecentLaM: decentralized momentum SGD for large batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.optimizers.sgd import SGD
from loosestep.requests import Gradient, Mix, Update
from loosestep.strategies.base import State, no_rate, note_rate
from loosestep.strategies.gossip import GossipStrategy
from loosestep.topologies.base import Topology
from loosestep.topologies.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.optimizers.base import Optimizer
    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class DecentLaM(GossipStrategy):
    """Momentum that counts mixing as gradient: y <- W (x - eta g), m <- mu m + (x - y) / eta, x <- x - eta m.

    Where workers' minima differ, momentum inside of D-PSGD makes its distance from the minimum of the sum
    1 / (1 - mu) times as large; here it does not depend on mu. For a local optimizer without momentum. m is kept
    as eta m: a constant rate cancels, and where it changes m is scaled by the ratio. mu = 0 is D-PSGD that adapts
    first.

    topology: which workers mix, a doubly stochastic `Topology`.
    momentum: mu.

    A round sends d values to each reader, one message each.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 800)
    >>> result = ls.run(ls.DecentLaM(), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(4))
    >>> bool(abs(result.params - 2.5).max() < 1e-3)
    True

    Reference: K. Yuan, Y. Chen et al., DecentLaM: Decentralized Momentum SGD for Large-batch Deep Training,
    arXiv:2104.11981.
    """

    made_for: ClassVar[Optimizer | None] = SGD(0.03)
    topology: Topology = field(default_factory=Ring)
    momentum: float = 0.9

    @classmethod
    def example(cls) -> DecentLaM:
        return cls(momentum=0.5)

    def __post_init__(self) -> None:
        self.check_topology()
        checks.positive("momentum", self.momentum, zero=True)

    def init(self, worker: Worker) -> State:
        state = super().init(worker)
        state.momentum, state.eta = buffers.like(worker.params), no_rate()
        return state

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        x = worker.scratch("before", like=worker.params)
        ops.copy(worker.params, x)
        note_rate(worker, state.eta, worker.rate())
        yield Gradient()
        yield Update()
        yield Mix(worker.params, self.weights(worker))
        ops.outer_momentum(worker.params, x, state.momentum, 1.0, self.momentum * state.eta.ratio)
