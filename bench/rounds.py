"""Contestants of `bench ops` for what closes a round: outer steps, pulls, merges, rules at centers."""

from __future__ import annotations

import numpy as np

from bench.harness import Contestant
from bench.steps import COUPLING, KEEP, MOMENTUM, MOVING_RATE, PULL, RATE, STEADY, Arrays
from loosestep import ops
from loosestep.foundation import buffers

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]


def ours_outer(a: Arrays) -> Contestant:
    return lambda: ops.outer_momentum(a["x"], a["c"], a["v"], RATE, STEADY)


def torch_outer(a: Arrays) -> Contestant:
    x, c, u, d = (torch.from_numpy(v) for v in (a["x"], a["c"], a["v"], buffers.like(a["x"])))

    def run() -> None:
        torch.sub(c, x, out=d)
        u.mul_(STEADY).add_(d)
        c.sub_(u, alpha=RATE)
        x.copy_(c)

    return run


def ours_pulled(a: Arrays) -> Contestant:
    return lambda: ops.nesterov_pulled(a["x"], a["v"], a["g"], a["c"], a["m"], RATE, MOMENTUM, PULL, KEEP)


def ours_three_ops(a: Arrays) -> Contestant:
    def run() -> None:
        ops.pull(a["g"], a["x"], a["c"], PULL)
        ops.nesterov(a["x"], a["v"], a["g"], RATE, MOMENTUM)
        ops.blend(a["m"], a["x"], KEEP)

    return run


def ours_outer_nesterov(a: Arrays) -> Contestant:
    return lambda: ops.outer_nesterov(a["x"], a["c"], a["v"], RATE, STEADY)


def torch_outer_nesterov(a: Arrays) -> Contestant:
    x, c, u, d = (torch.from_numpy(v) for v in (a["x"], a["c"], a["v"], buffers.like(a["x"])))

    def run() -> None:
        torch.sub(c, x, out=d)
        u.mul_(STEADY).add_(d)
        c.sub_(d, alpha=RATE).sub_(u, alpha=RATE * STEADY)
        x.copy_(c)

    return run


def torch_pulled(a: Arrays) -> Contestant:
    x, v, g, c, m = (torch.from_numpy(a[k]) for k in "xvgcm")

    def run() -> None:
        g.add_(x, alpha=PULL).sub_(c, alpha=PULL)
        v.mul_(MOMENTUM).sub_(g, alpha=RATE)
        x.add_(v, alpha=MOMENTUM).sub_(g, alpha=RATE)
        m.lerp_(x, 1 - KEEP)

    return run


def ours_correct(a: Arrays) -> Contestant:
    return lambda: ops.correct(a["x"], a["c"], a["g"])


def torch_correct(a: Arrays) -> Contestant:
    x, s, mean = (torch.from_numpy(a[k]) for k in "xcg")
    return lambda: x.sub_(s).add_(mean)


def numpy_correct(a: Arrays) -> Contestant:
    def run() -> None:
        np.subtract(a["x"], a["c"], out=a["x"])
        np.add(a["x"], a["g"], out=a["x"])

    return run


def ours_correct_and_copy(a: Arrays) -> Contestant:
    return lambda: ops.correct_and_copy(a["x"], a["c"], a["g"])


def three_passes(a: Arrays) -> Contestant:
    def run() -> None:
        ops.correct(a["x"], a["c"], a["g"])
        ops.copy(a["x"], a["c"])
        ops.copy(a["x"], a["g"])

    return run


def torch_correct_and_copy(a: Arrays) -> Contestant:
    x, s, mean = (torch.from_numpy(a[k]) for k in "xcg")

    def run() -> None:
        x.sub_(s).add_(mean)
        s.copy_(x)
        mean.copy_(x)

    return run


def ours_lerp_and_copy(a: Arrays) -> Contestant:
    return lambda: ops.lerp_and_copy(a["x"], a["c"], PULL)


def two_passes(a: Arrays) -> Contestant:
    def run() -> None:
        ops.lerp(a["x"], a["c"], PULL)
        ops.copy(a["x"], a["c"])

    return run


def ours_anchor(a: Arrays) -> Contestant:
    return lambda: ops.anchor(a["x"], a["c"], a["v"], 0.0, STEADY)


def torch_anchor(a: Arrays) -> Contestant:
    x, z, b, d = (torch.from_numpy(v) for v in (a["x"], a["c"], a["v"], buffers.like(a["x"])))

    def run() -> None:
        x.lerp_(z, 0.0)
        torch.sub(z, x, out=d)
        b.mul_(STEADY).add_(d)
        z.sub_(b)

    return run


def ours_parle(a: Arrays) -> Contestant:
    return lambda: ops.parle(a["x"], a["v"], a["c"], a["g"], RATE, 0.0, COUPLING)


def ours_five_ops(a: Arrays) -> Contestant:
    x, v, z, y = (a[k] for k in "xvcg")
    move = buffers.like(x)

    def run() -> None:
        ops.subtract(x, z, move)
        ops.pull(move, x, y, COUPLING)
        ops.nesterov(x, v, move, RATE, 0.0)
        ops.copy(x, z)
        ops.copy(x, y)

    return run


def ours_add_and_average(a: Arrays) -> Contestant:
    return lambda: ops.add_and_average(a["c"], a["x"], a["g"], RATE, 1)


def torch_add_and_average(a: Arrays) -> Contestant:
    c, z, d = (torch.from_numpy(a[k]) for k in "cxg")

    def run() -> None:
        c.add_(d)
        z.lerp_(c, RATE)

    return run


def ours_compensate(a: Arrays) -> Contestant:
    return lambda: ops.compensate(a["c"], a["x"], a["v"], a["g"], MOVING_RATE, MOMENTUM, RATE)


def torch_compensate(a: Arrays) -> Contestant:
    c, b, v, s = (torch.from_numpy(a[k]) for k in "cxvg")
    late, root = (torch.from_numpy(buffers.like(a["x"])) for _ in range(2))

    def run() -> None:
        v.mul_(MOMENTUM).addcmul_(s, s, value=1 - MOMENTUM)
        torch.add(v, RATE, out=root).sqrt_()
        torch.sub(c, b, out=late).mul_(s).mul_(s).mul_(MOVING_RATE).div_(root)
        c.add_(s).sub_(late)
        b.copy_(c)

    return run


def ours_delayed_nesterov(a: Arrays) -> Contestant:
    return lambda: ops.delayed_nesterov(a["c"], a["v"], a["m"], a["g"], RATE, MOMENTUM, 1, 1)


def torch_delayed_nesterov(a: Arrays) -> Contestant:
    c, m, total, d = (torch.from_numpy(a[k]) for k in "cvmg")

    def run() -> None:
        total.add_(d)
        m.mul_(MOMENTUM).add_(total)
        total.zero_()
        c.sub_(d, alpha=RATE).sub_(m, alpha=RATE * MOMENTUM)

    return run
