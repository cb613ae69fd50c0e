"""The fast gradient sign method."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar

from loosestep.adversarial.attack import Attack


@dataclass(frozen=True, repr=False)
class FGSM(Attack):
    """The fast gradient sign method: one step x' = P(x + s sign(dL/dx)), from a random start in "fast" training.

    epsilon: the largest perturbation of a feature (norm inf), or of a row (norm 2), in the units of the inputs.
    step: s; None: 1.25 epsilon from a random start, as in fast adversarial training, and epsilon without one, as
        in the attack's own paper.
    norm, random_start, targeted, low, high: as in `PGD`.

    Training with it has no loss of clean inputs, where training with `PGD` has.

    >>> import numpy as np
    >>> from loosestep.adversarial import FGSM
    >>> weights, x = np.array([1.0, -2.0]), np.full((1, 2), 0.5)
    >>> FGSM(0.1, random_start=False).perturb(x, lambda x: weights + 0 * x).round(6).tolist()
    [[0.6, 0.4]]

    I. Goodfellow, J. Shlens, C. Szegedy, Explaining and Harnessing Adversarial Examples, arXiv:1412.6572, section
    4; E. Wong, L. Rice, J. Z. Kolter, Fast is better than free, arXiv:2001.03994, algorithm 3.
    """

    clean: ClassVar[float] = 0.0
    epsilon: float = 8 / 255
    step: float | None = None
    norm: float = inf
    random_start: bool = True
    targeted: bool = False
    low: float | None = 0.0
    high: float | None = 1.0

    def __post_init__(self) -> None:
        self.check()

    @property
    def lengths(self) -> tuple[float, ...]:
        default = 1.25 * self.epsilon if self.random_start else self.epsilon
        return (default if self.step is None else self.step,)
