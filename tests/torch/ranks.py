"""One rank of a job under mpiexec: `python ranks.py CASE` runs a case and says `rank R: ok` at its end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from tests.torch.training import batches, left_behind, mlp, momentum
from torch import nn

import loosestep as ls
import loosestep.torch

ROWS = 24  # of the union batch: 12 or 6 a rank


def train(strategy: ls.Strategy, net: nn.Module, steps: int = 8, **options: Any) -> tuple[Any, list[Any]]:
    """Each rank takes its stride of every batch."""
    inner = momentum(net.parameters())
    optimizer = loosestep.torch.parallel(net, inner, strategy, **options)
    with optimizer:
        for x, y in batches(steps, rows=ROWS):
            optimizer.zero_grad()
            x, y = x[optimizer.rank :: optimizer.size], y[optimizer.rank :: optimizer.size]
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
    return optimizer, left_behind(net, inner)


def seeded(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return mlp()


def union() -> int:
    """AllReduceSGD is plain torch on the union of the batches, to rounding; ranks start from rank 0's values."""
    from mpi4py import MPI

    alone = seeded(0)
    plain = momentum(alone.parameters())
    for x, y in batches(8, rows=ROWS):
        plain.zero_grad()
        nn.functional.cross_entropy(alone(x), y).backward()
        plain.step()
    for bucket_bytes in (25 << 20, 64):
        optimizer, ours = train(ls.AllReduceSGD(bucket_bytes=bucket_bytes), seeded(MPI.COMM_WORLD.rank))
        for a, b in zip(ours, left_behind(alone, plain), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        size = optimizer.size
        assert optimizer.meter.bytes == 8 * 2 * (size - 1) * optimizer.layout.params.nbytes // size
    return optimizer.rank


CASES: dict[str, Callable[[], int]] = {case.__name__: case for case in (union,)}

if __name__ == "__main__":
    print(f"rank {CASES[sys.argv[1]]()}: ok", flush=True)
