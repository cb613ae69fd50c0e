"""Elementwise ops: in memory (64 Mi float32), in cache (64 KiB), and the cost of a call (16 elements).

The limit is the better of two hand-written in-place updates of two arrays (with ordinary and with streaming
stores), by bytes moved. Rivals are numpy with `out=`, torch in place, and torch's `foreach` and `fused`
optimizers, all on the same aligned buffers in huge pages. Every contestant is first checked against ours,
which the tests compare with the ops' numpy bodies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from bench.harness import Contestant, Options, Row, measure
from loosestep import _core, buffers, ops

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

# Contestants: each makes, from named arrays, a function that performs one step on them.


def ours_elastic(a: Arrays) -> Contestant:
    return lambda: ops.elastic(a["x"], a["c"], MOVING_RATE)


def numpy_elastic(a: Arrays) -> Contestant:
    x, c, d = a["x"], a["c"], buffers.like(a["x"])

    def run() -> None:
        np.subtract(x, c, out=d)
        np.multiply(d, MOVING_RATE, out=d)
        np.subtract(x, d, out=x)
        np.add(c, d, out=c)

    return run


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


def ours_nesterov_elastic(a: Arrays) -> Contestant:
    return lambda: ops.nesterov_elastic(a["x"], a["v"], a["g"], a["c"], RATE, MOMENTUM, MOVING_RATE)


def ours_two_ops(a: Arrays) -> Contestant:
    def run() -> None:
        ops.nesterov(a["x"], a["v"], a["g"], RATE, MOMENTUM)
        ops.elastic(a["x"], a["c"], MOVING_RATE)

    return run


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


def ours_copy(a: Arrays) -> Contestant:
    return lambda: ops.copy(a["x"], a["c"])


def torch_copy(a: Arrays) -> Contestant:
    x, c = torch.from_numpy(a["x"]), torch.from_numpy(a["c"])
    return lambda: c.copy_(x)


def torch_subtract(a: Arrays) -> Contestant:
    x, g, c = (torch.from_numpy(a[k]) for k in "xgc")
    return lambda: torch.sub(x, g, out=c)


def ours_subtract(a: Arrays) -> Contestant:
    return lambda: ops.subtract(a["x"], a["g"], a["c"])


def ours_mean(a: Arrays) -> Contestant:
    return lambda: ops.mean_of([a["x"], a["v"], a["g"]], a["c"])


def numpy_mean(a: Arrays) -> Contestant:
    def run() -> None:
        np.add(a["x"], a["v"], out=a["c"])
        np.add(a["c"], a["g"], out=a["c"])
        np.divide(a["c"], 3, out=a["c"])

    return run


def torch_mean(a: Arrays) -> Contestant:
    x, v, g, c = (torch.from_numpy(a[k]) for k in "xvgc")

    def run() -> None:
        torch.add(x, v, out=c)
        c.add_(g).div_(3)

    return run


def ours_dot(a: Arrays) -> Contestant:
    return lambda: ops.dot(a["x"], a["g"])


def numpy_dot(a: Arrays) -> Contestant:
    return lambda: np.dot(a["x"], a["g"])


def torch_dot(a: Arrays) -> Contestant:
    x, g = torch.from_numpy(a["x"]), torch.from_numpy(a["g"])
    return lambda: torch.dot(x, g)


# Cases: the bytes that an element costs, the arrays that a step changes, and the contestants.

CASES: dict[str, tuple[int, str, dict[str, Maker]]] = {
    "elastic": (
        16,
        "xc",
        {
            "loosestep": ours_elastic,
            "numpy out=": numpy_elastic,
            "numpy blocked": numpy_blocked_elastic,
            "torch in place": torch_elastic,
            "torch two lerps": torch_lerp_elastic,
            "torch foreach": torch_foreach_elastic,
        },
    ),
    "nesterov": (
        20,
        "x",
        {
            "loosestep": ours_nesterov,
            "numpy out=": numpy_nesterov,
            "torch in place": torch_nesterov,
            "torch foreach": torch_nesterov_optimizer(foreach=True),
            "torch fused": torch_nesterov_optimizer(fused=True),
        },
    ),
    "adam": (
        28,
        "x",
        {
            "loosestep": ours_adam,
            "torch foreach": torch_adam_optimizer(foreach=True),
            "torch fused": torch_adam_optimizer(fused=True),
        },
    ),
    "lars": (20, "xv", optimizer_step("lars", "xvg", RATE, MOMENTUM, DECAY)),
    "lamb": (28, "mvg", optimizer_step("lamb", "xmvg", BETA1, BETA2, EPSILON, DECAY, 10)),
    "rmsprop_warmup": (28, "xvm", optimizer_step("rmsprop_warmup", "xvmg", RATE, MOMENTUM, *BETWEEN)),
    "nesterov_elastic": (28, "xvc", {"loosestep": ours_nesterov_elastic, "loosestep, two ops": ours_two_ops}),
    "outer_momentum": (24, "xcv", {"loosestep": ours_outer, "torch in place": torch_outer}),
    "outer_nesterov": (24, "xcv", {"loosestep": ours_outer_nesterov, "torch in place": torch_outer_nesterov}),
    "correct": (
        16,
        "x",
        {"loosestep": ours_correct, "numpy out=": numpy_correct, "torch in place": torch_correct},
    ),
    "anchor": (24, "xcv", {"loosestep": ours_anchor, "torch in place": torch_anchor}),
    "sgd_pulled": (
        24,
        "xm",
        {"loosestep": lambda a: lambda: ops.sgd_pulled(a["x"], a["g"], a["c"], a["m"], RATE, PULL, KEEP)},
    ),
    "nesterov_pulled": (
        32,
        "xvm",
        {"loosestep": ours_pulled, "loosestep, three ops": ours_three_ops, "torch in place": torch_pulled},
    ),
    "parle": (32, "xvcg", {"loosestep": ours_parle, "loosestep, five ops": ours_five_ops}),
    "add_and_average": (20, "cx", {"loosestep": ours_add_and_average, "torch in place": torch_add_and_average}),
    "compensate": (28, "cxv", {"loosestep": ours_compensate, "torch in place": torch_compensate}),
    "delayed_nesterov": (
        28,
        "cvm",
        {"loosestep": ours_delayed_nesterov, "torch in place": torch_delayed_nesterov},
    ),
    "copy": (
        8,
        "c",
        {
            "loosestep": ours_copy,
            "numpy out=": lambda a: lambda: np.copyto(a["c"], a["x"]),
            "torch in place": torch_copy,
        },
    ),
    "subtract": (
        12,
        "c",
        {
            "loosestep": ours_subtract,
            "numpy out=": lambda a: lambda: np.subtract(a["x"], a["g"], out=a["c"]),
            "torch in place": torch_subtract,
        },
    ),
    "mean_of three": (
        16,
        "c",
        {"loosestep": ours_mean, "numpy out=": numpy_mean, "torch in place": torch_mean},
    ),
    "dot": (8, "", {"loosestep": ours_dot, "numpy out=": numpy_dot, "torch in place": torch_dot}),
}


def present(makers: Mapping[str, Maker]) -> dict[str, Maker]:
    """Those whose library is installed."""
    return {name: make for name, make in makers.items() if torch is not None or not name.startswith("torch")}


def arrays(n: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    made = {name: buffers.zeros(n) for name in "xcvgm"}
    for name in "xcg":
        rng.standard_normal(out=made[name], dtype=np.float32)
    return made


def check(case: str) -> None:
    """Every contestant's first step from zero state is the same up to rounding."""
    _, changed, makers = CASES[case]
    results = {name: first_step(maker, changed) for name, maker in present(makers).items()}
    for name, found in results.items():
        for got, want in zip(found, results["loosestep"], strict=True):
            np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5, err_msg=f"{case}: {name}")


def first_step(maker: Maker, changed: str) -> list[Any]:
    start = arrays(1003)
    run = maker(start)
    result = None
    if not hasattr(run, "__self__"):  # a torch optimizer has made its first step already
        result = run()
    return [start[name] for name in changed] if changed else [float(result)]  # type: ignore[arg-type]


def limits(a: Arrays) -> dict[str, Contestant]:
    update = _core.streams.update
    return {
        "limit": lambda: update(a["c"], a["g"]),
        "limit, streaming": lambda: update(a["c"], a["g"], streaming=True),
    }


def copy_limits(a: Arrays) -> dict[str, Contestant]:
    copy = _core.streams.copy
    return {
        "limit": lambda: copy(a["x"], a["c"]),
        "limit, streaming": lambda: copy(a["x"], a["c"], streaming=True),
    }


def rows_of(case: str, where: str, n: int, threads: int, options: Options) -> Iterator[Row]:
    cost, _, makers = CASES[case]
    a = arrays(n)
    streams = copy_limits(a) if case == "copy" else limits(a)
    contestants = {name: maker(a) for name, maker in present(makers).items()}
    measured = measure(contestants | streams, options)
    stream_cost = 8 if case == "copy" else 16
    amount = dict.fromkeys(contestants, cost * n / 1e9) | dict.fromkeys(streams, stream_cost * n / 1e9)
    yield from measured.rows(
        "ops", f"{case}, {where}", threads=threads, n=n, amount=amount, unit="GB/s", limits=list(streams)
    )


def call_rows(options: Options) -> Iterator[Row]:
    a = arrays(16)
    contestants = {name: maker(a) for name, maker in present(CASES["elastic"][2]).items()}
    del contestants["numpy blocked"]
    x, c, elastic = a["x"], a["c"], ops.elastic
    contestants["loosestep"] = lambda: elastic(x, c, MOVING_RATE)
    measured = measure(contestants, options)
    yield from measured.rows("ops", "elastic, a call", threads=1, n=16, amount=1e-6, unit="M calls/s")


@contextmanager
def using(threads: int) -> Iterator[None]:
    """So many threads for everyone."""
    before = _core.threads()
    for set_threads in (_core.set_threads, *([torch.set_num_threads] if torch else [])):
        set_threads(threads)
    yield
    _core.set_threads(before)


def rows(options: Options) -> Iterator[Row]:
    if torch is None:
        print("torch is not here: its rows are left out (pip install 'loosestep[bench]')")
    all_threads = _core.threads()
    places = {
        "in memory": (64 << 20, all_threads),
        "in cache": (16 << 10, 1),
    }  # on 64 KiB more threads only cost
    for case in CASES:
        check(case)
    for where, (n, threads) in ({"small": (1 << 12, 1)} if options.smoke else places).items():
        for case in CASES:
            if options.only in f"{case}, {where}":
                with using(threads):
                    yield from rows_of(case, where, n, threads, options)
    if options.only in "elastic, a call":
        with using(1):
            yield from call_rows(options)
