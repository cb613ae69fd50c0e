"""Many replicas on the CPU: 8 and their center, a mixing matrix of 8, a mean of 8; `--device cuda` has them too.

The limit is the better of two copies (with ordinary and with streaming stores), by bytes moved. Rivals: single
fused ops one after another, the same by calls of numpy, and its matrix product, which makes what is to be mixed
elsewhere. Each is checked against ours first; bytes are those that one pass must move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bench.harness import Contestant, Options, Row, measure
from bench.ops_cases import unfused
from loosestep import _core, ops
from loosestep.foundation import buffers

MANY, RATE = 8, 0.1
WEIGHTS = [[0.65 if i == j else 0.05 for j in range(MANY)] for i in range(MANY)]
SIZE, SMOKE = 1 << 23, 1 << 12


class Way(NamedTuple):
    """One way to do it, and where its results are then."""

    run: Contestant
    results: Sequence[Any]


Ways = Mapping[str, Way]


def elastic(held: Sequence[Any], module: Any) -> Ways:
    """Replicas, their center, and room for a difference."""
    *replicas, c, d = held

    def single() -> None:
        for x in replicas:
            ops.elastic(x, c, RATE)

    moved = [*replicas, c]
    return {
        "loosestep": Way(lambda: ops.elastic_all(replicas, c, RATE), moved),
        "single ops": Way(single, moved),
        "unfused": Way(unfused(module, replicas, c, d, RATE), moved),
    }


def mix(held: Sequence[Any], module: Any) -> Ways:
    """Replicas, and room for what takes their places."""
    replicas, made = list(held[:MANY]), list(held[MANY:])

    def single() -> None:
        for row, out in zip(WEIGHTS, made, strict=True):
            ops.weighted_sum(replicas, row, out)
        for x, out in zip(replicas, made, strict=True):
            ops.copy(out, x)

    return {
        "loosestep": Way(lambda: ops.mix(replicas, WEIGHTS), replicas),
        "single ops": Way(single, replicas),
    }


def product(held: Sequence[Any], module: Any) -> Ways:
    """`mix`, and BLAS: rows of one matrix are multiplied into others of it."""
    weights, made = np.array(WEIGHTS, np.float32), held[MANY:]
    matrix = Way(lambda: np.matmul(weights, held[:MANY], out=made), made)
    return {**mix(held, module), "numpy matmul, elsewhere": matrix}


def mean(held: Sequence[Any], module: Any) -> Ways:
    """Replicas, and their mean."""
    *replicas, out = held

    def calls() -> None:
        module.add(replicas[0], replicas[1], out=out)
        for x in replicas[2:]:
            module.add(out, x, out=out)
        module.divide(out, MANY, out=out)

    return {"loosestep": Way(lambda: ops.mean_of(replicas, out), [out]), "unfused": Way(calls, [out])}


class Case(NamedTuple):
    """What is done with so many buffers, and the bytes that an element costs."""

    ways: Callable[[Sequence[Any], Any], Ways]
    buffers: int
    bytes: int


CASES = {
    "8 replicas and their center": Case(elastic, MANY + 2, 8 * (MANY + 1)),
    "mixing matrix of 8": Case(product, 2 * MANY, 8 * MANY),
    "mean of 8": Case(mean, MANY + 1, 4 * (MANY + 1)),
}


def floats(many: int, n: int) -> Any:
    """So many rows of a matrix."""
    made = buffers.zeros(many * n).reshape(many, n)
    np.random.default_rng(0).random(out=made, dtype=np.float32)
    return made


def check(make: Callable[[], Ways], what: Callable[[Any], Any] = np.array) -> None:
    """All ways, each from the start, give the same up to rounding."""
    found = {}
    for name in make():
        way = make()[name]
        way.run()
        found[name] = [what(each) for each in way.results]
    for name, results in found.items():
        for got, want in zip(results, found["loosestep"], strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6, err_msg=name)


def copies(n: int) -> dict[str, Contestant]:
    x, out = floats(2, n)
    copy = _core.streams.copy
    return {"copy": lambda: copy(x, out), "copy, streaming": lambda: copy(x, out, streaming=True)}


def rows_of(name: str, case: Case, n: int, options: Options) -> Iterator[Row]:
    check(lambda: case.ways(floats(case.buffers, SMOKE), np))
    ways = {each: way.run for each, way in case.ways(floats(case.buffers, n), np).items()}
    limits = copies(n)
    measured = measure({**ways, **limits}, options)
    amount = dict.fromkeys(ways, case.bytes * n / 1e9) | dict.fromkeys(limits, 8 * n / 1e9)
    yield from measured.rows(
        "replicas", name, threads=_core.threads(), n=n, amount=amount, unit="GB/s", limits=list(limits)
    )


def rows(options: Options) -> Iterator[Row]:
    for name, case in CASES.items():
        if options.only in name:
            yield from rows_of(name, case, SMOKE if options.smoke else SIZE, options)
