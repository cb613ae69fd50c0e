"""D2, which is exact diffusion."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from loosestep import ops
from loosestep.requests import Gradient, Mix, Update
from loosestep.strategies.base import State
from loosestep.strategies.gossip import GossipStrategy
from loosestep.topologies.base import EXACT, LARGEST, Topology
from loosestep.topologies.lazy import Lazy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class D2(GossipStrategy):
    """Workers with different data, without bias: x <- W (2 x - x' - eta g + eta g'), x' and g' of the step before.

    In the form that is computed: psi <- x - eta g, x <- W (psi + x - psi'). It rests at the minimum of the sum of
    all workers' functions, where D-PSGD rests O(eta) away. psi' is kept, so that rates may change. Settles iff
    lambda_min(W) > -1/3 (and eta is small) on a symmetric W that stays as it is: a ring of even length with
    weights 1/3 has -1/3 exactly, and `Lazy` graphs at least 0. W = I is plain SGD.

    topology: which workers mix, a doubly stochastic `Topology`.

    A round sends d values to each reader, one message each.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 800)
    >>> gradient = lambda x, b: b * (x - b)  # curvatures differ, too
    >>> result = ls.run(ls.D2(), gradient, np.zeros(3), batches, on=ls.Simulated(4))
    >>> bool(abs(result.params - 3.0).max() < 1e-9)  # (1 + 4 + 9 + 16) / (1 + 2 + 3 + 4)
    True

    Reference: H. Tang et al., D2: Decentralized Training over Decentralized Data, arXiv:1803.07068, algorithm 1;
    K. Yuan, B. Ying, X. Zhao, A. Sayed, Exact Diffusion, arXiv:1702.05122.
    """

    identity_at_one: ClassVar[bool] = True
    topology: Topology = field(default_factory=Lazy)

    def __post_init__(self) -> None:
        self.check_topology()

    def warnings(self, size: int) -> list[str]:
        found = super().warnings(size)
        if not self.topology.symmetric or self.topology.period(size) != 1:
            found.append(
                f"W must be symmetric and stay as it is, to come to the minimum of the sum, got {self.topology!r}"
            )
        elif size <= LARGEST and self.topology.serves(size):
            smallest = self.topology.smallest_eigenvalue(size)
            if smallest <= -1 / 3 + EXACT:
                found.append(
                    f"the smallest eigenvalue of W must be above -1/3, and is {smallest:.4g} for {size} workers: "
                    f"it does not settle, at any learning rate; topology=Lazy({self.topology!r}) has "
                    f"{(1 + smallest) / 2:.4g}"
                )
        return found

    def init(self, worker: Worker) -> State:
        state = super().init(worker)
        state.adapted = worker.copy_of_params()  # psi of the step before
        return state

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        x = worker.scratch("before", like=worker.params)
        ops.copy(worker.params, x)
        yield Gradient()
        yield Update()
        ops.correct(x, state.adapted, worker.params)  # psi + (x - psi'): alone, exactly psi
        ops.copy(worker.params, state.adapted)
        ops.copy(x, worker.params)
        yield Mix(worker.params, self.weights(worker))
