"""Hogwild: lock-free SGD on parameters that all workers share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep import ops
from loosestep.foundation import checks
from loosestep.requests import Local
from loosestep.strategies.base import Cost, State, Strategy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class Hogwild(Strategy):
    """All workers update one x without a lock: read x (old and new values mixed), x <- x - eta g_i(x).

    A gradient is taken at a snapshot of x read element by element; its update is added element by element. A
    torch loop shares all state of torch's optimizer, and its writes are 'racy'. On dense models every step touches
    every coordinate, where theory promises nothing; it gains while the gradient, not memory, is the limit.

    adds: 'exact' adds by compare-exchange, so no update is lost (the one that theory describes); 'racy' is a
        relaxed load and store, faster where contended, and may lose updates.
    moments: of the local optimizer: 'shared' moves one set as x is moved, and counts the updates of all (Adam's
        bias correction), so n workers are one optimizer whose gradients are late; 'own' gives each worker a set
        of its own gradients, and n velocities move one x.

    No messages: the parameters are the same memory. In virtual time a step reads x when it begins and
    updates it when it ends.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.Hogwild(), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 0.1)
    True

    Reference: F. Niu, B. Recht, C. Re, S. Wright, Hogwild!, arXiv:1106.5730, algorithm 1.
    """

    keeps_temperature: ClassVar[bool] = True  # steps are summed with their noise
    synchronous: ClassVar[bool] = False
    identity_at_one: ClassVar[bool] = True
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "one-sided"
    adds: Literal["exact", "racy"] = "exact"
    moments: Literal["shared", "own"] = "shared"

    def __post_init__(self) -> None:
        checks.one_of("adds", self.adds, ("exact", "racy"))
        checks.one_of("moments", self.moments, ("shared", "own"))

    @property
    def shared_buffers(self) -> tuple[str, ...]:
        return ("params", "moments") if self.moments == "shared" else ("params",)

    def cost(self, n: int, d: int) -> Cost:
        return Cost(0, 0)

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(1)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Read the shared parameters."""
        ops.load(worker.params, out)
        yield from ()
