"""What an average costs processes of one host while they compute: `mpiexec -n 2 python -m bench.overlap`.

Two workers move 16 Mi parameters (float32) and average them every second step, waited for (local SGD) or one or
two steps late. A gradient takes 60 ms, asleep, as if another device computed. Rows are of rounds of two steps in
alternated runs; without communication is `OneShotAveraging`. Hidden is the share of what local SGD's averages take
that a method does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np

import loosestep as ls
from loosestep import blas

SIZE, STEP, PERIOD, STEPS, RUNS = 16 << 20, 60e-3, 2, 24, 7
METHODS: dict[str, ls.Strategy] = {
    "without communication": ls.OneShotAveraging(),
    "local SGD": ls.LocalSGD(PERIOD),
    "DaSGD, lerp, 1 step late": ls.DaSGD(PERIOD, 1),
    "DaSGD, correct, 1 step late": ls.DaSGD(PERIOD, 1, "correct"),
    "CoCoD-SGD": ls.CoCoDSGD(PERIOD),
    "Overlap-Local-SGD": ls.OverlapLocalSGD(PERIOD),
}


def seconds_a_round(strategy: ls.Strategy) -> float:
    """Of this worker, over the second half of a run; the first one warms up."""
    gradient, times = np.zeros(SIZE, np.float32), list[float]()

    def slow(x: Any, batch: Any) -> Any:
        times.append(time.perf_counter())
        time.sleep(STEP)
        return gradient

    def batches(rank: int, size: int) -> Iterator[None]:
        return iter([None] * STEPS)

    ls.run(strategy, slow, gradient.copy(), batches, optimizer=ls.SGD(1e-3), on=ls.MPI())
    return PERIOD * (times[-1] - times[STEPS // 2]) / (STEPS - 1 - STEPS // 2)


def main() -> None:
    found: dict[str, list[float]] = {name: [] for name in METHODS}
    with blas.one_thread():
        for _ in range(RUNS):
            for name, strategy in METHODS.items():
                found[name].append(seconds_a_round(strategy))
    if ls.MPI().rank == 0:
        print("\n".join(lines(found)), flush=True)


def lines(found: dict[str, list[float]]) -> Iterator[str]:
    """The table: medians, and the least, which others on the machine disturb least."""
    yield "| method | ms a round, median | hidden | ms, least | hidden |\n|---|---|---|---|---|"
    for name, times in found.items():
        cells = [f"{1e3 * middle(times):.1f} | {share(found, name, middle):.0%}" for middle in (median, min)]
        yield f"| {name} | {cells[0]} | {cells[1]} |"


def share(found: dict[str, list[float]], name: str, middle: Callable[[list[float]], float]) -> float:
    bare, waited, mine = (middle(found[each]) for each in ("without communication", "local SGD", name))
    return (waited - mine) / (waited - bare)


if __name__ == "__main__":
    main()
