"""Mutated checkpoints of the library's loop: the bits of an unbroken run, or a CheckpointError; nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tests.chaos.mutations import STEPS, Resumed, kinds

import loosestep as ls

if TYPE_CHECKING:
    from collections.abc import Iterator

ALL = 6000


def go(
    folder: Path | None, strategy: ls.Strategy, *,
    steps: int = STEPS, stop: int = STEPS, data: int = 0, resume: bool = False,
) -> ls.Result:  # fmt: skip
    """A run of two imaginary workers, of so many steps, or stopped earlier."""

    def batches(rank: int, size: int) -> Iterator[Any]:
        random = np.random.default_rng(rank + 100 * data)
        return (random.standard_normal((3, 8)) for _ in range(steps))

    saved: dict[str, Any] = {"checkpoint": folder, "checkpoint_every": 4, "resume": resume} if folder else {}
    return ls.run(
        strategy, lambda x, batch: (float(x @ x), x - batch.mean(axis=0)), np.ones(8), batches,
        optimizer=ls.Momentum(0.05), on=ls.Simulated(2), evaluate=lambda x: float(x[0]), every=4,
        stop=lambda progress: progress.step >= stop, **saved,
    )  # fmt: skip


def told(result: ls.Result) -> tuple[object, ...]:
    """What must be the same after a resume: the parameters, and the history but for what clocks say."""
    history = [(each.step, each.samples, each.loss, tuple(each.metrics.items())) for each in result.history]
    return result.params.tobytes(), result.steps, result.samples, tuple(history)


@cache
def written(strategy: ls.Strategy, stop: int, data: int) -> Path:
    """A folder of a run that was stopped there."""
    folder = Path.cwd() / f"written-{type(strategy).__name__}-{stop}-{data}"
    go(folder, strategy, stop=stop, data=data)
    return folder


@cache
def unbroken(strategy: ls.Strategy) -> tuple[object, ...]:
    return told(go(None, strategy))


@dataclass(frozen=True)
class Library(Resumed):
    """Runs with one strategy."""

    strategy: ls.Strategy

    def written(self, stop: int, data: int) -> Path:
        return written(self.strategy, stop, data)

    def goes_on(self, folder: Path) -> tuple[object, ...]:
        return told(go(folder, self.strategy, resume=True))

    def unbroken(self) -> tuple[object, ...]:
        return unbroken(self.strategy)


SOURCES = tuple(map(Library, (ls.LocalSGD(4), ls.EASGD(4), ls.CoCoDSGD(4), ls.DiLoCo(4))))
KINDS = kinds(SOURCES)
