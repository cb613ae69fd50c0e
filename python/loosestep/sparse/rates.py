"""Step sizes of the sparse estimators, by scikit-learn's names where the meaning is the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loosestep import _core

RATES = ("optimal", "constant", "invscaling", "adaptive", "backoff", "adagrad")


@dataclass(frozen=True)
class Rate:
    """Step size at step t = 1, 2, ... of all threads, in epoch e = 0, 1, ...

    constant: eta0. invscaling: eta0 / t^power_t. optimal: 1 / (alpha (t0 + t)), t0 by Bottou's rule.
    backoff: eta0 decay^e, constant within an epoch (Niu et al. 2011, section 5).
    adaptive: eta0, a fifth of it whenever the loss has not improved. adagrad: eta0 over the root of the
    coordinate's summed squared gradients, which all threads share.
    """

    name: str = "optimal"
    eta0: float = 0.01
    power_t: float = 0.25
    decay: float = 0.9
    alpha: float = 1e-4
    loss: str = "log_loss"

    def __post_init__(self) -> None:
        if self.name not in RATES:
            raise ValueError(f"learning_rate must be one of {', '.join(RATES)}; got {self.name!r}")
        if self.name != "optimal" and not self.eta0 > 0:
            raise ValueError(f"eta0 must be above 0, got {self.eta0!r}")
        if self.name == "optimal" and not self.alpha > 0:
            raise ValueError(
                f"learning_rate='optimal' is 1 / (alpha (t0 + t)): alpha must be above 0, got {self.alpha!r}"
            )
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay must be in (0, 1], got {self.decay!r}")

    def options(self, epoch: int, cuts: int) -> _core.RateOptions:
        """Return the native engine's options of this rate; `cuts`: how often an adaptive rate was cut."""
        factor = {"backoff": self.decay**epoch, "adaptive": 0.2**cuts}.get(self.name, 1.0)
        return {
            "schedule": self.name if self.name in ("invscaling", "optimal") else "constant",
            "eta0": self.eta0 * factor, "power_t": self.power_t, "alpha": self.alpha,
            "offset": self.offset() if self.name == "optimal" else 0.0, "adagrad": self.name == "adagrad",
        }  # fmt: skip

    def offset(self) -> float:
        """Return t0, so that the first step is about as long as typical weights (L. Bottou's svmsgd)."""
        typical = math.sqrt(1.0 / math.sqrt(self.alpha))
        slope = {"log_loss": 1 / (1 + math.exp(-typical)), "softmax": 1.0, "squared_hinge": 2 * (1 + typical)}
        slope |= {"squared_error": 1 + typical}
        return 1.0 / (typical / max(1.0, slope.get(self.loss, 1.0)) * self.alpha)
