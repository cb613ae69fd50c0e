"""AdaGrad as a function that processes a sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loosestep.foundation import checks
from loosestep.foundation.value import Value
from loosestep.splash.variables import Values, Variables

Array = NDArray[Any]
LEAST = 1e-16
"""Added to a sum of squares, which is 0 until a gradient is not."""


@dataclass(frozen=True, repr=False)
class AdaGrad(Value):
    """Stochastic gradient descent with a rate for each parameter, to be given to `run` as `process`:

        s <- s + weight g^2
        w <- w - rate weight g / sqrt(s + 1e-16)

    gradient: (w, sample) -> (loss, g), of shapes as w. Where there are `places` it gets and returns only those.
    rate: the step, in units of w, of a parameter's first sample of weight 1.
    places: sample -> index of the parameters that the sample needs, such as its features.
    name: of w among the shared variables; s is the variable "squares of NAME".

    `variables(w0)` are the shared variables that it needs, and `loss` is for `run` as well.

    >>> import numpy as np
    >>> from loosestep import splash
    >>> model = splash.AdaGrad(lambda w, sample: ((w[0] - sample) ** 2 / 2, w - sample), rate=0.5)
    >>> samples = np.random.default_rng(0).normal(3.0, 1.0, 500)
    >>> result = splash.run(model, samples, model.variables(np.zeros(1)), passes=3)
    >>> bool(abs(result.variables["w"][0] - samples.mean()) < 0.1)
    True

    Reference: Y. Zhang, M. I. Jordan, arXiv:1506.07552, and the package for gradient descent of their release;
    J. Duchi, E. Hazan, Y. Singer, Adaptive Subgradient Methods, JMLR 2011.
    """

    gradient: Callable[[Array, Any], tuple[float, Array]]
    rate: float = 0.1
    places: Callable[[Any], Any] | None = None
    name: str = "w"

    def __post_init__(self) -> None:
        checks.callable_("gradient", self.gradient, " of (w, sample)")
        checks.positive("rate", self.rate)
        if self.places is not None:
            checks.callable_("places", self.places, " of a sample")

    @property
    def squares(self) -> str:
        """The name of the sums of squares."""
        return f"squares of {self.name}"

    def variables(self, w0: ArrayLike) -> dict[str, Array]:
        """Return the shared variables: w as it begins, and sums of 0."""
        return {self.name: np.asarray(w0), self.squares: np.zeros(np.shape(w0))}

    def __call__(self, sample: Any, weight: float, shared: Variables, local: dict[Any, Any]) -> float:
        """Process a sample; return its loss."""
        at = ... if self.places is None else self.places(sample)
        w = shared[self.name][at]
        answer = self.gradient(w, sample)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise TypeError(f"gradient must return (loss, g), got {answer!r}")
        loss, gradient = answer[0], np.asarray(answer[1])
        if gradient.shape != w.shape:
            raise ValueError(f"gradient must return g of shape {w.shape}, as w has, got {gradient.shape}")
        shared.add(self.squares, weight * gradient * gradient, at)
        shared.add(self.name, -self.rate * weight * gradient / np.sqrt(shared[self.squares][at] + LEAST), at)
        return loss

    def loss(self, sample: Any, shared: Values, local: dict[Any, Any]) -> float:
        """Return the loss of a sample."""
        at = ... if self.places is None else self.places(sample)
        return self.gradient(shared[self.name][at], sample)[0]
