"""Elementwise ops: in memory (64 Mi float32), in cache (64 KiB), and the cost of a call (16 elements).

The limit is the better of two hand-written in-place updates of two arrays (with ordinary and with streaming
stores), by bytes moved. Rivals are numpy with `out=`, torch in place, and torch's `foreach` and `fused`
optimizers, all on the same aligned buffers in huge pages. Every contestant is first checked against ours,
which the tests compare with the ops' numpy bodies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from bench.harness import Contestant, Options, Row, measure
from bench.ops_cases import (
    BETA1,
    BETA2,
    BETWEEN,
    DECAY,
    EPSILON,
    KEEP,
    MOMENTUM,
    MOVING_RATE,
    RATE,
    STRENGTH,
    Arrays,
    Maker,
    numpy_blocked_elastic,
    numpy_correct,
    numpy_elastic,
    numpy_nesterov,
    optimizer_step,
    ours_adam,
    ours_add_and_average,
    ours_anchor,
    ours_compensate,
    ours_correct,
    ours_correct_and_copy,
    ours_delayed_nesterov,
    ours_elastic,
    ours_five_ops,
    ours_lerp_and_copy,
    ours_nesterov,
    ours_outer,
    ours_outer_nesterov,
    ours_parle,
    ours_proximal,
    ours_three_ops,
    three_passes,
    torch_adam_optimizer,
    torch_add_and_average,
    torch_anchor,
    torch_compensate,
    torch_correct,
    torch_correct_and_copy,
    torch_delayed_nesterov,
    torch_elastic,
    torch_foreach_elastic,
    torch_lerp_elastic,
    torch_nesterov,
    torch_nesterov_optimizer,
    torch_outer,
    torch_outer_nesterov,
    torch_proximal,
    two_passes,
)
from loosestep import _core, ops
from loosestep.foundation import buffers

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]


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
    "outer_momentum": (24, "xcv", {"loosestep": ours_outer, "torch in place": torch_outer}),
    "outer_nesterov": (24, "xcv", {"loosestep": ours_outer_nesterov, "torch in place": torch_outer_nesterov}),
    "correct": (
        16,
        "x",
        {"loosestep": ours_correct, "numpy out=": numpy_correct, "torch in place": torch_correct},
    ),
    "correct_and_copy": (
        24,
        "xcg",
        {
            "loosestep": ours_correct_and_copy,
            "loosestep, three ops": three_passes,
            "torch in place": torch_correct_and_copy,
        },
    ),
    "lerp_and_copy": (16, "xc", {"loosestep": ours_lerp_and_copy, "loosestep, two ops": two_passes}),
    "anchor": (24, "xcv", {"loosestep": ours_anchor, "torch in place": torch_anchor}),
    "sgd_proximal": (
        24,
        "xm",
        {"loosestep": lambda a: lambda: ops.sgd_proximal(a["x"], a["g"], a["c"], a["m"], RATE, STRENGTH, KEEP)},
    ),
    "nesterov_proximal": (
        32,
        "xvm",
        {"loosestep": ours_proximal, "loosestep, three ops": ours_three_ops, "torch in place": torch_proximal},
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
