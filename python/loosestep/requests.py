"""What a strategy may ask for. Data only: a request performs nothing.

Results land in the buffers that a request names, so nothing is sent back into a strategy. Requests are
compared by identity and are their own handles: `Wait(request)` waits for what `Start(request)` began.
Collectives take `group`, the ranks that take part (None: all workers).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from loosestep import _core
from loosestep.arrays import is_buffer, on_card

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

Buffer: TypeAlias = "NDArray[Any]"
Group: TypeAlias = "tuple[int, ...]"
Reduction = Literal["mean", "sum", "max", "min"]


class Request:
    """Anything that can be yielded."""

    __slots__ = ()

    def __str__(self) -> str:
        return describe(self)


class Compute(Request):
    """Performed by the adapter: it touches this worker alone."""

    __slots__ = ()


class Communication(Request):
    """Performed by the transport, or lowered to what the transport performs."""

    __slots__ = ()


@dataclass(frozen=True, eq=False, slots=True)
class Bucket:
    """A contiguous part of the gradient that is ready, and sent, as one."""

    index: int
    count: int  # how many buckets there are
    grad: Buffer
    share: float  # of the gradient that is there when this bucket is


@dataclass(frozen=True, eq=False, slots=True)
class Shared:
    """A variable that all workers share, by name; `store` belongs to the transport."""

    name: str
    size: int
    dtype: np.dtype[Any]
    store: Any


@dataclass(frozen=True, slots=True)
class Weights:
    """One row of a mixing matrix: the weight this worker gives to each rank, and who reads this worker."""

    row: tuple[tuple[int, float], ...]  # (rank, weight), in rank order, own rank included
    readers: tuple[int, ...]  # other ranks whose rows hold this worker


@dataclass(frozen=True, eq=False, slots=True)
class Pull:
    """What an update feels besides the gradient, and what it leaves behind.

    The gradient becomes g + strength (x - anchor); after the update mean <- keep mean + (1 - keep) x.
    """

    anchor: Buffer
    strength: float
    mean: Buffer
    keep: float


# --- computation -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, slots=True)
class Ready(Compute):
    """Wait until this bucket's local gradient exists; the first of a step begins the step."""

    bucket: Bucket


@dataclass(frozen=True, eq=False, slots=True)
class Gradient(Compute):
    """The whole local gradient, one step of this worker's clock."""


@dataclass(frozen=True, eq=False, slots=True)
class Update(Compute):
    """The local optimizer moves `params` by `grad`, and by `pull` where there is one.

    `local` are those of `Local`: a worker without data makes none.
    """

    pull: Pull | None = None
    local: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Local(Compute):
    """That many local steps: `Gradient`, `Update`, repeated. A worker without data makes none.

    Of a synchronous strategy: then `idle` steps of the clock in which this worker makes none, while others do.
    """

    steps: int
    pull: Pull | None = None
    idle: int = 0


# --- communication -----------------------------------------------------------------------------------------


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
    """A rule moves shared variables by this worker's values, where they are kept, atomically per element.

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
        if any(map(on_card, self.values)):  # what is sent are copies, which are checked
            return
        first = self.shared[0] if self.shared else NOTHING
        name = NAMES.get(first.dtype) or str(first.dtype)
        _core.check_move(self.rule, len(self.shared), self.values, self.scalars, first.size, name)

    @property
    def nbytes(self) -> int:
        """What it sends."""
        return sum(values.nbytes for values in self.values)


NOTHING = Shared("", 0, np.dtype(np.float64), None)
NAMES = {np.dtype(kind): kind.__name__ for kind in (np.float32, np.float64)}  # dtype.name takes 2 us


def check_shared_alike(variables: tuple[Shared, ...]) -> None:
    """A rule moves variables of one size and dtype, each named once."""
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
    """Buffer and shared variable move towards each other: d = rate (x - c); x -= d; c += d."""

    buf: Buffer
    shared: Shared
    rate: float


@dataclass(frozen=True, eq=False, slots=True)
class AllReduce(Communication):
    """`buf` becomes the reduction over all workers: per element a left fold in rank order.

    On several hosts, of all workers: such a fold over each host's workers, then one over the hosts.
    A mean is weighted by `weight` (workers of weight 0 are left out; equal weights: fold, one division).
    Sends 2 (n-1)/n d values a worker in 2 (n-1) messages.
    """

    buf: Buffer
    op: Reduction = "mean"
    weight: float = 1.0
    group: Group | None = None


@dataclass(frozen=True, eq=False, slots=True)
class AllGather(Communication):
    """`out` becomes every worker's `piece`, in rank order. Sends (n-1) d values in n-1 messages."""

    piece: Buffer
    out: Buffer
    group: Group | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Broadcast(Communication):
    """`buf` becomes the root's (a rank of the group)."""

    buf: Buffer
    root: int = 0
    group: Group | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Barrier(Communication):
    """Done when every worker has asked for it."""

    group: Group | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Mix(Communication):
    """`buf` becomes the weighted sum over neighbours: one row of W. Sends d values to each reader."""

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


# --- asked by the driver and by wrappers, not by strategies ------------------------------------------------


@dataclass(eq=False, slots=True)
class Settled(Communication):
    """In place of a started request whose result is there since a quiesce point: its `Wait` lasts until `due`."""

    due: float = 0.0  # in virtual time; in real time, never later than now


@dataclass(frozen=True, eq=False, slots=True)
class Settle(Communication):
    """Complete what `Start` began, at no price; in virtual time `settled` learns when it would have been over."""

    request: Communication
    settled: Settled


@dataclass(frozen=True, eq=False, slots=True)
class RollCall(Communication):
    """Has any worker data for this round? `answer` gets one bool.

    Answered at once where this worker has; one that has not waits until another has, or until none can.
    """

    round: int
    present: bool
    answer: list[bool] = field(default_factory=list)


@dataclass(frozen=True, eq=False, slots=True)
class Script(Communication):
    """A request lowered to primitives that run beside the worker's own; not started, it is waited for at once."""

    source: Communication
    requests: Iterator[Communication]
    sent: tuple[int, int] | None = None  # (bytes, messages) of it, where that is not what the source would send


@dataclass(frozen=True, eq=False, slots=True)
class Hosted(Communication):
    """Collectives of one host's workers, one after the other, as one visit to memory that they share.

    Visits of one `lane` happen in the order of their `number`, from 0, none left out; where nobody shares memory,
    they are messages of that `tag`.
    """

    lane: int
    number: int
    tag: int
    requests: Iterator[Communication]


@dataclass(frozen=True, eq=False, slots=True)
class Sleep(Communication):
    """Let this much of the transport's time pass."""

    seconds: float


def address(buf: Buffer) -> int:
    """Where a buffer begins in memory."""
    told = buf.__cuda_array_interface__ if on_card(buf) else buf.__array_interface__  # type: ignore[attr-defined]
    return int(told["data"][0])


def describe(request: Request) -> str:
    """One line for people: the request's name and the sizes that matter."""
    name = type(request).__name__
    if isinstance(request, Script):
        return describe(request.source)
    if isinstance(request, (Start, Wait, Settle)):
        return f"{name}({describe(request.request)})"
    if isinstance(request, Exchange):
        sends, recvs = ([rank for rank, _ in pairs] for pairs in (request.sends, request.recvs))
        return f"Exchange(sends to {sends}, receives from {recvs})"
    shown = [word for name in getattr(request, "__slots__", ()) if (word := _word(getattr(request, name)))]
    return f"{name}({', '.join(shown)})"


def _word(value: object) -> str:
    if is_buffer(value):
        return f"{value.size} {value.dtype}"
    if isinstance(value, Shared):
        return repr(value.name)
    if isinstance(value, tuple):
        return f"({', '.join(filter(None, map(_word, value)))})" if value else ""
    if isinstance(value, Bucket):
        return f"bucket {value.index + 1} of {value.count}"
    return repr(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else ""
