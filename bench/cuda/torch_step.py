"""A torch loop on a GPU: what a strategy adds to a step, and what it costs to meet others through main memory.

Steps are timed ten at a time, up to the last loss in main memory; the limit is the same loop in bare torch. An
average is staged as for any transport; in place of the other workers each chunk is read and written once in main
memory. So what chunks hide is seen without a network: the rival is one piece, the limit both copies alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from bench.harness import Options, Row, measure
from bench.torch_cases import CASES, STEPS
from bench.torch_step import STRATEGIES, check, loop
from loosestep import ops
from loosestep.cuda import device
from loosestep.foundation.buffers import here
from loosestep.lowering.staging import Staging
from loosestep.requests import AllReduce, Elastic, Shared
from loosestep.requests.worker import Worker
from loosestep.torch.device_buffer import buffer_of

ELEMENTS, SMOKE = 1 << 26, 1 << 12
DEVICE = "cuda"


def rows(options: Options) -> Iterator[Row]:
    print(f"# {device.first()}", flush=True)
    yield from steps(options)
    yield from staged(options)


def steps(options: Options) -> Iterator[Row]:
    for case, (make, shape) in CASES.items():
        if options.only not in case:
            continue
        check(make, shape, DEVICE)
        contestants = {"bare torch": loop(make, shape, None, DEVICE)}
        contestants |= {f"loosestep {strategy}": loop(make, shape, strategy, DEVICE) for strategy in STRATEGIES}
        measured = measure(contestants, options, at_least=0.05)
        yield from measured.rows(
            "torch_step on a GPU", case, threads=1, amount=STEPS, unit="steps/s", limits=["bare torch"]
        )


def staged(options: Options) -> Iterator[Row]:
    """4 bytes an element cross to main memory, and 4 back."""
    n = SMOKE if options.smoke else ELEMENTS
    case = f"average of {n * 4 >> 10} KiB"
    if options.only in case:
        for way in (in_chunks, in_one_piece):
            check_staged(way)
        contestants = {"loosestep": in_chunks(n), "in one piece": in_one_piece(n), "copies alone": copies(n)}
        measured = measure(contestants, options, at_least=0.05)
        yield from measured.rows(
            "torch_step on a GPU", case, threads=1, n=n, amount=8 * n / 1e9, unit="GB/s", limits=["copies alone"]
        )


def buffer(n: int) -> Any:
    return buffer_of(torch.arange(n, dtype=torch.float32, device=DEVICE))


def in_chunks(n: int, x: Any = None) -> Callable[[], None]:
    return through(AllReduce(buffer(n) if x is None else x))


def in_one_piece(n: int, x: Any = None) -> Callable[[], None]:
    """As a request that is never cut."""
    shared = Shared("center", n, np.dtype(np.float32), None)
    return through(Elastic(buffer(n) if x is None else x, shared, 0.5))


def through(request: Any) -> Callable[[], None]:
    """What a transport is given of it; each buffer is doubled there."""
    worker = Worker(0, 2, request.buf, lambda name, like: request.shared)
    staging = Staging(worker, time.perf_counter, float)

    def run() -> None:
        for part in staging.rewrite([request]):
            ops.scale(part.buf, 2.0)  # type: ignore[attr-defined]
        finish()

    return run


def copies(n: int) -> Callable[[], None]:
    x = buffer(n)
    mirror = x.mirror()

    def run() -> None:
        mirror.bring(x)
        mirror.send(x)
        finish()

    return run


def finish() -> None:
    torch.cuda.synchronize()


def check_staged(way: Callable[..., Callable[[], None]]) -> None:
    """All elements come back, doubled."""
    x = buffer(SMOKE)
    way(SMOKE, x)()
    np.testing.assert_array_equal(here(x), 2 * np.arange(SMOKE, dtype=np.float32))
