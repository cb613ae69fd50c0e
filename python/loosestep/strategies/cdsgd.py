"""Consensus-based distributed SGD on a fixed topology."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from loosestep.foundation import checks
from loosestep.requests import Gradient, Mix, Start, Update, Wait
from loosestep.strategies.base import Cost, State, Strategy
from loosestep.topologies.base import Topology
from loosestep.topologies.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class CDSGD(Strategy):
    """Combine with the neighbours, then adapt: x_i <- sum_j w_ij x_j - eta g_i(x_i), gradient at the old x_i.

    With a momentum or Nesterov local optimizer this is CDMSGD: W acts on parameters only, never on momenta.
    The exchange runs while the gradient is computed. Stable on quadratics iff
    eta h_max < 1 + lambda_min(W). Mixing weights stay as they are when a worker's data ends (they must, to
    conserve the mean); it then adds no gradient.

    topology: which workers mix, a doubly stochastic `Topology`: `Complete()`, `Ring()`, `Torus()` and others.

    A round sends d values to each neighbour, one message each.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> strategy = ls.CDSGD(topology=ls.Complete())
    >>> result = ls.run(strategy, lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 1e-3)
    True

    Reference: Z. Jiang, A. Balu, C. Hegde, S. Sarkar, Collaborative Deep Learning in Fixed Topology Networks,
    arXiv:1706.07880, algorithms 1 and 2 (momentum as in its release).
    """

    identity_at_one: ClassVar[bool] = True
    topology: Topology = field(default_factory=Ring)

    def __post_init__(self) -> None:
        checks.instance("topology", self.topology, Topology)
        if self.topology.stochastic != "doubly":
            raise ValueError(f"topology must be doubly stochastic, to conserve the mean, got {self.topology!r}")

    def weigh(self, worker: Worker) -> float:
        """Return 1: W conserves the plain mean."""
        return 1.0

    def cost(self, n: int, d: int) -> Cost:
        degree = self.topology.degree(n)
        return Cost(degree * d, degree)

    def init(self, worker: Worker) -> State:
        self.topology.check_size(worker.size)
        return State()

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        weights = self.topology.weights(worker.rank, worker.size, worker.round)
        mix = Mix(worker.params, weights)
        yield Start(mix)
        yield Gradient()
        yield Wait(mix)
        yield Update()
