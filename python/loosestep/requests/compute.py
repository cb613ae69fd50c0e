"""Requests for computation: they touch this worker alone."""

from __future__ import annotations

from dataclasses import dataclass

from loosestep.requests.base import Bucket, Buffer, Compute


@dataclass(frozen=True, eq=False, slots=True)
class Proximal:
    """A proximal term, which draws an update to an anchor, and a running mean that the update leaves.

    The gradient becomes g + strength (x - anchor); after the update mean <- keep mean + (1 - keep) x.
    """

    anchor: Buffer
    strength: float
    mean: Buffer
    keep: float


@dataclass(frozen=True, eq=False, slots=True)
class Ready(Compute):
    """Wait until this bucket's local gradient exists; the first of a step begins the step."""

    bucket: Bucket


@dataclass(frozen=True, eq=False, slots=True)
class Gradient(Compute):
    """Compute the whole local gradient, one step of this worker's clock."""


@dataclass(frozen=True, eq=False, slots=True)
class Update(Compute):
    """Let the local optimizer move `params` by `grad`, and by `proximal` where there is one.

    `local` are those of `Local`: a worker without data makes none.
    """

    proximal: Proximal | None = None
    local: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Local(Compute):
    """Make that many local steps: `Gradient`, `Update`, repeated. A worker without data makes none.

    Of a synchronous strategy: then `idle` steps of the clock in which this worker makes none, while others do.
    A run can be saved and resumed inside the first `Local` of a round, and inside a later one that says so by
    `after`: a round that begins with the state as it is here would first yield these steps and `after` more.
    """

    steps: int
    proximal: Proximal | None = None
    idle: int = 0
    after: int | None = None
