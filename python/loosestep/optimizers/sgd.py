"""SGD, momentum, Adam and AdamW."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from loosestep import ops
from loosestep.optimizers.base import How, Optimizer
from loosestep.optimizers.schedules import Rate

if TYPE_CHECKING:
    from loosestep.requests import Buffer, Proximal


@dataclass(frozen=True, repr=False)
class SGD(Optimizer):
    """x <- x - rate g."""

    rate: Rate = 0.1
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self.check()

    def apply(self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How) -> None:
        how.rules.sgd(params, grad, how.rate)

    def apply_proximal(
        self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How, proximal: Proximal
    ) -> None:
        ops.sgd_proximal(params, grad, proximal.anchor, proximal.mean, how.rate, proximal.strength, proximal.keep)


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

    def apply_proximal(
        self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How, proximal: Proximal
    ) -> None:
        anchor, mean, mu = proximal.anchor, proximal.mean, self.momentum
        ops.nesterov_proximal(
            params, moments[0], grad, anchor, mean, how.rate, mu, proximal.strength, proximal.keep
        )
