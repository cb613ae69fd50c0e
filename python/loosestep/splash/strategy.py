"""The rounds of Splash as a strategy: process a stretch of samples with weights, then merge."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from loosestep import ops
from loosestep.foundation.errors import Diverged
from loosestep.requests import AllReduce, Buffer, Gradient, Request
from loosestep.requests.worker import Worker
from loosestep.splash import degree
from loosestep.splash.part import Job, Part
from loosestep.strategies.base import State, Strategy


@dataclass(frozen=True, repr=False)
class Splash(Strategy):
    """v <- mean_i(Gamma_i v + D_i) + sum_i T_i over the m workers of a round; the gradient is what a part returns.

    facts: what must be the same in every process, and in a run that is resumed. degree: m, or how to find it.
    passes: over the samples. workers: of the run. parts: of this process's workers, by rank.
    """

    replicas_agree: ClassVar[bool] = True
    facts: tuple[tuple[str, object], ...]
    degree: int | Literal["tune"]
    passes: int
    workers: int
    job: Job = field(compare=False, repr=False)
    parts: dict[int, Part] = field(default_factory=dict, compare=False, repr=False)

    def __repr__(self) -> str:
        told = (*self.facts, ("degree", repr(self.degree)), ("passes", self.passes), ("workers", self.workers))
        return f"splash.run({', '.join(f'{name}={value}' for name, value in told)})"

    @property
    def stretches(self) -> int:
        """How many stretches of samples the run has, of all workers."""
        return self.passes * self.job.rounds * self.workers

    def weigh(self, worker: Worker) -> float:
        """Return 1: all have the same values."""
        return 1.0

    def init(self, worker: Worker) -> State:
        state = degree.beginning(worker.size if self.degree == "tune" else self.degree, worker.size)
        self.parts[worker.rank] = Part(worker.rank, worker.size, self.job, state, worker.params)
        return state

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        part, tuned = self.parts[worker.rank], self.degree == "tune"
        groups = degree.groups(state, self.passes * self.job.rounds, self.job.seed, tuned=tuned)
        mine = next((group for group in groups if worker.rank in group), ())
        part.begin(len(mine), worker.round, trial=len(groups) > 1)
        yield Gradient()
        merged: list[Buffer] = []
        for number, group in enumerate(groups):
            into = worker.scratch(("merged", number), worker.grad)
            if group is mine:
                ops.copy(worker.grad, into)
            else:
                into.fill(0)
            yield AllReduce(into, op="sum")
            into /= len(group)  # not times 1/m: counts stay whole
            merged.append(into)
        best = (yield from self.best(worker, part, merged)) if len(groups) > 1 else 0
        name = self.job.layout.not_finite(merged[best])
        if name is not None:
            raise Diverged(groups[best][0], worker.round, what=f"the values of {name!r}")
        ops.copy(merged[best], worker.params)
        part.settle(kept=worker.rank in groups[best])
        degree.go_on(state, groups, best)

    def best(self, worker: Worker, part: Part, merged: list[Buffer]) -> Generator[Request, None, int]:
        """Return which candidate has the smallest loss on samples that are drawn; of equal ones the first."""
        losses = worker.workspace("losses", len(merged) + 1, "float64")
        with np.errstate(all="ignore"):  # a candidate may have diverged
            losses[:] = part.judge(merged)
        yield AllReduce(losses, op="sum")
        found = losses[:-1]
        if not np.isfinite(found).any():
            raise Diverged(worker.rank, worker.round, what="the losses after every degree that was tried")
        return int(np.argmin(np.where(np.isfinite(found), found, np.inf)))

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Copy the values, and find the mean loss of all samples."""
        ops.copy(worker.params, out)
        if self.job.loss is None:
            return
        part, sums = self.parts[worker.rank], worker.workspace("loss", 2, "float64")
        sums[:] = part.losses(out), len(part.samples)
        yield AllReduce(sums, op="sum")
        part.mean_loss = float(sums[0] / sums[1]) if sums[1] else None
