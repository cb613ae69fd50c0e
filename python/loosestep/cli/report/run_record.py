"""The outcome of one run: its numbers, its curve, its fingerprint."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from loosestep.runtime.result import Progress, Result

ROUNDING = 1e-5  # of the largest parameter: what sums of float32 in another order may differ by


@dataclass(frozen=True)
class Outcome:
    """What `run` returned for a method and a seed, or why it failed; `history` holds its `Progress` so far."""

    strategy: str  # as it prints
    virtual: bool  # its seconds are simulated
    result: Result | None = None
    history: Sequence[Progress] = field(default=(), repr=False)
    problem: str | None = None
    seed: int = 0

    @property
    def finished(self) -> bool:
        """Whether it ran to its end, or to where it was interrupted, without diverging."""
        return self.problem is None

    def value(self, name: str) -> float | None:
        """Return a number of the result; None where there is none, or it is not finite (JSON knows no NaN)."""
        return None if self.result is None else finite(getattr(self.result, name))

    def metric(self, name: str) -> float | None:
        """Return a number of the last evaluation: 'test_accuracy', 'loss' on the test rows."""
        return None if self.result is None else finite(self.result.metrics.get(name))

    def train_loss(self) -> float | None:
        """Return the last known training loss."""
        return next((at.loss for at in reversed(self.history) if math.isfinite(at.loss)), None)

    def seconds_to(self, accuracy: float) -> float | None:
        """Return the seconds until an evaluation first showed that test accuracy."""
        reached = (at.seconds for at in self.history if at.metrics.get("test_accuracy", 0) >= accuracy)
        return next(reached, None)

    def same(self, other: Outcome) -> bool:
        """Return whether both runs ended at the same parameters, to rounding."""
        if self.result is None or other.result is None:
            return False
        mine, others = self.result.params, other.result.params
        return bool(abs(mine - others).max() <= ROUNDING * abs(others).max())


def finite(value: float | None) -> float | None:
    """Return the number, or None for what JSON and tables cannot show."""
    return None if value is None or not math.isfinite(value) else value


def line(who: Mapping[str, Any], at: Progress) -> dict[str, Any]:
    """Return a `Progress` as an object for JSON lines, after the entries of `who`.

    `loss` is on the test rows, `train_loss` on the batches; with `virtual`, seconds are simulated.
    """
    numbers = {"seconds": at.seconds, "samples": at.samples, "train_loss": at.loss, **at.metrics}
    numbers |= {"bytes_sent": at.bytes_sent, "waiting_share": at.waiting_share}
    told = {name: finite(number) for name, number in numbers.items()}
    return {**who, "step": at.step, **told, "virtual": at.virtual}
