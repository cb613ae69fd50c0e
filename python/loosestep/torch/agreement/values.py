"""Values of all workers: their mean, and objects that travel from one to all."""

from __future__ import annotations

import base64
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from loosestep.foundation import checks
from loosestep.foundation.errors import Mismatch
from loosestep.requests import AllReduce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from loosestep.torch.agreement.meeting import Agreement

    Numbers = NDArray[np.float64]
    Rebuild = Callable[[Iterator[Numbers]], Any]


def mean(agreement: Agreement, what: str, x: Any, weight: float) -> Any:
    """Return the weighted mean of x over all workers, summed as float64 in rank order: the same bits for all."""
    checks.positive("weight", weight, zero=True)
    kinds: list[str] = []
    parts: list[Numbers] = []
    rebuild = take_apart("x", x, kinds, parts)
    given = ", ".join(kinds)
    if not agreement.meet(what, given):
        every = agreement.all_gather(what, given)
        rank = next(rank for rank, each in enumerate(every) if each != every[0])
        raise Mismatch(f"{what} was given {every[0]} by worker 0, and {every[rank]} by worker {rank}")
    total = np.concatenate([*(part * weight if weight else np.zeros_like(part) for part in parts), [weight]])
    agreement.loop.connection.run_unmetered([AllReduce(total, op="sum")])
    if total[-1] == 0:
        raise ValueError(f"{what} has weight 0 on all workers")
    edges = np.cumsum([part.size for part in parts])
    return rebuild(iter(np.split(total[:-1] / total[-1], edges[:-1])))


def take_apart(name: str, x: Any, kinds: list[str], parts: list[Numbers]) -> Rebuild:
    """Append what x consists of, in words and as numbers; return what makes the like of it from other numbers."""
    if isinstance(x, dict) and all(isinstance(key, str) for key in x):
        inner = {key: take_apart(f"{name}[{key!r}]", x[key], kinds, parts) for key in sorted(x)}
        return lambda numbers: {key: made[key] for made in [remade(inner, numbers)] for key in x}
    if isinstance(x, torch.Tensor) and not x.is_complex() and x.layout is torch.strided:
        kinds.append(f"{name} as a tensor of shape {tuple(x.shape)}")
        parts.append(x.detach().double().cpu().numpy().reshape(-1))
        kind = x.dtype if x.is_floating_point() else torch.float64
        shape, device = x.shape, x.device
        return lambda numbers: torch.from_numpy(next(numbers).copy()).reshape(shape).to(device, kind)
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
