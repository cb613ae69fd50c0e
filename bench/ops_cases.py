"""Contestants of `bench ops`: each makes, from named arrays, a function that does one step or closes a round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bench.harness import Contestant
from loosestep import ops
from loosestep.foundation import buffers

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

Arrays = Mapping[str, Any]
Maker = Callable[[Arrays], Contestant]

RATE, MOMENTUM, MOVING_RATE, DECAY = 0.01, 0.9, 0.1, 0.1
STRENGTH, KEEP = 1e-4, 0.75  # weak, so that thousands of steps on one gradient do not end in denormal numbers
COUPLING = 0.5  # and Parle's outer step has no momentum, which would
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
STEADY = 1.0  # the outer momentum: with less, repeated steps of equal x and c end in denormal numbers
BETWEEN = 0.99, 0.5, 0.1, EPSILON  # decay, and half of SGD
NUMPY_BLOCK = 8192


def ours_elastic(a: Arrays) -> Contestant:
    return lambda: ops.elastic(a["x"], a["c"], MOVING_RATE)


def unfused(module: Any, replicas: Sequence[Any], c: Any, d: Any, rate: float) -> Contestant:
    """Elastic moves of replicas by four calls of numpy, or of what has its names; d holds a difference."""

    def run() -> None:
        for x in replicas:
            module.subtract(x, c, out=d)
            module.multiply(d, rate, out=d)
            module.subtract(x, d, out=x)
            module.add(c, d, out=c)

    return run


def numpy_elastic(a: Arrays) -> Contestant:
    return unfused(np, [a["x"]], a["c"], buffers.like(a["x"]), MOVING_RATE)


def numpy_blocked_elastic(a: Arrays) -> Contestant:
    x, c = a["x"], a["c"]
    cuts = [slice(i, i + NUMPY_BLOCK) for i in range(0, x.size, NUMPY_BLOCK)]
    parts = [numpy_elastic({"x": x[cut], "c": c[cut]}) for cut in cuts]

    def run() -> None:
        for part in parts:
            part()

    return run


def torch_elastic(a: Arrays) -> Contestant:
    x, c, d = (torch.from_numpy(v) for v in (a["x"], a["c"], buffers.like(a["x"])))

    def run() -> None:
        torch.sub(x, c, out=d)
        x.sub_(d, alpha=MOVING_RATE)
        c.add_(d, alpha=MOVING_RATE)

    return run


def torch_lerp_elastic(a: Arrays) -> Contestant:
    """The same move by algebra, with other roundings (and for no rate of 1): x first, then c from it."""
    x, c = torch.from_numpy(a["x"]), torch.from_numpy(a["c"])
    back = MOVING_RATE / (1 - MOVING_RATE)

    def run() -> None:
        x.lerp_(c, MOVING_RATE)
        c.lerp_(x, back)

    return run


def torch_foreach_elastic(a: Arrays) -> Contestant:
    x, c = [torch.from_numpy(a["x"])], [torch.from_numpy(a["c"])]

    def run() -> None:
        d = torch._foreach_sub(x, c)
        torch._foreach_add_(x, d, alpha=-MOVING_RATE)
        torch._foreach_add_(c, d, alpha=MOVING_RATE)

    return run


def ours_nesterov(a: Arrays) -> Contestant:
    return lambda: ops.nesterov(a["x"], a["v"], a["g"], RATE, MOMENTUM)


def numpy_nesterov(a: Arrays) -> Contestant:
    x, v, g, d, e = a["x"], a["v"], a["g"], buffers.like(a["x"]), buffers.like(a["x"])

    def run() -> None:
        np.multiply(g, RATE, out=d)
        np.multiply(v, MOMENTUM, out=v)
        np.subtract(v, d, out=v)
        np.multiply(v, MOMENTUM, out=e)
        np.subtract(e, d, out=e)
        np.add(x, e, out=x)

    return run


def torch_nesterov(a: Arrays) -> Contestant:
    x, v, g = (torch.from_numpy(a[k]) for k in "xvg")

    def run() -> None:
        v.mul_(MOMENTUM).sub_(g, alpha=RATE)
        x.add_(v, alpha=MOMENTUM).sub_(g, alpha=RATE)

    return run


def torch_optimizer(kind: str, state: Sequence[str], **options: Any) -> Maker:
    """A step of torch's own optimizer, its state in buffers like ours.

    After the first, checked step its gradient is zero: `foreach` adds the momentum to the gradient itself, so
    that repeated steps on one gradient would overflow.
    """

    def maker(a: Arrays) -> Contestant:
        x = torch.nn.Parameter(torch.from_numpy(a["x"]))
        x.grad = torch.from_numpy(a["g"])
        optimizer = getattr(torch.optim, kind)([x], **options)
        optimizer.step()
        x.grad = torch.from_numpy(buffers.like(a["g"]))
        for theirs in state:
            optimizer.state[x][theirs] = torch.from_numpy(buffers.like(a["x"]))
        return optimizer.step  # type: ignore[no-any-return]

    return maker


def torch_nesterov_optimizer(**options: Any) -> Maker:
    return torch_optimizer("SGD", ["momentum_buffer"], lr=RATE, momentum=MOMENTUM, nesterov=True, **options)


def torch_adam_optimizer(**options: Any) -> Maker:
    return torch_optimizer(
        "Adam", ["exp_avg", "exp_avg_sq"], lr=RATE, betas=(BETA1, BETA2), eps=EPSILON, **options
    )


def ours_adam(a: Arrays) -> Contestant:
    step = 0

    def run() -> None:
        nonlocal step
        step += 1
        ops.adam(a["x"], a["m"], a["v"], a["g"], RATE, BETA1, BETA2, EPSILON, step)

    return run


def optimizer_step(name: str, order: str, *numbers: float) -> dict[str, Maker]:
    """An op on these buffers and numbers, and its body in numpy, which makes arrays as it goes."""

    def maker(function: Callable[..., None]) -> Maker:
        return lambda a: lambda: function(*(a[letter] for letter in order), *numbers)

    return {"loosestep": maker(getattr(ops, name)), "numpy body": maker(ops.specification[name])}


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


def ours_proximal(a: Arrays) -> Contestant:
    return lambda: ops.nesterov_proximal(a["x"], a["v"], a["g"], a["c"], a["m"], RATE, MOMENTUM, STRENGTH, KEEP)


def ours_three_ops(a: Arrays) -> Contestant:
    def run() -> None:
        ops.proximal(a["g"], a["x"], a["c"], STRENGTH)
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


def torch_proximal(a: Arrays) -> Contestant:
    x, v, g, c, m = (torch.from_numpy(a[k]) for k in "xvgcm")

    def run() -> None:
        g.add_(x, alpha=STRENGTH).sub_(c, alpha=STRENGTH)
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
    return lambda: ops.lerp_and_copy(a["x"], a["c"], STRENGTH)


def two_passes(a: Arrays) -> Contestant:
    def run() -> None:
        ops.lerp(a["x"], a["c"], STRENGTH)
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
        ops.proximal(move, x, y, COUPLING)
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
