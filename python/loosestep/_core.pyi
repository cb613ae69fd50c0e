"""The native core."""

from collections.abc import Callable, MutableSequence, Sequence
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from loosestep.ops import Buffer
from loosestep.requests import Exchange

# Elementwise ops, reductions and facts (csrc/bind/ops.cpp). What each op does is in loosestep/ops.py.

class Updates:
    def axpy(self, y: Buffer, x: Buffer, a: float) -> None: ...
    def sgd(self, x: Buffer, g: Buffer, rate: float) -> None: ...
    def momentum(self, x: Buffer, v: Buffer, g: Buffer, rate: float, momentum: float) -> None: ...
    def nesterov(self, x: Buffer, v: Buffer, g: Buffer, rate: float, momentum: float) -> None: ...
    def adam(
        self,
        x: Buffer,
        m: Buffer,
        v: Buffer,
        g: Buffer,
        rate: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        step: int,
    ) -> None: ...

class Ops(Updates):
    def copy(self, x: Buffer, out: Buffer) -> None: ...
    def scale(self, x: Buffer, a: float) -> None: ...
    def subtract(self, a: Buffer, b: Buffer, out: Buffer) -> None: ...
    def lerp(self, x: Buffer, c: Buffer, rate: float) -> None: ...
    def elastic(self, x: Buffer, c: Buffer, rate: float) -> None: ...
    def nesterov_elastic(
        self, x: Buffer, v: Buffer, g: Buffer, c: Buffer, rate: float, momentum: float, moving_rate: float
    ) -> None: ...
    def mean_of(self, buffers: Sequence[Buffer], out: Buffer, weights: Sequence[float] | None = None) -> None: ...
    def weighted_sum(self, buffers: Sequence[Buffer], weights: Sequence[float], out: Buffer) -> None: ...
    def dot(self, x: Buffer, y: Buffer) -> float: ...
    def norm(self, x: Buffer) -> float: ...
    def all_finite(self, x: Buffer) -> bool: ...

class Info(TypedDict):
    isa: str
    isas: list[str]
    threads: int
    cores: int
    openmp: bool

exact: Updates
racy: Updates

def load(shared: Buffer, out: Buffer) -> None: ...
def isas() -> list[str]: ...
def isa(name: str) -> Ops: ...
def threads() -> int: ...
def set_threads(n: int) -> None: ...
def info() -> Info: ...
def document(function: Callable[..., Any], signature: str, text: str) -> None: ...
def allocate(size: int) -> NDArray[np.uint8]: ...

class Streams:
    def update(self, x: Buffer, y: Buffer, streaming: bool = False) -> None: ...
    def copy(self, x: Buffer, out: Buffer, streaming: bool = False) -> None: ...
    def ping_pong(self) -> float: ...

streams: Streams

# ---- what worker threads share: csrc/bind/shared.cpp ----

class Mismatch(RuntimeError):
    """Ranks posted different requests under one ticket; the message names both ranks and both requests."""

class Team:
    """Split-phase collectives for `size` ranks, one thread each, matched by order of posting.

    Sums are, per element, a left fold in rank order in the arrays' dtype (float32 or float64, C-contiguous).
    A post returns its ticket (0, 1, 2, ... on each rank) and never blocks; `outstanding` tickets may be open.
    Between a post and its complete the arrays belong to the team; the owner of a mix's `buf` may read it.
    """

    def __init__(self, size: int, outstanding: int = 32) -> None: ...
    @property
    def size(self) -> int: ...
    @property
    def outstanding(self) -> int: ...
    def post_all_reduce(
        self,
        rank: int,
        buf: NDArray[Any],
        op: Literal["sum", "mean", "max", "min"] = "sum",
        weight: float = 1.0,
    ) -> int:
        """In place on all ranks. Unequal weights: sum(w x) / sum(w), a rank of weight 0 is never read."""

    def post_broadcast(self, rank: int, buf: NDArray[Any], root: int = 0) -> int: ...
    def post_all_gather(self, rank: int, piece: NDArray[Any], out: NDArray[Any]) -> int: ...
    def post_barrier(self, rank: int) -> int: ...
    def post_mix(
        self,
        rank: int,
        buf: NDArray[Any],
        scratch: NDArray[Any],
        ranks: Sequence[int],
        weights: Sequence[float],
        readers: Sequence[int],
    ) -> int:
        """buf becomes sum_k weights[k] * buf of ranks[k]; `readers`: whose mix names this rank."""

    def complete(self, rank: int, ticket: int, seconds: float) -> Literal["done", "waiting", "aborted"]:
        """Completes this rank's tickets up to this one; "waiting" when the time is up. Raises Mismatch."""

    def missing(self, ticket: int) -> list[int]:
        """The ranks that have not posted this ticket."""

    def abort(self) -> None:
        """Every present and future complete() returns "aborted"; later posts do nothing."""

class Center:
    """The elastic center: a private copy of `initial` that many workers move, locked by `chunk` bytes."""

    def __init__(self, initial: NDArray[Any], chunk: int = 16384) -> None: ...
    def elastic(self, x: NDArray[Any], rate: float, rank: int = 0) -> int:
        """d = rate * (x - c); x -= d; c += d. Returns the version after it."""

    def fetch(self, out: NDArray[Any], rank: int = 0) -> int:
        """Copies the center into out. Returns a version whose additions are all in it, if not more."""

    def add(self, delta: NDArray[Any], rank: int = 0) -> int: ...
    def store(self, values: NDArray[Any]) -> None: ...
    @property
    def version(self) -> int:
        """How many calls of elastic() and add() have completed."""

    @property
    def size(self) -> int: ...
    @property
    def dtype(self) -> Literal["float32", "float64"]: ...

# ---- end of what worker threads share ----

# ---- the simulator ----

class Calendar:
    """What happens when: the earliest first; ties in rank order, then in the order in which they were pushed."""

    @property
    def now(self) -> float:
        """The time of what `next` gave last."""

    def push(self, time: float, rank: int, what: Any, /) -> None: ...
    def next(self) -> Any:
        """What is first; None if nothing is left."""

    def clear(self) -> None: ...

class Mail:
    """Messages between workers, priced: latency + bytes/bandwidth each, and a worker sends one at a time.

    latency, bandwidth: tables (sender, receiver). free: when each worker's link is free again, kept there.
    check(source, content, strand, into) raises where a message and its receive are not alike.
    """

    def __init__(
        self,
        calendar: Calendar,
        latency: NDArray[np.float64],
        bandwidth: NDArray[np.float64],
        free: MutableSequence[float],
        check: Callable[[int, NDArray[Any], Any, NDArray[Any]], None],
    ) -> None: ...
    def exchange(self, strand: Any, exchange: Exchange, /) -> float | None:
        """When it is done; None: `strand` will be in the calendar then. Sent is what the buffers hold now."""

    def clear(self) -> None: ...
