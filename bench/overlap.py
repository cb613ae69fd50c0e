"""What an average costs processes of one host while they compute: `mpiexec -n 2 python -m bench.overlap`.

Two workers move 16 Mi parameters (float32) and average them every second step, waited for (local SGD) or one or two
steps late. A gradient takes 60 ms: asleep, as if another device computed, or in products of small matrices, on the
processor that the average needs too. Rows are medians of rounds of two steps over alternated runs; without
communication is `OneShotAveraging`. Hidden is the share of what local SGD's averages take that a method does not.
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


def asleep() -> None:
    time.sleep(STEP)


def products() -> Callable[[], None]:
    """So many of them as take a step's time when nobody else is at work."""
    a = np.full((128, 128), 1 / 128, np.float32)
    out, start, count = np.empty_like(a), time.perf_counter(), 0
    while time.perf_counter() - start < 5 * STEP:
        np.matmul(a, a, out=out)
        count += 1

    def computed() -> None:
        for _ in range(count // 5):
            np.matmul(a, a, out=out)

    return computed


def seconds_a_round(strategy: ls.Strategy, compute: Callable[[], None]) -> float:
    """Of this worker, over the second half of a run; the first one warms up."""
    gradient, times = np.zeros(SIZE, np.float32), list[float]()

    def slow(x: Any, batch: Any) -> Any:
        times.append(time.perf_counter())
        compute()
        return gradient

    def batches(rank: int, size: int) -> Iterator[None]:
        return iter([None] * STEPS)

    ls.run(strategy, slow, gradient.copy(), batches, optimizer=ls.SGD(1e-3), on=ls.MPI())
    return PERIOD * (times[-1] - times[STEPS // 2]) / (STEPS - 1 - STEPS // 2)


def table(how: str, compute: Callable[[], None]) -> None:
    found: dict[str, list[float]] = {name: [] for name in METHODS}
    for _ in range(RUNS):
        for name, strategy in METHODS.items():
            found[name].append(seconds_a_round(strategy, compute))
    middle = {name: median(times) for name, times in found.items()}
    bare, waited = middle["without communication"], middle["local SGD"]
    for name, times in found.items():
        hidden = f"{(waited - middle[name]) / (waited - bare):.0%}" if waited > bare else "-"
        row = [how, name, f"{1e3 * middle[name]:.1f}", f"{1e3 * min(times):.1f}", f"{1e3 * max(times):.1f}"]
        if ls.MPI().rank == 0:
            print("|", " | ".join([*row, hidden]), "|", flush=True)


def main() -> None:
    if ls.MPI().rank == 0:
        print("| gradient | method | ms a round | least | most | hidden |\n|---|---|---|---|---|---|", flush=True)
    with blas.one_thread():
        table("asleep", asleep)
        table("products", products())


if __name__ == "__main__":
    main()
