"""One contender over all seeds: the row of the table, the object in JSON."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, NamedTuple

from loosestep.cli.report.run_record import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

METRICS = ("test_accuracy", "loss")
RESULTS = ("seconds", "samples_per_second", "bytes_sent", "waiting_share", "consensus_distance")


class Number(NamedTuple):
    """A mean over the seeds, and their standard deviation (None of a single seed)."""

    mean: float
    spread: float | None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Number | None:
        """Return None where a seed has no number: a mean of the others would flatter."""
        there = [value for value in values if value is not None]
        if not there or len(there) < len(values):
            return None
        return cls(fmean(there), stdev(there) if len(there) > 1 else None)


@dataclass(frozen=True)
class Summary:
    """The outcomes of one contender, one a seed.

    strategy: its text; familiar: others are told by it, if they turn out to be the same; optimizer, rate: what it
    was trained with, the second as the table shows it; linkless: its workers share memory, so that a simulated
    link means nothing to it.
    """

    name: str
    strategy: str
    outcomes: tuple[Outcome, ...]
    familiar: bool = False
    optimizer: str = ""
    rate: str = ""
    linkless: bool = False

    @property
    def virtual(self) -> bool:
        """Whether its seconds are simulated."""
        return any(outcome.virtual for outcome in self.outcomes)

    @property
    def finished(self) -> bool:
        """Whether no seed failed."""
        return all(outcome.finished for outcome in self.outcomes)

    def number(self, name: str) -> Number | None:
        """Return a metric, or a number of the result, over the seeds."""
        if name in METRICS:
            return self._over(lambda outcome: outcome.metric(name))
        return self._over(lambda outcome: outcome.value(name))

    def seconds_to(self, accuracy: float) -> Number | None:
        """Return the seconds until an evaluation first showed that accuracy, where every seed reached it."""
        return self._over(lambda outcome: outcome.seconds_to(accuracy))

    def curve(self, across: str) -> list[tuple[float, float]]:
        """Return points of 'seconds' or 'bytes_sent' and test accuracy, means over seeds."""
        evaluations = zip(*(outcome.history for outcome in self.outcomes), strict=False)
        return [
            (fmean(getattr(at, across) for at in seen), fmean(at.metrics["test_accuracy"] for at in seen))
            for seen in evaluations
        ]

    def same(self, other: Summary) -> bool:
        """Return whether both ended at the same parameters, to rounding, with every seed."""
        alike = len(self.outcomes) == len(other.outcomes)
        return alike and all(map(Outcome.same, self.outcomes, other.outcomes))

    def problems(self) -> list[str]:
        """Return a line for each seed that failed."""
        return [f"{self.name}, seed {one.seed}: {one.problem}" for one in self.outcomes if one.problem]

    def row(self, target: float | None = None) -> dict[str, Any]:
        """Return the object for JSON: means over the seeds; spreads are standard deviations."""
        numbers = {name: self.number(name) for name in METRICS}
        numbers["train_loss"] = self._over(lambda outcome: outcome.train_loss())
        numbers |= {name: self.number(name) for name in RESULTS}
        if target is not None:
            numbers["seconds_to_target"] = self.seconds_to(target)
        problems = self.problems()
        return {
            "strategy": self.strategy,
            "optimizer": self.optimizer,
            **{name: None if number is None else number.mean for name, number in numbers.items()},
            "spread": {name: None if number is None else number.spread for name, number in numbers.items()},
            "seeds": [outcome.seed for outcome in self.outcomes],
            "virtual": self.virtual,
            "problem": "; ".join(problems) if problems else None,
        }

    def _over(self, value: Callable[[Outcome], float | None]) -> Number | None:
        return Number.of([value(outcome) for outcome in self.outcomes])


def target_of(summaries: Sequence[Summary]) -> float | None:
    """Return an accuracy that all good methods reach: 97 % of the best mean, to two digits."""
    accuracies = [one.number("test_accuracy") for one in summaries]
    best = max((accuracy.mean for accuracy in accuracies if accuracy), default=None)
    return None if best is None else int(97 * best) / 100


def copies(summaries: Sequence[Summary]) -> dict[int, int]:
    """Return, by row, the row that it copies: with every seed their parameters are the same, to rounding.

    The original is a familiar one, if there is any among them; else the first.
    """
    found: dict[int, int] = {}
    originals: list[int] = []
    for place in sorted(range(len(summaries)), key=lambda place: (not summaries[place].familiar, place)):
        original = next((other for other in originals if summaries[place].same(summaries[other])), None)
        if original is None:
            originals.append(place)
        else:
            found[place] = original
    return found
