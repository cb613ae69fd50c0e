"""The problem on which contracts are tested: worker i's samples are drawn around a point of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

SIZE = 24  # parameters


@dataclass(frozen=True)
class Own:
    """A batch of all workers of which each takes what it always takes."""

    batch: Any

    def part(self, rank: int, shares: Any) -> Any:
        return self.batch


class Quadratic:
    """Mean squared distance to samples; worker i has `counts[i]` batches of `samples[i]` samples each."""

    def __init__(
        self, counts: list[int], samples: list[int] | None = None, noise: float = 0.0, alike: bool = False
    ) -> None:
        self.counts, self.noise, self.alike = counts, noise, alike
        self.samples = samples or [2] * len(counts)
        self.made: dict[int, list[Any]] = {}  # many tests run on one problem many times

    def batches(self, rank: int, size: int) -> Iterator[Any]:
        if rank not in self.made:
            shape = (self.counts[rank], self.samples[rank], SIZE)
            noise = np.random.default_rng(rank).standard_normal(shape)
            self.made[rank] = list(self.middle(rank) + self.noise * noise)
        return iter(self.made[rank])

    def together(self, rank: int, size: int) -> Iterator[Any]:
        """The same for strategies that share batches out: whatever the shares, each worker takes its own."""
        return map(Own, self.batches(rank, size))

    def middle(self, rank: int) -> Any:
        """Where worker `rank`'s samples are."""
        return np.random.default_rng(100 + (0 if self.alike else rank)).uniform(-1, 1, SIZE)

    def minimum(self) -> Any:
        """Of the mean loss over all samples."""
        weights = [count * samples for count, samples in zip(self.counts, self.samples, strict=True)]
        return np.average([self.middle(rank) for rank in range(len(weights))], axis=0, weights=weights)

    @staticmethod
    def gradient(x: Any, batch: Any) -> tuple[float, Any]:
        gap = x - batch.astype(x.dtype, copy=False)
        return 0.5 * float(np.vdot(gap, gap)) / len(gap), np.add.reduce(gap) / x.dtype.type(len(gap))


def start(dtype: type = np.float64) -> Any:
    """Far from the minimum."""
    return np.full(SIZE, 3.0, dtype)


def facts(result: Any) -> tuple[Any, ...]:
    """All of a result that must not depend on where and how a synchronous strategy ran, as bits."""
    return (
        result.params.tobytes(),
        [worker.params.tobytes() for worker in result.workers],
        [worker.steps for worker in result.workers],
        [worker.samples for worker in result.workers],
        np.float64(result.loss).tobytes(),
        (result.steps, result.samples, result.bytes_sent, result.messages),
        [(seen.step, seen.samples, np.float64(seen.loss).tobytes(), seen.metrics) for seen in result.history],
    )
