"""What meeting costs processes of one host: `mpiexec -n 2 python -m bench.overlap`.

Two workers move 1 Mi parameters (float32) and average them every second step, waited for (local SGD) or one or two
steps late. A gradient takes 10 to 110 ms, asleep, as if another device computed, and each worker meets the same
times in an order of its own: so who waits for an average waits for the slower of the two, and who gets it later
need not, if it goes on while both compute. `--deferred` begins it where it is waited for instead. Rows are medians
over alternated runs; without communication is `OneShotAveraging`. Hidden is the share of what local SGD's meetings
cost that a method does not.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

import loosestep as ls
from loosestep.cli import blas_threads
from loosestep.requests import Request, Start, Wait
from loosestep.requests.worker import Worker
from loosestep.strategies.base import State

SIZE, PERIOD, STEPS, RUNS = 1 << 20, 2, 40, 5
METHODS: dict[str, ls.Strategy] = {
    "without communication": ls.OneShotAveraging(),
    "local SGD": ls.LocalSGD(PERIOD),
    "DaSGD, lerp, 1 step late": ls.DaSGD(PERIOD, 1),
    "DaSGD, correct, 1 step late": ls.DaSGD(PERIOD, 1, "correct"),
    "CoCoD-SGD": ls.CoCoDSGD(PERIOD),
    "Overlap-Local-SGD": ls.OverlapLocalSGD(PERIOD),
}


@dataclass(frozen=True, repr=False)
class Deferred(ls.Strategy):
    """A strategy whose communications begin where they are waited for."""

    of: ls.Strategy

    def init(self, worker: Worker) -> State:
        return self.of.init(worker)

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        for request in self.of.round(worker, state):
            if isinstance(request, Wait):
                yield Start(request.request)
            if not isinstance(request, Start):
                yield request


def seconds(strategy: ls.Strategy, rank: int) -> float:
    """From the third gradient of a run to the last."""
    naps = np.random.default_rng(rank).permutation(np.linspace(0.01, 0.11, STEPS))
    gradient, times = np.zeros(SIZE, np.float32), list[float]()

    def slow(x: Any, batch: Any) -> Any:
        times.append(time.perf_counter())
        time.sleep(naps[len(times) - 1])
        return gradient

    def batches(rank: int, size: int) -> Iterator[None]:
        return iter([None] * STEPS)

    ls.run(strategy, slow, gradient.copy(), batches, optimizer=ls.SGD(1e-3), on=ls.MPI())
    return times[-1] + naps[-1] - times[2] + naps[0] + naps[1]


def main() -> None:
    rank, found = ls.MPI().rank, {name: list[float]() for name in METHODS}
    with blas_threads.one_thread():
        for _ in range(RUNS):
            for name, strategy in METHODS.items():
                late = "--deferred" in sys.argv and name not in ("without communication", "local SGD")
                found[name].append(seconds(Deferred(strategy) if late else strategy, rank))
    if rank == 0:
        print("\n".join(lines(found)), flush=True)


def lines(found: dict[str, list[float]]) -> Iterator[str]:
    """The table."""
    yield "| method | seconds | least | most | hidden |\n|---|---|---|---|---|"
    bare, waited = (median(found[name]) for name in ("without communication", "local SGD"))
    for name, times in found.items():
        hidden = (waited - median(times)) / (waited - bare)
        yield f"| {name} | {median(times):.3f} | {min(times):.3f} | {max(times):.3f} | {hidden:.0%} |"


if __name__ == "__main__":
    main()
