"""Consensus-based distributed SGD on a fixed topology."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.requests import Gradient, Mix, Start, Update, Wait
from loosestep.strategies.base import Cost, State
from loosestep.strategies.gossip import GossipStrategy
from loosestep.topologies.base import Topology
from loosestep.topologies.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class CDSGD(GossipStrategy):
    """Combine with the neighbours, then adapt: x_i <- sum_j w_ij x_j - eta g_i(x_i), gradient at the old x_i.

    With a momentum or Nesterov local optimizer this is CDMSGD: W acts on parameters only, never on momenta.
    The exchange runs while the gradient is computed. Stable on quadratics iff
    eta h_max < 1 + lambda_min(W). Mixing weights stay as they are when a worker's data ends (they must, to
    conserve the mean); it then adds no gradient.

    topology: which workers mix, a doubly stochastic `Topology`: `Complete()`, `Ring()`, `Torus()` and others.
    rounds: how often a step mixes (q): i-CDSGD, which has W^q in the place of W. On a graph that changes, q
        matrices one after the other.
    trade_off: omega of g-CDSGD, x_i <- (1 - omega) (x_i - eta g_i(x_i)) + omega sum_j w_ij x_j, from 0,
        independent SGD, to 1, consensus alone. By default the rule above.
    momentum: mu of CDMSGD as the paper has it, v_i <- mu v_i - eta g_i(x_i + mu v_i), x_i <- sum_j w_ij x_j + v_i,
        for a local optimizer without momentum. Parameters are then x_i + mu v_i, where the gradient is taken, and
        W acts on x_i; with a `Nesterov` optimizer instead, as in the release, it acts on the parameters.

    A round sends d values to each neighbour, one message each, `rounds` times.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> strategy = ls.CDSGD(topology=ls.Complete())
    >>> result = ls.run(strategy, lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 1e-3)
    True

    Reference: Z. Jiang, A. Balu, C. Hegde, S. Sarkar, Collaborative Deep Learning in Fixed Topology Networks,
    arXiv:1706.07880, algorithms 1 and 2; i-CDSGD and g-CDSGD: the same, On Consensus-Optimality Trade-offs in
    Collaborative Deep Learning, arXiv:1805.12120 (g-CDSGD's exact form could not be verified).
    """

    topology: Topology = field(default_factory=Ring)
    rounds: int = 1
    trade_off: float | None = None
    momentum: float = 0.0

    def __post_init__(self) -> None:
        self.check_topology()
        checks.integer("rounds", self.rounds)
        if self.trade_off is not None:
            checks.fraction("trade_off", self.trade_off)
        checks.positive("momentum", self.momentum, zero=True)
        if self.trade_off is not None and self.momentum:
            raise ValueError(f"momentum must be 0 with a trade_off, got {self.momentum!r}")

    @property
    def identity_at_one(self) -> bool:  # type: ignore[override]
        """Return whether one worker's steps are the local optimizer's."""
        return self.trade_off is None and not self.momentum

    def cost(self, n: int, d: int) -> Cost:
        degree = self.rounds * self.topology.degree(n, 0)
        return Cost(degree * d, degree)

    def init(self, worker: Worker) -> State:
        state = super().init(worker)
        if self.momentum:
            state.velocity = buffers.like(worker.params)
        return state

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        if self.momentum:
            yield from self.ahead(worker, state)
        elif self.trade_off is not None:
            mixed = worker.scratch("mixed", like=worker.params)
            ops.copy(worker.params, mixed)
            yield from self.combine(worker, mixed, adapt=True)
            ops.lerp(worker.params, mixed, self.trade_off)
        else:
            yield from self.combine(worker, worker.params)
            yield Update()

    def combine(self, worker: Worker, x: Buffer, *, adapt: bool = False) -> Iterator[Request]:
        """Yield a gradient, an update if it adapts, and meanwhile x <- W^rounds x."""
        steps = range(self.rounds * (worker.round - 1), self.rounds * worker.round)
        first, *others = [Mix(x, self.topology.weights(worker.rank, worker.size, step)) for step in steps]
        yield Start(first)
        yield Gradient()
        if adapt:
            yield Update()
        yield Wait(first)
        yield from others

    def ahead(self, worker: Worker, state: State) -> Iterator[Request]:
        """Yield a step whose gradient is taken at x + mu v, while x is mixed."""
        here, mixed = (worker.scratch(name, like=worker.params) for name in ("here", "mixed"))
        ops.copy(worker.params, here)
        ops.copy(here, mixed)
        ops.axpy(mixed, state.velocity, -self.momentum)
        yield from self.combine(worker, mixed, adapt=True)
        ops.subtract(worker.params, here, here)  # -eta g
        ops.scale(state.velocity, self.momentum)
        ops.axpy(state.velocity, here, 1.0)
        ops.copy(mixed, worker.params)
        ops.axpy(worker.params, state.velocity, 1 + self.momentum)
