"""Ops on buffers element by element, and over several replicas: numpy bodies."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from loosestep.foundation.buffers import Buffer
from loosestep.ops.registry import op, specification

__all__ = [
    "accumulate",
    "add_and_average",
    "add_if_recent",
    "anchor",
    "axpy",
    "blend",
    "buffered",
    "claim",
    "compensate",
    "copy",
    "correct",
    "correct_and_copy",
    "delayed_nesterov",
    "elastic",
    "elastic_all",
    "lerp",
    "lerp_and_copy",
    "load",
    "mean_of",
    "mix",
    "nesterov_proximal",
    "outer_momentum",
    "outer_nesterov",
    "parle",
    "proximal",
    "scale",
    "sgd_proximal",
    "shrink",
    "subtract",
    "weighted_sum",
]


@op
def copy(x: Buffer, out: Buffer) -> None:
    """out = x."""
    out[...] = x


@op
def axpy(y: Buffer, x: Buffer, a: float) -> None:
    """y += a x."""
    y += a * x


@op
def scale(x: Buffer, a: float) -> None:
    """x *= a."""
    x *= a


@op
def subtract(a: Buffer, b: Buffer, out: Buffer) -> None:
    """out = a - b."""
    np.subtract(a, b, out=out)


@op
def lerp(x: Buffer, c: Buffer, rate: float) -> None:
    """x moves towards c: x += rate (c - x)."""
    x += rate * (c - x)


@op
def elastic(x: Buffer, c: Buffer, rate: float) -> None:
    """x and c move towards each other: d = rate (x - c), x -= d, c += d."""
    d = rate * (x - c)
    x -= d
    c += d


@op
def accumulate(e: Buffer, c: Buffer, x: Buffer, decay: float) -> None:
    """What is still to be sent, and how far x has come from c since: e = decay e + (c - x)."""
    e[...] = decay * e + (c - x)


@op
def add_and_average(c: Buffer, z: Buffer, d: Buffer, weight: float, step: int) -> None:
    """c += d; its average follows: z += weight (c - z). A weight of 0 is 1 / (step + 1): the mean of all c."""
    c += d
    z += (weight or 1 / (step + 1)) * (c - z)


@op
def add_if_recent(c: Buffer, d: Buffer, seen: float, most: int, step: int) -> None:
    """c += d if that is at most so many moves after `seen`: if step - seen <= most."""
    if step - seen <= most:
        c += d


@op
def claim(c: Buffer, v: Buffer) -> None:
    """c = v where v >= c + 1: of those who ask for a number between whole ones, the first gets it."""
    np.copyto(c, v, where=v >= c + 1)


@op
def compensate(c: Buffer, b: Buffer, v: Buffer, s: Buffer, strength: float, decay: float, epsilon: float) -> None:
    """A step s that was made at b, not at c, with a diagonal correction; b is then c. A decay of 1 keeps v.

    v = decay v + (1 - decay) s s, c += s - strength s s (c - b) / sqrt(v + epsilon), b = c.
    """
    v[...] = decay * v + (1 - decay) * s * s
    c += s - strength * s * s * (c - b) / np.sqrt(v + epsilon)
    b[...] = c


@op
def delayed_nesterov(
    c: Buffer, m: Buffer, total: Buffer, d: Buffer, rate: float, momentum: float, every: int, step: int
) -> None:
    """c -= rate d / every; every so many steps one of the momentum, on the mean of the d since the last:

    total += d, and where `every` divides step: m = momentum m + total / every, total = 0, c -= rate momentum m.
    """
    total += d
    move = d / every
    if step % every == 0:
        m[...] = momentum * m + total / every
        total[...] = 0
        move = move + momentum * m
    c -= rate * move


@op
def buffered(
    c: Buffer, total: Buffer, d: Buffer, rate: float, every: int, seen: float, discount: float, step: int
) -> None:
    """total += d / (1 + late)^discount, and where `every` divides step: c -= rate / every total, total = 0.

    late is how many of these steps of c lie between `seen` moves and this one.
    """
    late = (step - 1 - math.fmod(step - 1, every) - (seen - math.fmod(seen, every))) / every
    total += math.pow(1 + max(late, 0.0), -discount) * d
    if step % every == 0:
        c -= rate / every * total
        total[...] = 0


@op
def outer_momentum(x: Buffer, c: Buffer, u: Buffer, rate: float, momentum: float) -> None:
    """Heavy ball from round to round, x being the mean: u = momentum u + (c - x), c -= rate u, x = c."""
    u[...] = momentum * u + (c - x)
    c -= rate * u
    x[...] = c


@op
def outer_nesterov(x: Buffer, c: Buffer, u: Buffer, rate: float, momentum: float) -> None:
    """Nesterov's, x being the mean: d = c - x, u = momentum u + d, c -= rate (d + momentum u), x = c."""
    d = c - x
    u[...] = momentum * u + d
    c -= rate * (d + momentum * u)
    x[...] = c


@op
def correct(x: Buffer, s: Buffer, a: Buffer) -> None:
    """The average a of snapshots s, with what x has done since its own: x = a + (x - s)."""
    x[...] = a + (x - s)


@op
def correct_and_copy(x: Buffer, s: Buffer, a: Buffer) -> None:
    """As correct, and what x has become is the next snapshot, and this worker's part of the next average."""
    x[...] = s[...] = a[...] = a + (x - s)


@op
def lerp_and_copy(x: Buffer, c: Buffer, rate: float) -> None:
    """x moves towards c, and c becomes what x then is: x += rate (c - x), c = x."""
    x += rate * (c - x)
    c[...] = x


@op
def anchor(x: Buffer, z: Buffer, b: Buffer, pull: float, momentum: float) -> None:
    """x += pull (z - x), b = momentum b + (z - x), z -= b."""
    x += pull * (z - x)
    b[...] = momentum * b + (z - x)
    z -= b


@op
def proximal(g: Buffer, x: Buffer, c: Buffer, strength: float) -> None:
    """A gradient feels a spring from x to c as well: g += strength (x - c)."""
    g += strength * (x - c)


@op
def blend(z: Buffer, x: Buffer, keep: float) -> None:
    """A running mean: z = keep z + (1 - keep) x; with keep 0 it is x to the bit."""
    z[...] = keep * z + (1 - keep) * x


@op
def sgd_proximal(x: Buffer, g: Buffer, c: Buffer, z: Buffer, rate: float, strength: float, keep: float) -> None:
    """`proximal(g, x, c, strength)`, `sgd(x, g, rate)`, `blend(z, x, keep)` in one pass; g stays as it was."""
    felt = g + strength * (x - c)
    specification["sgd"](x, felt, rate)
    specification["blend"](z, x, keep)


@op
def nesterov_proximal(
    x: Buffer,
    v: Buffer,
    g: Buffer,
    c: Buffer,
    z: Buffer,
    rate: float,
    momentum: float,
    strength: float,
    keep: float,
) -> None:
    """`proximal(g, x, c, strength)`, `nesterov(x, v, g, rate, momentum)`, `blend(z, x, keep)` in one pass."""
    felt = g + strength * (x - c)
    specification["nesterov"](x, v, felt, rate, momentum)
    specification["blend"](z, x, keep)


@op
def parle(x: Buffer, v: Buffer, z: Buffer, y: Buffer, rate: float, momentum: float, coupling: float) -> None:
    """`nesterov(x, v, g, rate, momentum)` with g = (x - z) + coupling (x - y), then z = x and y = x."""
    specification["nesterov"](x, v, (x - z) + coupling * (x - y), rate, momentum)
    z[...] = x
    y[...] = x


@op
def shrink(x: Buffer, factor: float, less: float) -> None:
    """Towards 0, and not beyond: x = sign(x) max(0, factor |x| - less). With factor 1, L1's proximal step."""
    left = np.abs(x) * factor - less
    x[...] = np.copysign(np.where(left < 0, 0, left), x)


@op
def mean_of(buffers: Sequence[Buffer], out: Buffer, weights: Sequence[float] | None = None) -> None:
    """out = the mean of the buffers: their sum from left to right, divided once; `out` may be one of them.

    With unequal weights: (sum of w x) / (sum of w). A buffer of weight 0 is not read, whatever it holds.
    """
    if weights is None or len(set(weights)) == 1:
        total = buffers[0].copy()
        for x in buffers[1:]:
            total += x
        np.divide(total, len(buffers), out=out)
    else:
        kept = [(float(w), x) for w, x in zip(weights, buffers, strict=True) if w != 0]
        specification["weighted_sum"]([x for _, x in kept], [w for w, _ in kept], out)
        out /= sum(w for w, _ in kept)


@op
def weighted_sum(buffers: Sequence[Buffer], weights: Sequence[float], out: Buffer) -> None:
    """out = the sum of w x, from left to right; `out` is none of the buffers."""
    total = weights[0] * buffers[0]
    for w, x in zip(weights[1:], buffers[1:], strict=True):
        total += w * x
    out[...] = total


@op
def elastic_all(replicas: Sequence[Buffer], c: Buffer, rate: float) -> None:
    """`elastic(x, c, rate)` with each replica, one after another, in one pass through memory."""
    for x in replicas:
        specification["elastic"](x, c, rate)


@op
def mix(replicas: Sequence[Buffer], weights: Sequence[Sequence[float]]) -> None:
    """x_i = the sum of weights[i][j] x_j over all j, from left to right, for all i together."""
    made = [np.empty_like(x) for x in replicas]
    for out, row in zip(made, weights, strict=True):
        specification["weighted_sum"](replicas, row, out)
    for x, out in zip(replicas, made, strict=True):
        x[...] = out


@op
def load(shared: Buffer, out: Buffer) -> None:
    """out = a vector that other threads may be updating, each element read atomically."""
    out[...] = shared
