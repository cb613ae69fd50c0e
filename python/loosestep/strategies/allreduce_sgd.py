"""Synchronous data-parallel SGD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from loosestep.foundation import checks
from loosestep.requests import Update
from loosestep.strategies.base import Cost, State, Strategy, cost_of_mean_gradient, mean_gradient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class AllReduceSGD(Strategy):
    """Mini-batch SGD on the union of all workers' batches: x <- x - eta * mean_i g_i(x).

    The mean is weighted by the samples of each worker's batch, so unequal batches give the gradient of the
    union. Buckets of the gradient are sent while later ones are still computed.

    bucket_bytes: largest part of the gradient that is sent as one.
    first_bytes: as much of the last layers is sent first, so that sending begins early in backward.

    A round sends 2 (n-1)/n d values a worker, in 2 (n-1) messages a bucket. Of tensors with sparse gradients
    the rows that are not zero are sent, with their numbers, where that is shorter: `Rows` has the formula.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 100)
    >>> result = ls.run(ls.AllReduceSGD(), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> [round(float(v), 3) for v in result.params]
    [1.5, 1.5, 1.5]

    Reference: P. Goyal et al., Accurate, Large Minibatch SGD, arXiv:1706.02677, section 3.
    """

    keeps_temperature: ClassVar[bool] = True  # all workers draw the same noise, and are one chain
    identity_at_one: ClassVar[bool] = True
    replicas_agree: ClassVar[bool] = True
    all_alike: ClassVar[bool] = True
    bucket_bytes: int = 25 << 20
    first_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        checks.integer("bucket_bytes", self.bucket_bytes)
        checks.integer("first_bytes", self.first_bytes)

    def cost(self, n: int, d: int) -> Cost:
        return cost_of_mean_gradient(n, d, self.bucket_bytes, self.first_bytes)

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield from mean_gradient(worker, self.bucket_bytes, self.first_bytes, untouched=True)
        yield Update()
