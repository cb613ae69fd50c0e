"""Ops on buffers on a device: the same rules, compiled for it at first use. See docs/cuda.md."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from loosestep import _core
from loosestep.cuda import elementwise, noise, reductions, replicas

FACES: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "dot": reductions.dot,
    "norm": reductions.norm,
    "norms": reductions.norms,
    "all_finite": reductions.all_finite,
    "elastic_all": replicas.elastic_all,
    "mix": replicas.mix,
    "mean_of": replicas.mean_of,
    "weighted_sum": replicas.weighted_sum,
    **{op: partial(noise.run, op) for op in noise.RULES},
}
"""Ops that are no rule, by name: what performs them on a GPU."""
RULES = frozenset(_core.rules.names())


def run(op: str, arguments: tuple[Any, ...]) -> Any:
    """Run an op on a device; arguments in the order of its signature. The core calls this."""
    if op in RULES:
        return elementwise.run(op, arguments)
    if op not in FACES:
        raise TypeError(f"{op}: its buffers must be numpy arrays; it is not made for those on a GPU")
    return FACES[op](arguments)
