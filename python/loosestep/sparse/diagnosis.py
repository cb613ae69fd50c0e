"""Effects of threads on each other: conflicts, lost updates, staleness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from loosestep.sparse.linear_trainer import Trainer


@dataclass(frozen=True)
class Diagnosis:
    """The diagnosis of a training with diagnose=True, which adds exactly and watches every 16th example: slower.

    conflict_rate: share of the shared coordinates that another thread moved between their reading and writing.
    lost_rate: share of shared updates that racy adds would have lost (exact adds had to try again).
    staleness: [(from, to, share)]: examples of other threads between an example's reading and its writing.
    hottest: [(feature, conflicts seen)], most first; feature -1 is the intercept.
    head: places with copies in every thread: no conflicts there, but `head_staleness`, the most examples of other
    threads that a copy has not seen.
    """

    conflict_rate: float
    lost_rate: float
    staleness: list[tuple[int, int, float]]
    hottest: list[tuple[int, int]]
    head: int
    head_staleness: int

    @classmethod
    def of(cls, trainer: Trainer) -> Diagnosis:
        told, layout, threads = trainer.told, trainer.layout, trainer.settings.threads
        watched = [each["watched"] for each in told]
        coordinates, conflicts = (sum(each[name] for each in watched) for name in ("coordinates", "conflicts"))
        updates = max(sum(each["updates"] for each in told), 1)
        return cls(
            conflicts / max(coordinates, 1),
            sum(each["retried"] for each in told) / updates,
            ranges(np.sum([each["staleness"] for each in watched], axis=0)),
            hottest(trainer, [each["places"] for each in watched]),
            layout.head,
            layout.period * (threads - 1) if layout.head else 0,
        )

    def __str__(self) -> str:
        stale = ", ".join(f"{low}-{high}: {share:.2%}" if high > low else f"{low}: {share:.2%}"
                          for low, high, share in self.staleness)  # fmt: skip
        hot = ", ".join(f"{feature} ({count})" for feature, count in self.hottest) or "none"
        return (
            f"conflicts: {self.conflict_rate:.3%} of the shared coordinates read; racy adds would lose "
            f"{self.lost_rate:.4%} of the updates\nstaleness, in examples of others: {stale}\n"
            f"hottest features: {hot}\n"
            f"head: {self.head} places, at most {self.head_staleness} examples of others unseen"
        )


def ranges(counts: Any) -> list[tuple[int, int, float]]:
    """Return counts by powers of two, as fractions."""
    total = max(int(counts.sum()), 1)
    edges = [(0, 0), *((1 << k, (2 << k) - 1) for k in range(counts.size - 1))]
    return [(low, high, int(count) / total) for (low, high), count in zip(edges, counts, strict=True) if count]


def hottest(trainer: Trainer, places: list[list[int]], most: int = 10) -> list[tuple[int, int]]:
    """Return the features with most conflicts."""
    met, counts = np.unique(np.concatenate([np.asarray(each, np.int64) for each in places]), return_counts=True)
    feature = np.full(trainer.layout.places.size + 1, -1)
    feature[trainer.layout.places] = np.arange(trainer.layout.places.size)
    first = np.argsort(-counts, kind="stable")[:most]
    return [(int(feature[met[k]]), int(counts[k])) for k in first]
