"""Muon: momentum whose matrices are made orthogonal."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from loosestep import ops
from loosestep.foundation import checks
from loosestep.optimizers.adam import AdamW, decouple
from loosestep.optimizers.base import How, Optimizer
from loosestep.optimizers.layerwise import tensors
from loosestep.optimizers.schedules import Polynomial, Rate

if TYPE_CHECKING:
    from loosestep.requests import Buffer

Triple: TypeAlias = "tuple[float, float, float]"
Matrix: TypeAlias = NDArray[Any]

TORCH: tuple[Triple, ...] = ((3.4445, -4.7750, 2.0315),) * 5
"""Five steps of the same polynomial, as in torch.optim.Muon."""
MULOCO: tuple[Triple, ...] = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)
"""A polynomial for each of five steps, as in the release of MuLoCo: singular values end nearer to 1."""


def orthogonalized(matrix: Matrix, coefficients: tuple[Triple, ...], epsilon: float) -> Matrix:
    """Return about U V^T of a matrix U S V^T: X <- a X + (b A + c A A) X, A = X X^T, from X = G / |G|.

    In the matrix's own type; the products are numpy's. One with more rows than columns is transposed meanwhile.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.dtype.type(max(ops.norm(np.ascontiguousarray(x).reshape(-1)), epsilon))
    for a, b, c in coefficients:
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    orthogonal: Matrix = x.T if tall else x
    return orthogonal


def now(shared: Buffer, how: How) -> Buffer:
    """Return what a buffer holds: itself, or a copy where other workers write it."""
    if how.rules is ops:
        return shared
    seen = np.empty_like(shared)
    ops.load(shared, seen)
    return seen


@dataclass(frozen=True, repr=False)
class Muon(Optimizer):
    """For each matrix W (rows are outputs; of a tensor of more dimensions, all but the first are its columns):

    m <- m + (1 - mu) (g - m);  u <- g + mu (m - g) with Nesterov, else m;  O <- orthogonalized(u);
    W <- (1 - rate weight_decay) W - rate s O.

    O has the directions of u, all singular values about 1. Biases and other vectors get `AdamW`'s step, at
    `vectors` times the rate. Tensors are known where a run was told `shapes` (as built-in models tell it); else
    all is one matrix of one column. Embeddings and the last layer, which are matrices too, are usually left to
    AdamW: in a torch loop give them to an optimizer of their own.

    momentum: mu.
    nesterov: whether u looks ahead.
    scaling: s. 'original' is sqrt(max(1, rows / columns)), 'rms' 0.2 sqrt(max(rows, columns)), with which AdamW's
        rates can be kept (torch calls it match_rms_adamw), 'spectral' sqrt(rows / columns), MuLoCo's.
    coefficients: (a, b, c) of each Newton-Schulz step: `muon.TORCH` or `muon.MULOCO`.
    vectors: AdamW's rate for vectors, as a multiple of `rate`; beta1, beta2, epsilon are its own.
    smallest: |u| is at least this where it is divided by.

    The recipe of MuLoCo is `DiLoCo(30, 0.7, 0.6)` with `Muon.muloco()` as the optimizer of `run`.

    torch.optim.Muon rounds u to bfloat16 before the products, and each product again; without these roundings it
    is this one (to 1e-12 in float64). With them, bits depend on the matrix library and the processor, and cannot
    be had elsewhere. Here they depend on the matrix library behind numpy, as bits of gradients do.

    >>> import numpy as np
    >>> w, g = np.zeros(4), np.array([0.0, 2.0, 1.0, 0.0])
    >>> moments = np.zeros(4), np.zeros(4)
    >>> Muon(rate=1.0, coefficients=((1.5, -0.5, 0.0),) * 12).update(w, g, moments, 0, 1, shapes=((2, 2),))
    >>> [round(float(each), 6) + 0.0 for each in w]
    [0.0, -1.0, -1.0, 0.0]

    K. Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024; for 'rms': J. Liu et al., Muon
    is Scalable for LLM Training, arXiv:2502.16982; for MuLoCo: bentherien/muloco-1.
    """

    moments: ClassVar[int] = 2
    decays_gradient: ClassVar[bool] = False
    rate: Rate = 0.02
    momentum: float = 0.95
    weight_decay: float = 0.1
    nesterov: bool = True
    scaling: Literal["original", "rms", "spectral"] = "original"
    coefficients: tuple[Triple, ...] = TORCH
    smallest: float = 1e-7
    vectors: float = 0.015
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8

    @classmethod
    def example(cls) -> Muon:
        return cls(Polynomial(0.02, steps=2000))

    @classmethod
    def muloco(cls, rate: Rate = 0.02) -> Muon:
        """Return MuLoCo's local optimizer, for `DiLoCo(period=30, rate=0.7, momentum=0.6)`."""
        return cls(rate, weight_decay=0.01, nesterov=False, scaling="spectral", coefficients=MULOCO)

    def __post_init__(self) -> None:
        self.check("momentum", "smallest", "vectors", "beta1", "beta2", "epsilon")
        checks.at_most("momentum", self.momentum, 1)
        checks.one_of("scaling", self.scaling, ("original", "rms", "spectral"))
        if not all(isinstance(each, tuple) and len(each) == 3 for each in self.coefficients):
            raise ValueError(f"coefficients must be tuples (a, b, c), one a step, got {self.coefficients!r}")

    def apply(self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How) -> None:
        shapes = how.shapes or ((params.size, 1),)
        for (part, dimensions), shape in zip(tensors(shapes, params.size), shapes, strict=True):
            x, mine = params[part], tuple(moment[part] for moment in moments)
            step = how._replace(seen=x if how.seen is params else how.seen[part])
            if dimensions > 1:
                self.move(x, grad[part], mine[0], step, shape[0])
            else:
                self.vector(x, grad[part], mine, step)

    def move(self, params: Buffer, grad: Buffer, momentum: Buffer, how: How, rows: int) -> None:
        """Make a matrix's step."""
        how.rules.axpy(momentum, grad - now(momentum, how), 1 - self.momentum)
        m = now(momentum, how)
        u = grad + self.momentum * (m - grad) if self.nesterov else m
        matrix = u.reshape(rows, -1)
        step = np.ascontiguousarray(orthogonalized(matrix, self.coefficients, self.smallest)).reshape(-1)
        decouple(params, how, self.weight_decay)
        how.rules.sgd(params, step, how.rate * self.scale(*matrix.shape))

    def scale(self, rows: int, columns: int) -> float:
        """Return s of a matrix of that shape."""
        if self.scaling == "original":
            return sqrt(max(1, rows / columns))
        return 0.2 * sqrt(max(rows, columns)) if self.scaling == "rms" else sqrt(rows / columns)

    def vector(self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How) -> None:
        """Make AdamW's step."""
        inner = AdamW(how.rate, self.beta1, self.beta2, self.epsilon, self.weight_decay)
        inner.apply(params, grad, moments, how._replace(rate=how.rate * self.vectors))
