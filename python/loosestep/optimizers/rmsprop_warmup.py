"""RMSprop warm-up, for very large batches."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING, ClassVar

from loosestep.optimizers.base import How, Optimizer
from loosestep.optimizers.schedules import Rate

if TYPE_CHECKING:
    from loosestep.requests import Buffer


@dataclass(frozen=True, repr=False)
class RMSpropWarmup(Optimizer):
    """From RMSprop to momentum SGD, for the first epochs of very large batches:

    m <- decay m + (1 - decay) g^2;  d <- mu d - (a + b / (sqrt(m) + epsilon)) g;  x <- x + rate d,

    where a, the share of SGD, goes from 0 to 1 and b = (1 - a) rms_rate / rate. With e the update (0, 1, ...):
    a = exp(2 (e - center) / width) / 2 up to `center`, 1/2 + (e - center) / width up to center + width/2, then 1.
    The form that circulates has the slope 2 / width in the middle part, with which a overshoots to 1.5 and falls
    back; with 1 / width it is continuous and stays in [0, 1], and that is the library's definition.

    rate: of SGD; it may change, and is outside of the momentum d.
    rms_rate: of RMSprop.
    center, width: of the transition, in updates; the paper's are 10 and 5 epochs.
    momentum, decay, epsilon: mu, of the mean of squares, against division by 0.

    >>> optimizer = RMSpropWarmup(center=10, width=5)
    >>> [round(optimizer.sgd_share(step), 3) for step in (0, 10, 11, 12, 13)]
    [0.009, 0.5, 0.7, 0.9, 1.0]

    T. Akiba, S. Suzuki, K. Fukuda, arXiv:1711.04325, section 3.
    """

    moments: ClassVar[int] = 2
    rate: Rate = 0.1
    rms_rate: float = 3e-4
    center: float = 100.0
    width: float = 50.0
    momentum: float = 0.9
    decay: float = 0.99
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self.check("rms_rate", "center", "width", "momentum", "decay", "epsilon")

    def sgd_share(self, step: int) -> float:
        """Return a at that update."""
        gone = step - self.center
        if gone >= self.width / 2:
            return 1.0
        return 0.5 + gone / self.width if gone >= 0 else 0.5 * exp(2 * gone / self.width)

    def apply(self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How) -> None:
        share = self.sgd_share(how.number - 1)
        rms_share = (1 - share) * self.rms_rate / how.rate if how.rate else 0.0
        numbers = how.rate, self.momentum, self.decay, share, rms_share, self.epsilon
        how.rules.rmsprop_warmup(params, *moments, grad, *numbers)
