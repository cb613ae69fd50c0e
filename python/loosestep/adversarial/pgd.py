"""Projected gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar

from loosestep.adversarial.attack import Attack
from loosestep.foundation import checks


@dataclass(frozen=True, repr=False)
class PGD(Attack):
    """Projected gradient descent: from a random start K times x' <- P(x' + s sign(dL/dx')).

    P is the nearest point within epsilon of x, and then within the range. With norm 2 the step is s times the
    gradient over its length, of each row.

    epsilon: the largest perturbation of a feature (norm inf), or of a row (norm 2), in the units of the inputs.
    steps: K.
    step: s; None: epsilon / 4, as 2/255 is of 8/255.
    norm: inf (`math.inf`) or 2.
    random_start: begin at a uniform point of the ball instead of at x.
    targeted: descend on the loss of labels that are aimed at, instead of ascending on that of the true ones.
    low, high: the range of inputs; None: no limit.

    >>> import numpy as np
    >>> from loosestep.adversarial import PGD
    >>> weights, x = np.array([1.0, -2.0]), np.full((1, 2), 0.5)
    >>> PGD(0.1).perturb(x, lambda x: weights + 0 * x).round(6).tolist()
    [[0.6, 0.4]]

    A. Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, arXiv:1706.06083, section 2.1;
    defaults those of G. Zhang et al., Distributed Adversarial Training, arXiv:2206.06257, for CIFAR-10.
    """

    clean: ClassVar[float] = 1.0
    epsilon: float = 8 / 255
    steps: int = 10
    step: float | None = None
    norm: float = inf
    random_start: bool = True
    targeted: bool = False
    low: float | None = 0.0
    high: float | None = 1.0

    def __post_init__(self) -> None:
        checks.integer("steps", self.steps)
        self.check()

    @property
    def lengths(self) -> tuple[float, ...]:
        return (self.epsilon / 4 if self.step is None else self.step,) * self.steps
