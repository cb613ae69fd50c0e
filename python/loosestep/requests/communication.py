"""Requests for communication: a transport performs them, or they are lowered to what it performs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from loosestep import _core
from loosestep.foundation.buffers import is_on_device
from loosestep.requests.base import Buffer, Communication, Group, Reduction, Shared, Weights

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(eq=False, slots=True)  # not frozen: made by the thousand in a collective, and that costs a third less
class Exchange(Communication):
    """Post every send and every receive; done when all are.

    `sends` and `recvs` are (rank, buffer) pairs. `note` travels in the header of every message and lands
    in `notes` under the sender's rank; headers are not counted as bytes. Messages of one `tag` between two workers
    arrive in the order in which they were sent.
    """

    sends: Sequence[tuple[int, Buffer]] = ()
    recvs: Sequence[tuple[int, Buffer]] = ()
    note: float = 0.0
    notes: dict[int, float] | None = None
    tag: int = 0

    def __str__(self) -> str:
        sends, recvs = ([rank for rank, _ in pairs] for pairs in (self.sends, self.recvs))
        return f"Exchange(sends to {sends}, receives from {recvs})"


@dataclass(frozen=True, eq=False, slots=True)
class Fetch(Communication):
    """Read a shared variable into a buffer; it sees all that this worker pushed before.

    `version` (one float64) becomes how often the variable had been moved: all those moves are seen.
    """

    shared: Shared
    into: Buffer
    version: Buffer | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Push(Communication):
    """Let a rule move shared variables by this worker's values, where they are kept, atomically per element.

    rule: the name of an op; its buffers are `shared`, then `values`, and it writes none of `values`:
        Push("axpy", (c,), (delta,), (1.0,)) is c += delta.
    scalars: the op's numbers, in order. An op whose last is `step` counts moves, and gets it where the variable is
        kept: how often the first variable was moved, this move included.
    arrived: it is done when it has happened; otherwise as soon as it is on its way.

    Sends `values` in one message. Raises ValueError or TypeError where rule, variables and values do not fit.
    """

    rule: str
    shared: tuple[Shared, ...]
    values: tuple[Buffer, ...] = ()
    scalars: tuple[float, ...] = ()
    arrived: bool = False

    def __post_init__(self) -> None:
        if len(self.shared) > 1:
            check_shared_alike(self.shared)
        if any(map(is_on_device, self.values)):  # what is sent are copies, which are checked
            return
        first = self.shared[0] if self.shared else NOTHING
        name = NAMES.get(first.dtype) or str(first.dtype)
        _core.check_move(self.rule, len(self.shared), self.values, self.scalars, first.size, name)

    @property
    def nbytes(self) -> int:
        """The number of bytes that it sends."""
        return sum(values.nbytes for values in self.values)


NOTHING = Shared("", 0, np.dtype(np.float64), None)
NAMES = {np.dtype(kind): kind.__name__ for kind in (np.float32, np.float64)}  # dtype.name takes 2 us


def check_shared_alike(variables: tuple[Shared, ...]) -> None:
    """Refuse variables of different size or dtype, and one that is named twice."""
    for place, each in enumerate(variables):
        first = variables[0]
        if (each.size, each.dtype) != (first.size, first.dtype):
            raise ValueError(
                f"{each.name!r} ({each.size} {each.dtype}) cannot be moved together with {first.name!r} "
                f"({first.size} {first.dtype})"
            )
        if each in variables[:place]:
            raise ValueError(f"{each.name!r} is named twice")


@dataclass(frozen=True, eq=False, slots=True)
class Elastic(Communication):
    """Move a buffer and a shared variable towards each other: d = rate (x - c); x -= d; c += d."""

    buf: Buffer
    shared: Shared
    rate: float


@dataclass(frozen=True, eq=False, slots=True)
class AllReduce(Communication):
    """Replace `buf` by the reduction over all workers: per element a left fold in rank order.

    On several hosts, of all workers: such a fold over each host's workers, then one over the hosts.
    A mean is weighted by `weight` (workers of weight 0 are left out; equal weights: fold, one division).
    Sends 2 (n-1)/n d values a worker in 2 (n-1) messages; by messages, where latency decides, (n-1) d in n-1.
    """

    buf: Buffer
    op: Reduction = "mean"
    weight: float = 1.0
    group: Group | None = None


@dataclass(frozen=True, eq=False, slots=True)
class AllGather(Communication):
    """Fill `out` with every worker's `piece`, in rank order. Sends (n-1) d values in n-1 messages."""

    piece: Buffer
    out: Buffer
    group: Group | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Broadcast(Communication):
    """Replace `buf` by the root's (a rank of the group)."""

    buf: Buffer
    root: int = 0
    group: Group | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Barrier(Communication):
    """Block until every worker has asked for it."""

    group: Group | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Mix(Communication):
    """Replace `buf` by the weighted sum over neighbours: one row of W. Sends d values to each reader."""

    buf: Buffer
    weights: Weights


@dataclass(frozen=True, eq=False, slots=True)
class Start(Communication):
    """Begin a communication and go on; its buffers belong to it until `Wait` (a `Mix`'s may still be read).

    Matched between workers by order of `Start` within a group."""

    request: Communication


@dataclass(frozen=True, eq=False, slots=True)
class Wait(Communication):
    """Complete what `Start` began."""

    request: Communication


@dataclass(frozen=True, eq=False, slots=True)
class Sleep(Communication):
    """Let this much of the transport's time pass."""

    seconds: float
