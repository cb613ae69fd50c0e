"""How one method did: the row of the table, the object in JSON, the curve in the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loosestep.result import Progress, Result


@dataclass(frozen=True)
class Outcome:
    """What `run` returned for a method, or why it did not; `history` holds its `Progress` so far."""

    strategy: str  # as it prints
    virtual: bool  # its seconds are simulated
    result: Result | None = None
    history: Sequence[Progress] = field(default=(), repr=False)
    problem: str | None = None

    @property
    def finished(self) -> bool:
        """It ran to its end, or to where it was interrupted, without diverging."""
        return self.problem is None

    @property
    def test_accuracy(self) -> float | None:
        """Of the consensus parameters at the end."""
        return self._metric("test_accuracy")

    @property
    def loss(self) -> float | None:
        """On the test rows, of the consensus parameters at the end."""
        return self._metric("loss")

    def value(self, name: str) -> float | None:
        """A number of the result; None where there is none, or it is not finite (JSON knows no NaN)."""
        return None if self.result is None else finite(getattr(self.result, name))

    def seconds_to(self, accuracy: float) -> float | None:
        """Seconds until an evaluation first showed that test accuracy."""
        reached = (at.seconds for at in self.history if at.metrics.get("test_accuracy", 0) >= accuracy)
        return next(reached, None)

    def row(self) -> dict[str, Any]:
        """The object in JSON."""
        row: dict[str, Any] = {
            "strategy": self.strategy,
            "test_accuracy": self.test_accuracy,
            "loss": self.loss,
        }
        row["train_loss"] = next((at.loss for at in reversed(self.history) if math.isfinite(at.loss)), None)
        for name in ("seconds", "samples_per_second", "bytes_sent", "waiting_share", "consensus_distance"):
            row[name] = self.value(name)
        return row | {"virtual": self.virtual, "problem": self.problem}

    def _metric(self, name: str) -> float | None:
        return None if self.result is None else finite(self.result.metrics.get(name))


def finite(value: float | None) -> float | None:
    """The number, or None for what JSON and tables cannot show."""
    return None if value is None or not math.isfinite(value) else value


def line(strategy: str, at: Progress) -> dict[str, Any]:
    """A `Progress` as an object in JSON lines; `loss` is on the test rows, `train_loss` on the batches."""
    numbers = {"seconds": at.seconds, "samples": at.samples, "train_loss": at.loss, **at.metrics}
    numbers |= {"bytes_sent": at.bytes_sent, "waiting_share": at.waiting_share}
    return {
        "strategy": strategy,
        "step": at.step,
        **{name: finite(number) for name, number in numbers.items()},
    }
