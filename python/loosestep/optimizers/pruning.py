"""Sparse networks: which weights stay, and an optimizer that keeps all others at zero.

>>> import numpy as np, loosestep as ls
>>> x0 = np.array([0.1, -2.0, 0.3, 4.0])
>>> mask = ls.pruning.magnitude(x0, sparsity=0.5)
>>> mask
Mask(2 of 4 kept, crc b969be79)
>>> optimizer = ls.pruning.Masked(ls.Nesterov(0.1, weight_decay=1e-4), mask)
>>> batches = lambda rank, size: iter([1.0] * 400)
>>> result = ls.run(ls.LocalSGD(4), lambda x, b: x - b, mask.apply(x0), batches, optimizer=optimizer)
>>> result.params.round(2).tolist()
[0.0, 1.0, 0.0, 1.0]

Weights are ranked over the whole network. Where `shapes` are given (the tensors in the flat buffer, as built-in
models tell them) one-dimensional tensors, biases among them, are never pruned, and sparsity is that of the others.
Ties keep the earlier weight, so the same numbers give the same mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias
from zlib import crc32

import numpy as np

from loosestep.foundation import checks
from loosestep.foundation.buffers import here
from loosestep.optimizers.base import How, Optimizer, Shapes
from loosestep.optimizers.schedules import Rate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from loosestep.requests import Buffer

__all__ = ["Mask", "Masked", "magnitude", "random", "snip"]

Array: TypeAlias = "NDArray[Any]"


@dataclass(frozen=True, repr=False, eq=False)
class Mask:
    """Which entries of a flat buffer stay: `keep`, a boolean array, copied and made read-only.

    Equal masks keep the same entries; `repr` tells them apart by a checksum.
    """

    keep: Array

    def __post_init__(self) -> None:
        given = np.asarray(self.keep)
        if given.dtype != np.bool_ or given.ndim != 1 or given.size == 0:
            raise TypeError(f"keep must be a flat boolean array, got dtype {given.dtype} and shape {given.shape}")
        keep = given.copy()
        keep.flags.writeable = False
        object.__setattr__(self, "keep", keep)

    @property
    def kept(self) -> int:
        """Return how many entries stay."""
        return int(self.keep.sum())

    def apply(self, buffer: Array) -> Array:
        """Return a copy with zeros where entries are pruned: where a run with this mask begins."""
        self.fit("buffer", buffer)
        return np.where(self.keep, buffer, buffer.dtype.type(0))

    def fit(self, name: str, buffer: Array) -> None:
        """Refuse a buffer of another size."""
        if buffer.size != self.keep.size:
            raise ValueError(f"{name} must have {self.keep.size} entries, as the mask has, got {buffer.size}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and np.array_equal(self.keep, other.keep)

    def __hash__(self) -> int:
        return hash(self.keep.tobytes())

    def __repr__(self) -> str:
        return f"Mask({self.kept} of {self.keep.size} kept, crc {crc32(np.packbits(self.keep).tobytes()):08x})"


@dataclass(frozen=True, repr=False)
class Masked(Optimizer):
    """Another optimizer whose pruned entries are 0 after every update, whatever rule it has.

    The gradient's pruned entries are zeroed before the rule, so that momentum and second moments hold none of them
    and norms of layers (LARS, LAMB) are those of the sparse network; those of the parameters are zeroed after it,
    for rules that mix entries (Muon) and for what came from others. Weight decay, rate and moments are the
    optimizer's. A run begins at `mask.apply(x0)`, and all workers have the same mask: then means and
    differences of replicas are 0 there as well. Codecs that send a sign for a 0 (`Sign`) put something there, till
    the next update. Of a sampler: the posterior of the weights that stay, given that others are 0.

    >>> import numpy as np, loosestep as ls
    >>> x, mask = np.array([1.0, 0.0]), Mask(np.array([True, False]))
    >>> Masked(ls.SGD(0.1), mask).update(x, np.array([1.0, 5.0]), (), 0, 1)
    >>> x.tolist()
    [0.9, 0.0]
    """

    optimizer: Optimizer
    mask: Mask

    def __post_init__(self) -> None:
        checks.instance("optimizer", self.optimizer, Optimizer)
        checks.instance("mask", self.mask, Mask)

    @property
    def rate(self) -> Rate:  # type: ignore[override]
        return self.optimizer.rate

    @property
    def weight_decay(self) -> float:  # type: ignore[override]
        return self.optimizer.weight_decay

    @property
    def moments(self) -> int:  # type: ignore[override]
        return self.optimizer.moments

    @property
    def decays_gradient(self) -> bool:  # type: ignore[override]
        return self.optimizer.decays_gradient

    @property
    def correction(self) -> bool | None:  # type: ignore[override]
        return self.optimizer.correction

    @property
    def noisy(self) -> bool:
        return self.optimizer.noisy

    def variance(self, step: int) -> float:
        if self.noisy:
            raise ValueError("the noise of a Masked sampler is not in pruned entries: its workers must add it")
        return 0.0

    def init(self, params: Buffer) -> tuple[Buffer, ...]:
        """Return zeroed moments. Raises ValueError where pruned entries are not 0."""
        self.mask.fit("params", params)
        values: Any = here(params)
        if values[~self.mask.keep].any():
            raise ValueError(
                f"x0 must be 0 where {self.mask!r} prunes, or strategies that keep a center or differences would "
                "bring the rest back: begin at mask.apply(x0)"
            )
        return self.optimizer.init(params)

    def scaled(self, by: float) -> Masked:
        return Masked(self.optimizer.scaled(by), self.mask)

    def apply(self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How) -> None:
        self.mask.fit("params", params)
        pruned = ~self.mask.keep
        np.putmask(grad, pruned, 0)
        self.optimizer.apply(params, grad, moments, how)
        for buffer in (params, *(moments if self.noisy else ())):  # a sampler's velocity has noise everywhere
            np.putmask(buffer, pruned, 0)


def magnitude(params: Array, sparsity: float, shapes: Shapes = ()) -> Mask:
    """Return the mask of the largest |weights|: `sparsity`, from 0 to 1, of the prunable entries go.

    params: a flat array of float32 or float64; ValueError where a prunable entry is not finite.

    >>> magnitude(np.array([3.0, -1.0, 2.0, -4.0]), 0.5).keep.tolist()
    [True, False, False, True]

    S. Han, J. Pool, J. Tran, W. Dally, Learning both Weights and Connections, arXiv:1506.02626.
    """
    return largest(np.abs(params), sparsity, shapes)


def snip(params: Array, grad: Array, sparsity: float, shapes: Shapes = ()) -> Mask:
    """Return the mask of the largest |weight x gradient|: connection sensitivity, before any training.

    grad: the mean gradient at `params` over some rows, say a hundred, in as many entries.

    >>> snip(np.array([3.0, -1.0, 2.0, -4.0]), np.array([0.0, 9.0, -2.0, 1.0]), 0.25).keep.tolist()
    [False, True, True, True]

    N. Lee, T. Ajanthan, P. Torr, SNIP: Single-shot Network Pruning, arXiv:1810.02340.
    """
    if np.size(grad) != np.size(params):
        raise ValueError(f"grad must have {np.size(params)} entries, as params has, got {np.size(grad)}")
    return largest(np.abs(np.multiply(params, grad, dtype=np.float64)), sparsity, shapes)


def random(size: int, sparsity: float, seed: int = 0, shapes: Shapes = ()) -> Mask:
    """Return a mask that keeps entries drawn evenly: the baseline of other rules. The same for the same seed.

    >>> random(8, 0.75).kept
    2
    """
    checks.integer("size", size)
    return largest(np.random.default_rng(checks.integer("seed", seed, 0)).random(size), sparsity, shapes)


def largest(scores: Array, sparsity: float, shapes: Shapes) -> Mask:
    """Keep the prunable entries of the largest scores, and all that are not prunable."""
    checks.fraction("sparsity", sparsity)
    if scores.ndim != 1:
        raise ValueError(f"weights and gradients must be flat where they are ranked, got shape {scores.shape}")
    prunable = np.flatnonzero(matrices(shapes, scores.size))
    if not np.isfinite(scores[prunable]).all():
        raise ValueError("weights and gradients must be finite where they are ranked, got some that are not")
    order = np.argsort(-scores[prunable], kind="stable")
    keep = np.ones(scores.size, np.bool_)
    keep[prunable[order[len(order) - round(sparsity * len(order)) :]]] = False
    return Mask(keep)


def matrices(shapes: Shapes, size: int) -> Array:
    """Say of each entry whether its tensor has more than one dimension; without shapes all are prunable."""
    if not shapes:
        return np.ones(size, np.bool_)
    sizes = [prod(shape) for shape in shapes]
    if sum(sizes) != size:
        raise ValueError(f"shapes must have {size} entries together, as the buffer has, got {sum(sizes)}")
    return np.repeat([len(shape) > 1 for shape in shapes], sizes)
