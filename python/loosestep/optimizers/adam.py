"""Adam and AdamW."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from loosestep import ops
from loosestep.optimizers.base import How, Optimizer
from loosestep.optimizers.schedules import Rate

if TYPE_CHECKING:
    from loosestep.requests import Buffer


@dataclass(frozen=True, repr=False)
class Adam(Optimizer):
    """D. Kingma, J. Ba, arXiv:1412.6980, algorithm 1, with epsilon added as in torch.optim.Adam."""

    moments: ClassVar[int] = 2
    rate: Rate = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    @classmethod
    def example(cls) -> Adam:
        return cls(0.02)

    def __post_init__(self) -> None:
        self.check("beta1", "beta2", "epsilon")

    def apply(self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How) -> None:
        how.rules.adam(params, *moments, grad, how.rate, self.beta1, self.beta2, self.epsilon, how.number)


def decouple(params: Buffer, how: How, weight_decay: float) -> None:
    """Take rate weight_decay of the parameters off them, beside whatever else moves them."""
    decay = how.rate * weight_decay
    if how.seen is params:
        ops.scale(params, 1 - decay)
    elif decay:  # shared with others: the step that the other way makes of what this worker saw, to the bit
        how.rules.axpy(params, how.seen * (1 - decay) - how.seen, 1.0)


@dataclass(frozen=True, repr=False)
class AdamW(Optimizer):
    """Adam with decoupled weight decay: beside the moments, not inside the gradient. DiLoCo's inner optimizer.

    x <- (1 - rate weight_decay) x - rate u, u being Adam's direction, in the order of torch.optim.AdamW: the decay
    in a pass of its own, then the rule of `Adam`. With weight_decay 0 it is `Adam`. Workers that share x (Hogwild)
    each take off rate weight_decay of the x that they saw.

    The bits are those of torch.optim.AdamW(fused=True) on a CPU whose loops round each operation
    (ATEN_CPU_CAPABILITY=default; the same holds for Adam). Where torch has loops for AVX2 or AVX-512 it rounds a
    product and a sum once, and without `fused` it takes roots from MKL, which may be off by the last bit: there
    results differ by some units in the last place.

    >>> import numpy as np
    >>> x, g = np.array([2.0]), np.array([0.0])
    >>> AdamW(rate=0.1, weight_decay=0.5).update(x, g, (np.zeros(1), np.zeros(1)), 0, 1)
    >>> x.tolist()
    [1.9]

    I. Loshchilov, F. Hutter, Decoupled Weight Decay Regularization, arXiv:1711.05101, algorithm 2, the decay
    multiplied by the rate itself.
    """

    moments: ClassVar[int] = 2
    decays_gradient: ClassVar[bool] = False
    rate: Rate = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 1e-2

    @classmethod
    def example(cls) -> AdamW:
        return cls(0.02)

    def __post_init__(self) -> None:
        self.check("beta1", "beta2", "epsilon")

    def apply(self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How) -> None:
        decouple(params, how, self.weight_decay)
        how.rules.adam(params, *moments, grad, how.rate, self.beta1, self.beta2, self.epsilon, how.number)
