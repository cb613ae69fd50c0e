"""Reductions on a device, in the order and with the bits of the CPU's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from loosestep.cuda.arguments import several, whole
from loosestep.cuda.arrays import Buffer, all_seen, seen
from loosestep.cuda.elementwise import C_TYPES
from loosestep.cuda.launch import THREADS, blocks_for, launch
from loosestep.cuda.memory import address, fetched, room, sent

BLOCK = 4096
"""Elements whose products a warp sums."""
WARPS, FOLDING = 8, 1024
"""Of a thread block: warps that sum, threads that fold."""


def dot(arguments: Sequence[Any]) -> float:
    """Return x.y."""
    x, y = all_seen("dot", ("x", "y"), arguments, 0)
    return of_blocks("dot", x, y.address)


def norm(arguments: Sequence[Any]) -> float:
    """Return the root of x.x."""
    x = seen("norm", "x", arguments[0])
    return math.sqrt(of_blocks("dot", x, x.address))


def of_blocks(kernel: str, x: Buffer, *others: int) -> float:
    """Return what a kernel computes of x by blocks, folded and fetched."""
    if not x.size:
        return 0.0
    out = room(x.place, 1, "float64")
    fold(x, kernel, others, out)
    return float(fetched(x.place, out)[0])


def fold(x: Buffer, kernel: str, others: Sequence[int], out: Any) -> None:
    """Add a sum for every block, then the sum of the sums."""
    blocks = -(-x.size // BLOCK)
    sums = room(x.place, blocks, "float64")
    run(x, kernel, blocks, [x.address, *others, x.size, address(sums)])
    launch("reduce", "fold_sums", x.place, (1,), (FOLDING,), [address(sums), 0, blocks, address(out)])


def run(x: Buffer, kernel: str, blocks: int, arguments: Sequence[int]) -> None:
    """Launch a warp for every block."""
    threads = 32 * WARPS
    grid = (-(-blocks // WARPS),)
    launch("reduce", f"{kernel}<{C_TYPES[x.dtype]}>", x.place, grid, (threads,), arguments)


def norms(arguments: Sequence[Any]) -> list[float]:
    """Return the norm of every part."""
    x = seen("norms", "x", arguments[0])
    starts = bounds(arguments[1], x.size)
    parts = len(starts) - 1
    if parts < 1:
        return []
    out = room(x.place, parts, "float64")
    fold_parts(x, starts, out)
    return [math.sqrt(each) for each in fetched(x.place, out).tolist()]


def fold_parts(x: Buffer, starts: Sequence[int], out: Any) -> None:
    """Fold the blocks of each part by itself; `first` holds where each part's blocks begin."""
    counts = [-(-(end - begin) // BLOCK) for begin, end in pairwise(starts)]
    first = np.concatenate([[0], np.cumsum(counts)])
    table = sent(x.place, np.concatenate([starts, first]).astype(np.uint64))
    parts, blocks, at = len(counts), int(first[-1]), address(table)
    sums = room(x.place, max(1, blocks), "float64")
    firsts = at + 8 * len(starts)
    if blocks:
        run(x, "squares", blocks, [x.address, at, firsts, parts, address(sums)])
    given = [address(sums), firsts, 0, address(out)]
    launch("reduce", "fold_sums", x.place, (parts,), (FOLDING,), given)


def bounds(given: Any, size: int) -> list[int]:
    """Return the checked bounds, as on the CPU: ascending, and within the buffer."""
    given = several("norms", "starts", given)
    starts = [whole("norms", f"starts[{i}]", each, size) for i, each in enumerate(given)]
    for i, (before, at) in enumerate(pairwise(starts)):
        if at < before:
            raise ValueError(f"norms: starts must not decrease, starts[{i + 1}] does")
    return starts


def all_finite(arguments: Sequence[Any]) -> bool:
    """Return whether there is no infinity and no NaN."""
    x = seen("all_finite", "x", arguments[0])
    found = sent(x.place, np.zeros(1, np.uint32))
    given = [x.address, x.size, address(found)]
    launch("reduce", f"not_finite<{C_TYPES[x.dtype]}>", x.place, (blocks_for(x.size),), (THREADS,), given)
    return not fetched(x.place, found)[0]
