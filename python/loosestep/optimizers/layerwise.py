"""LARS and LAMB: steps as long as the tensors that they move."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar

from loosestep import ops
from loosestep.foundation import checks
from loosestep.optimizers.base import How, Optimizer, Shapes
from loosestep.optimizers.schedules import Rate

if TYPE_CHECKING:
    from loosestep.requests import Buffer


def tensors(shapes: Shapes, size: int) -> Iterator[tuple[slice, int]]:
    """Return where in the flat buffer each tensor is, and its dimensions; if none is known all is one matrix."""
    start = 0
    for shape in shapes or ((size, 1),):
        stop = start + prod(shape)
        yield slice(start, stop), len(shape)
        start = stop


class Layerwise(Optimizer):
    """Base of those that scale the step of every tensor by the tensor's own norms.

    A norm is `ops.norm` of the tensor's part of the buffer, and so are its sums' order and bits. Biases and other
    one-dimensional tensors get neither a trust ratio nor weight decay, unless `vectors` says so. Tensors are known
    where a run was told `shapes` (as built-in models tell it); else the whole buffer is one tensor.
    """

    decays_gradient: ClassVar[bool] = False
    vectors: bool

    def apply(self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How) -> None:
        for part, dimensions in tensors(how.shapes, params.size):
            mine = tuple(moment[part] for moment in moments)
            scaling = self.vectors or dimensions > 1
            self.move(params[part], grad[part], mine, how._replace(seen=how.seen[part]), scaling)

    @abstractmethod
    def move(self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How, scaling: bool) -> None:
        """Make one tensor's step; `scaling`: whether its norms count."""


@dataclass(frozen=True, repr=False)
class LARS(Layerwise):
    """Layer-wise rates: lam = trust |w| / (|g| + weight_decay |w| + epsilon), for each tensor w,

    v <- mu v - rate lam (g + weight_decay w);  w <- w + v.  lam is 1 where |w| or |g| is 0.

    trust: the relative length of a step, before `rate`.
    vectors: whether one-dimensional tensors are scaled and decayed as well.

    The rate is inside v, as in the paper and its release, without correction. |g| must be that of the mean
    gradient, so under a strategy that averages parameters (`LocalSGD`) it is each worker's own method.

    >>> import numpy as np
    >>> w, g = np.array([3.0, 4.0]), np.array([0.0, 10.0])
    >>> LARS(rate=1.0, weight_decay=0.0, trust=0.1).update(w, g, (np.zeros(2),), 0, 1)
    >>> w.tolist()
    [3.0, 3.5]

    Y. You, I. Gitman, B. Ginsburg, Large Batch Training of Convolutional Networks, arXiv:1708.03888, algorithm 1,
    with momentum and exclusions as in the reference code.
    """

    moments: ClassVar[int] = 1
    rate: Rate = 10.0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    trust: float = 1e-3
    epsilon: float = 0.0
    vectors: bool = False

    def __post_init__(self) -> None:
        self.check("momentum", "trust", "epsilon")

    def ratio(self, weights: float, slope: float) -> float:
        """Return lam, from the two norms."""
        if not weights or not slope:
            return 1.0
        return self.trust * weights / (slope + self.weight_decay * weights + self.epsilon)

    def move(self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How, scaling: bool) -> None:
        if scaling:
            rate = how.rate * self.ratio(ops.norm(how.seen), ops.norm(grad))
            how.rules.lars(params, *moments, grad, rate, self.momentum, self.weight_decay)
        else:
            how.rules.momentum(params, *moments, grad, how.rate, self.momentum)


@dataclass(frozen=True, repr=False)
class LAMB(Layerwise):
    """Adam's direction, as long as the tensor it moves: with Adam's corrected moments m and v, for each tensor w,

    u = m / (sqrt(v) + epsilon) + weight_decay w;  w <- w - rate phi(|w|) / |u| u.  The ratio is 1 where |w| or |u|
    is 0.

    largest: phi(|w|) = min(|w|, largest); None: phi(|w|) = |w|. A widely copied variant has 10, and leaves out the
        bias corrections, which are the paper's.
    vectors: whether one-dimensional tensors are scaled and decayed as well.

    >>> import numpy as np
    >>> w, g = np.array([3.0, 4.0]), np.array([7.0, 7.0])
    >>> LAMB(rate=0.1, weight_decay=0.0).update(w, g, (np.zeros(2), np.zeros(2)), 0, 1)
    >>> [round(float(5 - each), 3) for each in w]
    [2.354, 1.354]

    Y. You et al., Large Batch Optimization for Deep Learning, arXiv:1904.00962, algorithm 2.
    """

    moments: ClassVar[int] = 2
    rate: Rate = 1e-2
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-6
    weight_decay: float = 1e-2
    largest: float | None = None
    vectors: bool = False

    def __post_init__(self) -> None:
        self.check("beta1", "beta2", "epsilon")
        if self.largest is not None:
            checks.positive("largest", self.largest, zero=True)

    def ratio(self, weights: float, length: float) -> float:
        """Return phi(|w|) / |u|."""
        if not weights or not length:
            return 1.0
        return (weights if self.largest is None else min(weights, self.largest)) / length

    def move(self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How, scaling: bool) -> None:
        (m, v), decay = moments, self.weight_decay if scaling else 0.0
        how.rules.lamb(how.seen, m, v, grad, self.beta1, self.beta2, self.epsilon, decay, how.number)
        ratio = self.ratio(ops.norm(how.seen), ops.norm(grad)) if scaling else 1.0
        how.rules.sgd(params, grad, how.rate * ratio)
