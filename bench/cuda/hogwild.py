"""A sparse linear model on a GPU, beside the CPU's engine with two threads: seconds a pass, and the objective.

RCV1-like rows, the step sizes of scikit-learn, 1 / (alpha (t0 + t)). A pass on the GPU is SWEEPS launches, each
followed by one that shrinks the model as L2 does over as many steps. After EPOCHS passes the objective must be the
CPU's within 1%; if it is not, the row says so. Every warp has a row at a time, so WARPS is how many are at work.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from bench.cuda.events import OnGpu
from bench.harness import Options, Row, measure
from bench.sparse.data import rcv1_like
from bench.sparse.hogwild import EPOCHS, Objective, Run, matrix, quality
from loosestep import ops
from loosestep.cuda import device, hogwild
from loosestep.cuda.launch import cupy

ALPHA, FEATURES = 1e-6, 47_236
SWEEPS, WARPS, INTERCEPT = 16, 1024, 0.01  # scikit-learn moves the intercept of sparse rows by a hundredth


class GpuRun:
    """Calls are passes."""

    def __init__(self, rows: Any, targets: Any, objective: Objective, adds: Any, warps: int = WARPS) -> None:
        self.objective, self.adds, self.warps, self.done = objective, adds, warps, 0
        order = np.random.default_rng(0).permutation(rows.shape[0])
        rows, self.count = rows[order], rows.shape[0]
        self.parts = parts(rows, targets[order])
        self.weights = cupy().zeros(rows.shape[1] + 1, "float32")
        self.offset = first_step(objective)

    def __call__(self) -> float:
        total = 0.0
        for part, count in self.parts:
            total += self.launch(part)
            begin = self.offset + self.done
            self.done += count
            ops.shrink(self.weights[:-1], begin / (begin + count), 0.0)  # exp(-alpha times the sum of the steps)
        return total

    def launch(self, part: hogwild.CSR) -> float:
        rate = hogwild.StepSize(schedule="optimal", alpha=self.objective.alpha, offset=self.offset)
        return hogwild.linear(
            self.weights,
            part,
            loss=self.objective.loss,
            rate=rate,
            adds=self.adds,
            steps=self.done,
            intercept_step=INTERCEPT,
            warps=self.warps,
        )

    def after(self, passes: int) -> tuple[Any, float]:
        """The model after so many passes from the start."""
        while self.done < passes * self.count:
            self()
        found = cupy().asnumpy(self.weights)
        return found[:-1], float(found[-1])


def parts(rows: Any, targets: Any) -> list[tuple[hogwild.CSR, int]]:
    """Of equal numbers of rows; all share the entries."""
    entries = [cupy().asarray(each) for each in (rows.indices.astype(np.int32), rows.data.astype(np.float32))]
    cuts = np.linspace(0, targets.size, SWEEPS + 1).astype(int)
    made = []
    for begin, end in pairwise(cuts):
        starts = cupy().asarray(rows.indptr[begin : end + 1].astype(np.int64))
        wanted = cupy().asarray(targets[begin:end].astype(np.float32))
        made.append((hogwild.CSR(starts, *entries, wanted), int(end - begin)))
    return made


def first_step(objective: Objective) -> float:
    """scikit-learn's t0: the first step is 1 / (alpha t0)."""
    return float(1 / (np.sqrt(1 / np.sqrt(objective.alpha)) * objective.alpha))


def compare(loss: str, n: int, options: Options, warps: int = WARPS) -> Iterator[Row]:
    """One loss: objectives first, then times."""
    rows, targets = matrix(rcv1_like(n), FEATURES)
    objective = Objective(loss, ALPHA)
    runs: dict[str, Any] = {
        f"GPU, {adds}": GpuRun(rows, targets, objective, adds, warps) for adds in ("racy", "exact")
    }
    runs["CPU, 2 threads"] = Run(rows, targets, objective, n_threads=2)
    data = (rows, targets)
    reached = {name: quality(*run.after(EPOCHS), data, data, objective)[0] for name, run in runs.items()}
    for name, found in reached.items():
        print(f"  {loss}, {name:18} {found:.5f} after {EPOCHS} passes", file=sys.stderr)
    fine = all(found <= 1.01 * reached["CPU, 2 threads"] for found in reached.values())
    timed = {name: OnGpu([run]) if isinstance(run, GpuRun) else run for name, run in runs.items()}
    measured = measure(timed, options, at_least=0.0)
    case = f"RCV1-like, {loss}"
    yield from measured.rows(
        "hogwild on a GPU", case, threads=2, n=n, amount=float(n), unit="examples/s", checked=fine
    )


def rows(options: Options) -> Iterator[Row]:
    print(f"on GPU 0, {device.first()}; {WARPS} warps", file=sys.stderr)
    for loss in ("log_loss", "hinge"):
        if options.only in f"RCV1-like, {loss}":
            yield from compare(loss, 2_000 if options.smoke else 200_000, options)
