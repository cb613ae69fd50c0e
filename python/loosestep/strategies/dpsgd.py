"""Decentralized parallel SGD."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep.foundation import checks
from loosestep.requests import Gradient, Mix, Start, Update, Wait
from loosestep.strategies.base import State
from loosestep.strategies.gossip import GossipStrategy
from loosestep.topologies.base import Topology
from loosestep.topologies.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class DPSGD(GossipStrategy):
    """D-PSGD: x_i <- sum_j w_ij x_j - eta g_i(x_i), or, adapting first, x_i <- sum_j w_ij (x_j - eta g_j(x_j)).

    The mean moves by the mean gradient whatever the graph. Stable on quadratics iff eta h < 1 + lambda_min(W), or
    eta h < 2 if it adapts first. Where workers' minima differ both rest O(eta) away from the minimum of the sum:
    `D2` and `GradientTracking` do not. Local momentum multiplies that distance by 1 / (1 - mu): `DecentLaM` does
    not. The name says the analysis: the rule is that of `CDSGD`.

    topology: which workers mix, a doubly stochastic `Topology`; it may change from step to step.
    order: 'combine' mixes while the gradient is computed; 'adapt' mixes after the update, which waits for it.
    momentum: what a step does to the local optimizer's buffers: 'keep' leaves them, 'mix' mixes them by the same
        weights after the update (k buffers send as much as k vectors of parameters).

    A round sends d values to each reader, one message each.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> strategy = ls.DPSGD(ls.StaticExponential())
    >>> result = ls.run(strategy, lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(4))
    >>> bool(abs(result.params - 2.5).max() < 1e-3)
    True

    Reference: X. Lian et al., Can Decentralized Algorithms Outperform Centralized Algorithms?, arXiv:1705.09056,
    algorithm 1; mixed momentum: H. Yu, R. Jin, S. Yang, arXiv:1905.03817.
    """

    identity_at_one: ClassVar[bool] = True
    topology: Topology = field(default_factory=Ring)
    order: Literal["combine", "adapt"] = "combine"
    momentum: Literal["keep", "mix"] = "keep"

    def __post_init__(self) -> None:
        self.check_topology()
        checks.one_of("order", self.order, ("combine", "adapt"))
        checks.one_of("momentum", self.momentum, ("keep", "mix"))

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        weights = self.weights(worker)
        mix = Mix(worker.params, weights)
        if self.order == "combine":
            yield Start(mix)
            yield Gradient()
            yield Wait(mix)
            yield Update()
        else:
            yield Gradient()
            yield Update()
            yield mix
        for moment in worker.moments if self.momentum == "mix" else ():
            yield Mix(moment, weights)
