"""SGD, momentum, Adam and AdamW."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from loosestep import ops
from loosestep.optimizers.base import How, Optimizer
from loosestep.rates import Rate

if TYPE_CHECKING:
    from loosestep.requests import Buffer, Pull


@dataclass(frozen=True, repr=False)
class SGD(Optimizer):
    """x <- x - rate g."""

    rate: Rate = 0.1
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self.check()

    def apply(self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How) -> None:
        how.rules.sgd(params, grad, how.rate)

    def apply_pulled(
        self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How, pull: Pull
    ) -> None:
        ops.sgd_pulled(params, grad, pull.anchor, pull.mean, how.rate, pull.strength, pull.keep)


@dataclass(frozen=True, repr=False)
class Momentum(Optimizer):
    """Heavy ball: v <- mu v - rate g; x <- x + v.

    The rate is inside v. With `correction` v <- v * rate / (rate of the step before) first, wherever that changed:
    then it is exactly the form with the rate outside, u <- mu u + g; x <- x - rate u (torch's). P. Goyal et al.,
    arXiv:1706.02677, section 3. Workers that share parameters (Hogwild) have no step in common: v is left alone.
    """

    moments: ClassVar[int] = 1
    rate: Rate = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    correction: bool = True

    def __post_init__(self) -> None:
        self.check("momentum")

    def apply(self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How) -> None:
        how.rules.momentum(params, moments[0], grad, how.rate, self.momentum)


@dataclass(frozen=True, repr=False)
class Nesterov(Optimizer):
    """v <- mu v - rate g; x <- x + mu v - rate g: x is the look-ahead point, where the gradient is taken.

    The rate is inside v; `correction` as for `Momentum`.
    """

    moments: ClassVar[int] = 1
    rate: Rate = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    correction: bool = True

    def __post_init__(self) -> None:
        self.check("momentum")

    def apply(self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How) -> None:
        how.rules.nesterov(params, moments[0], grad, how.rate, self.momentum)

    def apply_pulled(
        self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How, pull: Pull
    ) -> None:
        anchor, mean, mu = pull.anchor, pull.mean, self.momentum
        ops.nesterov_pulled(params, moments[0], grad, anchor, mean, how.rate, mu, pull.strength, pull.keep)


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


@dataclass(frozen=True, repr=False)
class AdamW(Optimizer):
    """Adam with decoupled weight decay: beside the moments, not inside the gradient. DiLoCo's inner optimizer.

    x <- (1 - rate weight_decay) x - rate u, u being Adam's direction, in the order of torch.optim.AdamW: the decay
    in a pass of its own, then the rule of `Adam`. With weight_decay 0 it is `Adam`. Workers that share x (Hogwild)
    each take off rate weight_decay of the x that they saw.

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
        decay = how.rate * self.weight_decay
        if how.seen is params:
            ops.scale(params, 1 - decay)
        elif decay:  # shared with others: the step that the other way makes of what this worker saw, to the bit
            how.rules.axpy(params, how.seen * (1 - decay) - how.seen, 1.0)
        how.rules.adam(params, *moments, grad, how.rate, self.beta1, self.beta2, self.epsilon, how.number)
