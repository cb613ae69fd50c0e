"""Many replicas on a card: 8 and their center, a mixing matrix of 8, and a bucket of 1,000 tensors.

The limit is the driver's copy within the card. Rivals: the same by single fused ops, one after another, and by
CuPy's elementwise calls. Each is checked against ours first; bytes are those that one pass must move.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bench.cuda.events import OnCard, sets_of
from bench.cuda.ops import copier
from bench.harness import Options, Row, measure
from loosestep import ops
from loosestep.cuda import card
from loosestep.cuda.buckets import Bucket
from loosestep.cuda.launching import cupy

MANY, RATE = 8, 0.1
WEIGHTS = [[0.65 if i == j else 0.05 for j in range(MANY)] for i in range(MANY)]
TENSORS = 1000

Run = Callable[[], object]
Made = dict[str, Run]


def floats(many: int, n: int, seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [cupy().asarray(rng.random(n, np.float32)) for _ in range(many)]


def elastic(n: int, seed: int) -> tuple[list[Any], Made]:
    """Replicas and their center, and the ways to move them."""
    *replicas, c = held = floats(MANY + 1, n, seed)
    d, module = cupy().empty_like(c), cupy()

    def single() -> None:
        for x in replicas:
            ops.elastic(x, c, RATE)

    def unfused() -> None:
        for x in replicas:
            module.subtract(x, c, out=d)
            module.multiply(d, RATE, out=d)
            module.subtract(x, d, out=x)
            module.add(c, d, out=c)

    ours = {"loosestep": lambda: ops.elastic_all(replicas, c, RATE)}
    return held, {**ours, "single ops": single, "cupy": unfused}


def mix(n: int, seed: int) -> tuple[list[Any], Made]:
    """Replicas, and sums of them that then take their places."""
    replicas, made = floats(MANY, n, seed), floats(MANY, n, seed)

    def single() -> None:
        for row, out in zip(WEIGHTS, made, strict=True):
            ops.weighted_sum(replicas, row, out)
        for x, out in zip(replicas, made, strict=True):
            ops.copy(out, x)

    return replicas, {"loosestep": lambda: ops.mix(replicas, WEIGHTS), "single ops": single}


def gather(n: int, seed: int) -> tuple[list[Any], Made]:
    """Tensors of many sizes; a call gathers them all and divides by 8."""
    sizes = np.diff(np.linspace(0, np.sqrt(n), TENSORS + 1).round() ** 2).astype(int)
    tensors = [floats(1, int(size), seed)[0] for size in sizes]
    bucket = cupy().zeros(int(sizes.sum()), "float32")
    held, starts = Bucket(tensors), np.cumsum([0, *sizes])

    def single() -> None:
        for x, begin, end in zip(tensors, starts, starts[1:], strict=False):
            cupy().multiply(x, 1 / MANY, out=bucket[begin:end])

    return [bucket], {"loosestep": lambda: held.gather(bucket, MANY), "cupy": single}


Case = tuple[Callable[[int, int], tuple[list[Any], Made]], int, int]
CASES: dict[str, Case] = {  # what is made, bytes an element, elements
    "8 replicas and their center": (elastic, 8 * (MANY + 1), 1 << 26),
    "mixing matrix of 8": (mix, 8 * MANY, 1 << 26),
    "gather of 1,000 tensors": (gather, 8, 1 << 28),
}
SMOKE = 1 << 12


def check(case: str) -> None:
    """All ways give the same, to the bit or to rounding."""
    make, _, _ = CASES[case]
    results = {}
    for name in make(SMOKE, 0)[1]:
        held, ways = make(SMOKE, 0)
        ways[name]()
        results[name] = [cupy().asnumpy(each) for each in held]
    for name, found in results.items():
        for got, want in zip(found, results["loosestep"], strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6, err_msg=f"{case}: {name}")


def rows_of(case: str, options: Options) -> Iterator[Row]:
    make, size, n = CASES[case]
    n = SMOKE if options.smoke else n
    sets = [make(n, seed)[1] for seed in range(min(2, sets_of(size * n)))]
    contestants = {name: OnCard([ways[name] for ways in sets]) for name in sets[0]}
    measured = measure({**contestants, "copy": copier(n)}, options)
    amount = dict.fromkeys(contestants, size * n / 1e9) | {"copy": 8 * n / 1e9}
    yield from measured.rows(
        "replicas on a card", case, threads=1, n=n, amount=amount, unit="GB/s", limits=["copy"]
    )


def rows(options: Options) -> Iterator[Row]:
    print(f"on card 0, {card.first()}", file=sys.stderr)
    for case in CASES:
        if options.only in case:
            check(case)
            yield from rows_of(case, options)
