"""Checks of the arguments of `run`, made before anything begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from loosestep.foundation import checks
from loosestep.optimizers import Optimizer
from loosestep.runtime.sampling.samples import Samples
from loosestep.strategies.base import Strategy
from loosestep.transports.base import Transport

if TYPE_CHECKING:
    from loosestep.optimizers import Shapes
    from loosestep.requests import Buffer


def check_kinds(strategy: object, optimizer: object, on: object, samples: object = None) -> None:
    """Refuse a strategy, an optimizer or a transport of another kind, and a class in place of an instance."""
    checks.instance("strategy", strategy, Strategy)
    if optimizer is not None:
        checks.instance("optimizer", optimizer, Optimizer)
    if on is not None:
        checks.instance("on", on, Transport)
    if samples is not None:
        checks.instance("samples", samples, Samples)


def check_functions(gradient: object, batches: object, optional: Mapping[str, object]) -> None:
    """Refuse arguments that are to be called and cannot be."""
    checks.callable_("gradient", gradient, " of (x, batch)")
    checks.callable_("batches", batches, " of (rank, size)")
    for name, value in optional.items():
        if value is not None:
            checks.callable_(name, value)


def check_start(x0: Buffer) -> Buffer:
    """Return x0; refuse anything but a float32 or float64 array of finite values."""
    if not isinstance(x0, np.ndarray) or x0.dtype not in (np.float32, np.float64):
        found = f"{x0.dtype} array" if isinstance(x0, np.ndarray) else repr(type(x0).__name__)
        raise TypeError(f"x0 must be a float32 or float64 array, got {found}")
    if x0.size == 0:
        raise ValueError("x0 has no values")
    if not np.isfinite(x0).all():
        raise ValueError("x0 holds values that are not finite")
    return x0


def check_shapes(shapes: Sequence[Sequence[int]], x0: Buffer) -> Shapes:
    """Return the shapes as tuples of ints; refuse shapes that do not fill x0."""
    made = tuple(
        tuple(checks.integer("every length in shapes", length, 0) for length in shape) for shape in shapes
    )
    if made and sum(map(prod, made)) != x0.size:
        raise ValueError(f"shapes must be of {x0.size} values together, as x0 has, got {sum(map(prod, made))}")
    return made


def check_sparse(sparse: Sequence[int], shapes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return the numbers of tensors, ascending; refuse those that `shapes` does not have, or not as rows."""
    if not isinstance(sparse, Iterable):
        raise TypeError(f"sparse must be a sequence of numbers of tensors, got {sparse!r}")
    found = tuple(sorted({checks.integer("every number in sparse", number, 0) for number in sparse}))
    for number in found:
        if number >= len(shapes) or not shapes[number]:
            raise ValueError(f"sparse must name tensors of rows by their numbers in shapes, got {number}")
    return found


class Lengths(NamedTuple):
    """Numbers of steps: of the run, between evaluations, between checkpoints, in an epoch."""

    steps: int | None
    every: int | None
    checkpoint_every: int | None
    steps_per_epoch: int | None

    def checked(self) -> Lengths:
        """Return them as ints; refuse what is given and is no whole number."""
        given = self._asdict().items()
        return Lengths(*(None if number is None else checks.integer(name, number) for name, number in given))
