"""Ops on many replicas at once, each read and written once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from loosestep.cuda.arguments import number, numbers, several
from loosestep.cuda.arrays import BYTES, Buffer, check_disjoint, check_wide, seen
from loosestep.cuda.elementwise import ACCESS, C_TYPES, shape
from loosestep.cuda.launch import addresses, by_value, launch
from loosestep.cuda.memory import address, sent, structure

MOST = 64
"""Replicas of a launch."""
ROOMS = (4, 8, 16)
"""Replicas that a thread of `mix` holds in registers: the least that suffices is taken."""


def elastic_all(arguments: Sequence[Any]) -> None:
    """Move every replica and the center as `elastic` does, in turn."""
    c = seen("elastic_all", "c", arguments[1], written=True)
    replicas = all_replicas("elastic_all", arguments[0], c, MOST)
    rate = structure((check_wide("elastic_all", "c", c), number("elastic_all", "rate", arguments[2])))
    given = [table(replicas), len(replicas), c.address, c.size, packs([*replicas, c]), rate]
    start("elastic_all", f"<{C_TYPES[c.dtype]}>", c, given)


def mix(arguments: Sequence[Any]) -> None:
    """Replace every replica by a weighted sum of all."""
    first = seen("mix", "replicas[0]", arguments[0][0], written=True)
    replicas = all_replicas("mix", arguments[0], None, ROOMS[-1])
    weights = rows_of(arguments[1], len(replicas))
    kept = sent(first.place, np.array(weights, check_wide("mix", "replicas[0]", first)))
    room = next(each for each in ROOMS if each >= len(replicas))
    given = [table(replicas), len(replicas), address(kept), first.size, packs(replicas)]
    start("mix", f"<{C_TYPES[first.dtype]}, {room}>", first, given)


def rows_of(given: Any, many: int) -> list[list[float]]:
    """Return the weights of `mix`: a row for each replica that is written, a number for each that is read."""
    rows = [numbers("mix", f"weights[{i}]", row) for i, row in enumerate(several("mix", "weights", given))]
    lengths = [len(row) for row in rows]
    if lengths != [many] * many:
        raise ValueError(
            f"mix: weights must be {many} rows of {many}, one for each replica, got rows of {lengths}"
        )
    return rows


def mean_of(arguments: Sequence[Any]) -> None:
    """Compute a mean as on the CPU: one division if weights are equal; a buffer of weight 0 is not read."""
    buffers, out, given = arguments
    weights = [1.0] * len(buffers) if given is None else checked(given, len(buffers))
    if len(set(weights)) == 1:
        weights = [1.0] * len(buffers)
    kept = [(x, w) for x, w in zip(buffers, weights, strict=True) if w != 0]
    fold("mean_of", [x for x, _ in kept], [w for _, w in kept], out, left_fold(w for _, w in kept))


def weighted_sum(arguments: Sequence[Any]) -> None:
    """Compute the sum of w x; `out` is none of the buffers."""
    buffers, weights, out = arguments
    fold("weighted_sum", buffers, one_each("weighted_sum", weights, len(buffers)), out, 1.0)


def fold(op: str, given: Sequence[Any], weights: Sequence[float], out: Any, divisor: float) -> None:
    """Launch the fold; a division by 1 changes nothing."""
    to = seen(op, "out", out, written=True)
    if not 1 <= len(given) <= MOST:
        raise ValueError(f"{op}: buffers must hold 1 to {MOST} arrays on a GPU, got {len(given)}")
    terms = [seen(op, f"buffers[{i}]", each, like=to) for i, each in enumerate(given)]
    check_terms(op, terms, to, same=op == "mean_of")
    kind = check_wide(op, "out", to)
    factors = by_value(np.array([*weights, *[0.0] * (MOST - len(weights))], kind).tobytes())
    passed = [table(terms), factors, len(terms), structure((kind, divisor))]
    start("fold", f"<{C_TYPES[kind]}>", to, [*passed, to.address, to.size, packs([*terms, to])])


def check_terms(op: str, terms: Sequence[Buffer], out: Buffer, *, same: bool) -> None:
    """Refuse an `out` that overlaps a term in part, or equals one where that changes the result."""
    for i, each in enumerate(terms):
        if each.address < out.end and out.address < each.end and not (same and each.address == out.address):
            raise ValueError(f"{op}: buffers[{i}] and out must not overlap")


def one_each(op: str, given: Any, count: int) -> list[float]:
    """Return a weight for each buffer."""
    weights = numbers(op, "weights", given)
    if len(weights) != count:
        raise ValueError(f"{op}: weights must be {count}, one for each buffer, got {len(weights)}")
    return weights


def checked(given: Any, count: int) -> list[float]:
    """Return the weights of a mean, checked as on the CPU."""
    weights = one_each("mean_of", given, count)
    for each in weights:
        if not 0 <= each < math.inf:
            raise ValueError(f"mean_of: weights must be finite and at least 0, got {each}")
    if not any(weights):
        raise ValueError("mean_of: weights must not all be 0")
    return weights


def left_fold(values: Iterable[float]) -> float:
    """Return the sum from left to right, as the CPU adds weights (`sum` compensates)."""
    total = 0.0
    for each in values:
        total += each
    return total


def start(kernel: str, instance: str, like: Buffer, given: Sequence[Any]) -> None:
    """Launch a thread for every sixteen bytes of a replica."""
    if like.size:
        launch("replicas", kernel + instance, like.place, *shape(like.size, like.dtype), given)


def all_replicas(op: str, given: Sequence[Any], center: Buffer | None, most: int) -> list[Buffer]:
    """Return the checked replicas: each like the center (or the first), none overlapping another."""
    if not 1 <= len(given) <= most:
        raise ValueError(f"{op}: replicas must hold 1 to {most} arrays on a GPU, got {len(given)}")
    names, found = [f"replicas[{i}]" for i in range(len(given))], list[Buffer]()
    for name, each in zip(names, given, strict=True):
        found.append(seen(op, name, each, written=True, like=center or (found[0] if found else None)))
    apart = [*found, center] if center else found
    check_disjoint(op, [*names, "c"][: len(apart)], apart)
    return found


def table(replicas: Sequence[Buffer]) -> Any:
    """Return their addresses as a kernel's argument."""
    return addresses([*(each.address for each in replicas), *[0] * (MOST - len(replicas))])


def packs(buffers: Sequence[Buffer]) -> int:
    """Return how many packs of sixteen bytes there are; 0 where a buffer is not aligned to them."""
    aligned = all(each.address % ACCESS == 0 for each in buffers)
    return buffers[0].size * BYTES[buffers[0].dtype] // ACCESS if aligned else 0
