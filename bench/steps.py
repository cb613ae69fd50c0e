"""Contestants of `bench ops` for steps of optimizers: each makes, from named arrays, a function that does one."""

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
PULL, KEEP = 1e-4, 0.75  # weak, so that thousands of steps on one gradient do not end in denormal numbers
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
