"""What processes gain for Splash: `mpiexec -n 2 python -m bench.sparse.splash [--smoke]`.

The examples of examples/splash, a pass of one process (the others sleep) against a pass of all, in alternated
runs; a pass has 4 rounds. The limit is what the processes do on their parts of the samples when they meet nobody.
Seconds are those of the run's clock, from the first sample to the last meeting; the results are those of
`Simulated` to the bit, which is checked first.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from mpi4py import MPI

import loosestep as ls
from loosestep import splash
from loosestep.cli import blas_threads

sys.path.append(str(Path(__file__).parents[2] / "examples" / "splash"))

import logistic
import ratings
import topics

RUNS = 15


def cases(smoke: bool) -> dict[str, dict[str, Any]]:
    """The arguments of `splash.run` for each example."""
    scale = 20 if smoke else 1
    regression = splash.AdaGrad(logistic.gradient, 0.2, logistic.features_of)
    lda, factors = topics.LDA(8, 300), ratings.Factors()
    return {
        "logistic regression, 20 of 1,000 features": {
            "process": regression, "samples": logistic.rows(20_000 // scale),
            "shared": regression.variables(np.zeros(1_000)),
        },
        "LDA, 8 topics of 300 words": {
            "process": lda.process, "samples": topics.corpus(500 // scale, 40, 8, 300),
            "shared": lda.variables(), "group": topics.document_of,
        },
        "matrix factorization, 100 items": {
            "process": factors.process, "samples": ratings.ratings(200, 100, 20_000 // scale),
            "shared": factors.variables(100), "group": ratings.user_of,
        },
    }  # fmt: skip


def asleep(world: MPI.Comm) -> None:
    """Wait for all without taking a processor."""
    request = world.Ibarrier()
    while not request.Test():
        time.sleep(1e-3)


def alone(world: MPI.Comm, case: dict[str, Any]) -> float:
    """Seconds of rank 0 while the others sleep; nan elsewhere."""
    seconds = splash.run(**case, rounds=4, on=ls.Serial()).seconds if world.rank == 0 else np.nan
    asleep(world)
    return seconds


def beside(world: MPI.Comm, case: dict[str, Any]) -> float:
    """Seconds of the slowest of all processes at once, each on a part of the samples, that exchange nothing."""
    part = {**case, "samples": case["samples"][world.rank :: world.size]}
    asleep(world)
    seconds = splash.run(**part, rounds=4, on=ls.Serial()).seconds
    asleep(world)
    return float(world.allreduce(seconds, op=MPI.MAX))


def main() -> None:
    world, smoke = MPI.COMM_WORLD, "--smoke" in sys.argv
    on = ls.MPI()
    with blas_threads.one_thread():
        for name, case in cases(smoke).items():
            apart, alike = (splash.run(**case, rounds=4, on=each) for each in (on, ls.Simulated(on.size)))
            if any((apart.variables[each] != alike.variables[each]).any() for each in apart.variables):
                raise RuntimeError(f"{name}: rank {on.rank} has other bits than the simulator")
            times = [
                (alone(world, case), splash.run(**case, rounds=4, on=on).seconds, beside(world, case))
                for _ in range(1 if smoke else RUNS)
            ]
            if on.rank == 0:
                print(line(name, len(case["samples"]), on.size, times), flush=True)


def line(name: str, samples: int, size: int, times: list[tuple[float, float, float]]) -> str:
    """Return a row of the table."""
    one, many, _ = (median(each) for each in zip(*times, strict=True))
    gain, limit = (
        f"{median(gains):.2f} ({min(gains):.2f} to {max(gains):.2f})"
        for gains in ([run[0] / run[kind] for run in times] for kind in (1, 2))
    )
    return f"| {name} | {1e6 * one / samples:.1f} | {1e6 * many / samples:.1f} | {gain} | {limit} | {size} |"


if __name__ == "__main__":
    main()
