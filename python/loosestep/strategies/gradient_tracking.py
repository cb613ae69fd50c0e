"""Gradient tracking."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from loosestep import ops
from loosestep.foundation import buffers
from loosestep.requests import Gradient, Mix, Start, Update, Wait
from loosestep.strategies.base import Cost, State
from loosestep.strategies.gossip import GossipStrategy
from loosestep.topologies.base import Topology
from loosestep.topologies.lazy import Lazy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class GradientTracking(GossipStrategy):
    """Each follows the mean gradient of all: q <- W q + g(x) - g(x'), x <- W x - eta q, x' of the step before.

    q begins as g. The mean of q is the mean gradient in every step, so it rests at the minimum of the sum of all
    workers' functions, on directed and changing graphs too. q takes the place of the gradient for the local
    optimizer. Both exchanges run while the gradient is computed.

    What is in a gradient enters twice, as g now and as -g in the next step. So on functions of curvature h, with
    a symmetric W and for each of its eigenvalues l, it settles iff eta h < (1 + l)^2 / 2, where S-SGD does up to
    2; and gradients' noise drives workers 2 / (1 + l)^2 times as far apart (in variance) as in `DPSGD`, which
    matters where data are alike and there is no bias to be rid of. A ring of even length with weights 1/3 has l
    = -1/3: a ninth of S-SGD's rate, 4.5 times the noise. `Lazy` rings have l >= 1/3: 4/9 of the rate, and 1.1
    times the noise at most.

    topology: which workers mix, a doubly stochastic `Topology`; negative eigenvalues cost most of the rate.

    A round sends 2 d values to each reader in 2 messages.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 800)
    >>> gradient = lambda x, b: b * (x - b)  # curvatures differ, too
    >>> options = {"optimizer": ls.SGD(0.05), "on": ls.Simulated(4)}
    >>> result = ls.run(ls.GradientTracking(), gradient, np.zeros(3), batches, **options)
    >>> bool(abs(result.params - 3.0).max() < 1e-9)  # (1 + 4 + 9 + 16) / (1 + 2 + 3 + 4)
    True

    Reference: P. Di Lorenzo, G. Scutari, NEXT, arXiv:1602.00591; A. Nedic, A. Olshevsky, W. Shi, Achieving
    Geometric Convergence for Distributed Optimization over Time-Varying Graphs, arXiv:1607.03218, algorithm 1.
    """

    identity_at_one: ClassVar[bool] = True
    topology: Topology = field(default_factory=Lazy)

    def __post_init__(self) -> None:
        self.check_topology()

    def cost(self, n: int, d: int) -> Cost:
        degree = 2 * self.topology.degree(n, 0)
        return Cost(degree * d, degree)

    def init(self, worker: Worker) -> State:
        state = super().init(worker)
        state.tracked, state.gradient = buffers.like(worker.params), buffers.like(worker.params)
        return state

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        weights = self.weights(worker)
        mixes = Mix(worker.params, weights), Mix(state.tracked, weights)
        for mix in mixes:
            yield Start(mix)
        yield Gradient()
        for mix in mixes:
            yield Wait(mix)
        ops.subtract(state.tracked, state.gradient, state.tracked)
        ops.axpy(state.tracked, worker.grad, 1.0)  # in this order: alone, exactly g
        ops.copy(worker.grad, state.gradient)
        ops.copy(state.tracked, worker.grad)
        yield Update()
