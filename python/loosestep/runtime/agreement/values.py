"""Values of all workers: their mean, and objects that travel from one to all."""

from __future__ import annotations

import base64
import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from loosestep.foundation import checks
from loosestep.foundation.errors import Mismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from loosestep.runtime.agreement.base import Meeting

    Numbers = NDArray[np.float64]
    Rebuild = Callable[[Iterator[Numbers]], Any]


class Foreign(NamedTuple):
    """A framework's array: what it is called, its shape, its numbers as float64, and what makes the like of it."""

    word: str
    shape: tuple[int, ...]
    numbers: Numbers
    rebuild: Callable[[Numbers], Any]


def mean(agreement: Meeting, what: str, x: Any, weight: float, foreign: Callable[[Any], Foreign | None]) -> Any:
    """Return the weighted mean of x over all workers, summed as float64 in rank order: the same bits for all."""
    checks.positive("weight", weight, zero=True)
    kinds: list[str] = []
    parts: list[Numbers] = []
    rebuild = take_apart("x", x, kinds, parts, foreign)
    given = ", ".join(kinds)
    if not agreement.meet(what, given):
        every = agreement.all_gather(what, given)
        rank = next(rank for rank, each in enumerate(every) if each != every[0])
        raise Mismatch(
            f"{what} was given {every[0]} by {agreement.who(0)}, and {every[rank]} by {agreement.who(rank)}"
        )
    total = np.concatenate([*(part * weight if weight else np.zeros_like(part) for part in parts), [weight]])
    agreement.sum(total)
    if total[-1] == 0:
        raise ValueError(f"{what} has weight 0 on all workers")
    edges = np.cumsum([part.size for part in parts])
    return rebuild(iter(np.split(total[:-1] / total[-1], edges[:-1])))


def take_apart(
    name: str, x: Any, kinds: list[str], parts: list[Numbers], foreign: Callable[[Any], Foreign | None]
) -> Rebuild:
    """Append what x consists of, in words and as numbers; return what makes the like of it from other numbers."""
    if isinstance(x, dict) and all(isinstance(key, str) for key in x):
        inner = {key: take_apart(f"{name}[{key!r}]", x[key], kinds, parts, foreign) for key in sorted(x)}
        return lambda numbers: {key: made[key] for made in [remade(inner, numbers)] for key in x}
    found = foreign(x)
    if found is not None:
        kinds.append(f"{name} as a {found.word} of shape {found.shape}")
        parts.append(found.numbers.reshape(-1))
        return lambda numbers: found.rebuild(next(numbers).copy().reshape(found.shape))
    if isinstance(x, np.ndarray) and x.dtype.kind in "biuf":
        kinds.append(f"{name} as an array of shape {x.shape}")
        parts.append(x.astype(np.float64).reshape(-1))
        form = x.dtype if x.dtype.kind == "f" else np.dtype(float)
        extent = x.shape
        return lambda numbers: next(numbers).astype(form).reshape(extent)
    if isinstance(x, (bool, int, float, np.generic)) and not isinstance(x, (np.complexfloating, np.character)):
        kinds.append(f"{name} as a number")
        parts.append(np.array([x], float))
        return lambda numbers: float(next(numbers)[0])
    raise TypeError(
        f"mean() takes numbers, numpy arrays, tensors, and dicts of these: {name} is {type(x).__name__}"
    )


def remade(inner: dict[str, Rebuild], numbers: Iterator[Numbers]) -> dict[str, Any]:
    """Return the values of a dict, made in the order in which they were taken apart."""
    return {key: make(numbers) for key, make in inner.items()}


def packed(x: Any) -> str:
    """Return an object as text that JSON can hold."""
    return base64.b85encode(pickle.dumps(x)).decode()


def unpacked(text: str) -> Any:
    """Return the object that `packed` was given."""
    return pickle.loads(base64.b85decode(text))
