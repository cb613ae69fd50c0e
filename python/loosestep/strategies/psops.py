"""PSO-PS: synchronization by particle swarm optimization."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from random import Random
from typing import TYPE_CHECKING, ClassVar

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.requests import AllGather, Broadcast, Local
from loosestep.strategies.base import Cost, Need, State, Strategy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class PSOPS(Strategy):
    """A worker is a particle, drawn to the best place that it has seen, b_i, and to the best of all, b.

    After local steps V_i <- w V_i + c1 r1 (b_i - x_i) + c2 r2 (b - x_i), x_i <- x_i + V_i, where r1, r2 in [0, 1]
    are drawn for each worker and round. A place is as good as the mean loss of the round that led to it. b is the
    best b_i; of equal ones that of the lowest rank. It is what is evaluated and returned, so its loss never rises;
    where workers have data of their own that is the loss of one of them. Nothing bounds V: with short rounds the
    usual constants can throw replicas far from b. w = c1 = c2 = 0 is independent training.

    period: local steps of a round (tau).
    inertia: w.
    own: c1.
    best: c2.
    seed: of r1 and r2.

    A round sends 1 number to each other worker, and the best place by a broadcast: (n-1)/n d values in (n-1)/n
    messages a worker, in the mean. It keeps three vectors.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.5] * 400)
    >>> gradient = lambda x, b: (float(((x - b) ** 2).sum()) / 2, x - b)
    >>> result = ls.run(ls.PSOPS(), gradient, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 1e-3)
    True

    Reference: Q. Ye, Y. Han, Y. Sun, J. Lv, PSO-PS: Parameter Synchronization with Particle Swarm Optimization for
    Distributed Training of Deep Neural Networks, arXiv:2009.03816; its exact rule could not be verified: this is
    the usual swarm with a global best, and its usual constants.
    """

    course_depends_on_values: ClassVar[bool] = True
    needs: ClassVar[frozenset[Need]] = frozenset({Need.LOSSES})
    wants_like_data: ClassVar[bool] = True
    consensus_in: ClassVar[str] = "state.best_of_all"
    period: int = 4
    inertia: float = 0.729
    own: float = 1.494
    best: float = 1.494
    seed: int = 1

    def __post_init__(self) -> None:
        checks.integer("period", self.period)
        for name in ("inertia", "own", "best"):
            checks.positive(name, getattr(self, name), zero=True)
        checks.integer("seed", self.seed)

    def cost(self, n: int, d: int) -> Cost:
        return Cost((n - 1) / n * d, (n - 1) / n + n - 1, 8 * (n - 1))

    def init(self, worker: Worker) -> State:
        return State(
            velocity=buffers.like(worker.params),
            best=worker.copy_of_params(),
            best_of_all=worker.copy_of_params(),
            loss=inf,
        )

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(self.period)
        x, total, count = worker.params, *worker.losses
        if worker.samples and not count:
            raise ValueError("gradient must return (loss, gradient) for PSOPS, which compares losses")
        if count and total / count < state.loss:
            state.loss = total / count
            ops.copy(x, state.best)
        mine, losses = (worker.workspace(*room, "float64") for room in (("loss", 1), ("losses", worker.size)))
        mine[0] = state.loss
        yield AllGather(mine, losses)
        winner = min(range(worker.size), key=losses.tolist().__getitem__)
        if winner == worker.rank:
            ops.copy(state.best, state.best_of_all)
        yield Broadcast(state.best_of_all, root=winner)
        of_own, of_best = self.pulls(worker)
        ops.scale(state.velocity, self.inertia)
        ops.axpy(state.velocity, state.best, of_own)
        ops.axpy(state.velocity, state.best_of_all, of_best)
        ops.axpy(state.velocity, x, -(of_own + of_best))
        ops.axpy(x, state.velocity, 1.0)

    def pulls(self, worker: Worker) -> tuple[float, float]:
        """Return c1 r1 and c2 r2, by seed, rank and round alone."""
        draw = Random(f"swarm {self.seed}, {worker.rank}, {worker.round}")
        return self.own * draw.random(), self.best * draw.random()

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Copy the best place of all, which every worker has."""
        ops.copy(state.best_of_all, out)
        yield from ()
