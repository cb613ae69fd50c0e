"""Federated averaging."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar

from loosestep.foundation import checks
from loosestep.requests import AllReduce, Local
from loosestep.strategies.base import Cost, Need, State, Strategy, cost_of_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class FedAvg(Strategy):
    """In every round some clients, drawn by seed, make local steps from c; then c <- sum_k (n_k / n) x_k over
    them.

    A worker is a client, and n_k the samples that it used in the round. The others make no step, use up no data
    and get c as well. Local momentum is a client's own and is kept; the paper's local optimizer, SGD, has none.
    All clients and one step are mini-batch SGD.

    period: local steps of a client in a round; the paper's E epochs are E n_k / B of them, with batches of B = 10.
    fraction: of the clients that take part in a round, at least one (C; 0.1 in the paper).
    seed: of the draw of those that take part.

    A round sends 2 (n-1)/n d values a worker in 2 (n-1) messages.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 100)
    >>> result = ls.run(ls.FedAvg(period=4), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> [round(float(v), 3) for v in result.params]
    [1.5, 1.5, 1.5]

    Reference: H. B. McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data,
    arXiv:1602.05629, algorithm 1 (not verified in its text).
    """

    replicas_agree: ClassVar[bool] = True
    period: int = 8
    fraction: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        checks.integer("period", self.period)
        checks.positive("fraction", self.fraction)
        checks.at_most("fraction", self.fraction, 1)
        if self.seed is not None:
            checks.integer("seed", self.seed, 0)

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """Return PARTIAL_PARTICIPATION with a fraction: a resting worker takes no gradient."""
        return frozenset({Need.PARTIAL_PARTICIPATION} if self.fraction < 1 else ())

    def clients(self, size: int, number: int) -> list[int]:
        """Return the ranks that take part in a round of that number: the same on every worker."""
        count = max(1, round(self.fraction * size))
        return Random(f"{self.seed or 0}, {number}").sample(range(size), count)

    def cost(self, n: int, d: int) -> Cost:
        return cost_of_mean(n, d)

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        takes_part = worker.rank in self.clients(worker.size, worker.round)
        yield Local(self.period) if takes_part else Local(0, idle=self.period)
        yield AllReduce(worker.params, op="mean", weight=worker.samples)
