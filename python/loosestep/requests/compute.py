"""Requests for computation: they touch this worker alone."""

from __future__ import annotations

from dataclasses import dataclass

from loosestep.requests.base import Bucket, Buffer, Compute


@dataclass(frozen=True, eq=False, slots=True)
class Pull:
    """What an update feels besides the gradient, and what it leaves behind.

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
