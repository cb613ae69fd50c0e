"""Many replicas on a GPU: 8 and their center, a mixing matrix of 8, a mean of 8.

The limit is the driver's copy within the GPU. Rivals: the same by single fused ops, one after another, and by
CuPy's elementwise calls. Each is checked against ours first; bytes are those that one pass must move.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from bench.cuda.events import OnGpu, sets_of
from bench.cuda.ops import copier
from bench.harness import Options, Row, measure
from bench.replicas import CASES as ON_CPU
from bench.replicas import SMOKE, Case, Ways, check, mix
from loosestep.cuda import device
from loosestep.cuda.launch import cupy

CASES = {
    **ON_CPU,
    "mixing matrix of 8": ON_CPU["mixing matrix of 8"]._replace(ways=mix),
}
SIZE = 1 << 26
"""Elements of a buffer."""


def made(case: Case, n: int, seed: int = 0) -> Ways:
    rng = np.random.default_rng(seed)
    return case.ways([cupy().asarray(rng.random(n, np.float32)) for _ in range(case.buffers)], cupy())


def rows_of(name: str, case: Case, options: Options) -> Iterator[Row]:
    n = SMOKE if options.smoke else SIZE
    sets = [made(case, n, seed) for seed in range(min(2, sets_of(4 * case.buffers * n)))]
    contestants = {each: OnGpu([ways[each].run for ways in sets]) for each in sets[0]}
    measured = measure({**contestants, "copy": copier(n)}, options)
    amount = dict.fromkeys(contestants, case.bytes * n / 1e9) | {"copy": 8 * n / 1e9}
    yield from measured.rows(
        "replicas on a GPU", name, threads=1, n=n, amount=amount, unit="GB/s", limits=["copy"]
    )


def rows(options: Options) -> Iterator[Row]:
    print(f"on GPU 0, {device.first()}", file=sys.stderr)
    for name, case in CASES.items():
        if options.only in name:
            check(lambda case=case: made(case, SMOKE), cupy().asnumpy)
            yield from rows_of(name, case, options)
