"""Every rule on a GPU, in memory (256 Mi float32) and over 16 Mi; the limit is the driver's copy within the GPU.

Rivals, where they have the step: CuPy's elementwise calls, the same as one `ElementwiseKernel`, and torch's
`foreach` and `fused` optimizers on the same memory. Each is checked against ours first. Bytes are those that a
step must move: each buffer that is read, and each that is written.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from bench.cuda.events import OnGpu, sets_of
from bench.harness import Options, Row, measure
from bench.ops_cases import unfused
from loosestep import _core, ops
from loosestep.cuda import device
from loosestep.cuda.launch import cupy

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

Run = Callable[[], object]
Maker = Callable[[Mapping[str, Any]], Run]
SCALARS = {
    "a": 1.0, "rate": 0.01, "momentum": 0.9, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "step": 1, "pull": 0.5,
    "moving_rate": 0.1, "keep": 0.75, "strength": 1e-4, "coupling": 0.5, "weight_decay": 0.1, "decay": 0.99,
    "sgd_share": 0.5, "rms_share": 0.1, "weight": 0.5, "every": 4, "seen": 1.0, "most": 2, "factor": 0.999,
    "less": 1e-6,
}  # fmt: skip
SIZES = {"in memory": 1 << 28, "16 Mi": 1 << 24}
CHECKED = 1003


def parts(op: str) -> tuple[list[str], list[str], list[float]]:
    """An op's buffers, those of them that it writes, and its scalars here."""
    names, count, written = _core.rules.signature(op)
    buffers = names[:count]
    return (
        buffers,
        [name for i, name in enumerate(buffers) if written >> i & 1],
        [SCALARS.get(n, 0.5) for n in names[count:]],
    )


def bytes_of(op: str) -> int:
    """That one element costs: `out` is written alone."""
    buffers, written, _ = parts(op)
    return 4 * (sum(name != "out" for name in buffers) + len(written))


def ours(op: str) -> Maker:
    buffers, _, scalars = parts(op)
    run = getattr(ops, op)
    return lambda a: lambda: run(*(a[name] for name in buffers), *scalars)


# --- rivals -------------------------------------------------------------------------------------------------


def cupy_elastic(a: Mapping[str, Any]) -> Run:
    return unfused(cupy(), [a["x"]], a["c"], cupy().empty_like(a["x"]), SCALARS["rate"])


def cupy_kernel(op: str, body: str) -> Maker:
    """One kernel of CuPy's making: the buffers that a rule writes are its outputs."""
    buffers, written, scalars = parts(op)
    names = _core.rules.signature(op)[0]
    read = [name for name in buffers if name not in written] + names[len(buffers) :]

    def make(a: Mapping[str, Any]) -> Run:
        kernel = cupy().ElementwiseKernel(typed(read), typed(written), body, op)
        given = [a[name] for name in read if name in buffers] + scalars
        return lambda: kernel(*given, *(a[name] for name in written))

    return make


def typed(names: list[str]) -> str:
    return ", ".join(f"float32 {name}" for name in names)


def torch_optimizer(kind: str, **options: Any) -> Maker:
    def make(a: Mapping[str, Any]) -> Run:
        x, g = (torch.as_tensor(a[name], device="cuda") for name in "xg")
        parameter = torch.nn.Parameter(x)
        parameter.grad = g
        return getattr(torch.optim, kind)([parameter], lr=SCALARS["rate"], **options).step

    return make


def torch_elastic(a: Mapping[str, Any]) -> Run:
    """By algebra, two lerps: x first, then c from it."""
    x, c = ([torch.as_tensor(a[name], device="cuda")] for name in "xc")
    rate = SCALARS["rate"]

    def run() -> None:
        torch._foreach_lerp_(x, c, rate)
        torch._foreach_lerp_(c, x, rate / (1 - rate))

    return run


NESTEROV = {"momentum": SCALARS["momentum"], "nesterov": True}
RIVALS: dict[str, dict[str, Maker]] = {
    "elastic": {
        "cupy": cupy_elastic,
        "cupy fused": cupy_kernel("elastic", "float d = rate * (x - c); x -= d; c += d;"),
        "torch foreach": torch_elastic,
    },
    "nesterov": {
        "cupy fused": cupy_kernel("nesterov", "float s = rate * g; v = momentum * v - s; x += momentum * v - s;"),
        "torch foreach": torch_optimizer("SGD", foreach=True, **NESTEROV),
        "torch fused": torch_optimizer("SGD", fused=True, **NESTEROV),
    },
    "adam": {
        "torch foreach": torch_optimizer("Adam", foreach=True),
        "torch fused": torch_optimizer("Adam", fused=True),
    },
}


def has_torch() -> bool:
    return torch is not None and bool(torch.cuda.is_available())


def makers(op: str) -> dict[str, Maker]:
    """Ours, and the rivals whose library is here and sees a GPU."""
    rivals = RIVALS.get(op, {})
    return {"loosestep": ours(op)} | {name: rivals[name] for name in rivals if has_torch() or "torch" not in name}


# --- measuring ----------------------------------------------------------------------------------------------


def arrays(op: str, n: int, seed: int = 0) -> dict[str, Any]:
    """An op's buffers on the GPU: what accumulates begins at zero, as in a new optimizer."""
    rng = np.random.default_rng(seed)
    names = parts(op)[0]
    return {name: cupy().asarray(rng.random(n, np.float32) if name in "xcgds" else np.zeros(n, np.float32))
            for name in names}  # fmt: skip


def check(op: str) -> None:
    """From zero state every contestant's first step is the same, up to rounding."""
    results = {}
    for name, make in makers(op).items():
        start = arrays(op, CHECKED)
        make(start)()
        results[name] = [cupy().asnumpy(start[each]) for each in "xc" if each in parts(op)[1]]
    for name, found in results.items():
        for got, want in zip(found, results["loosestep"], strict=True):
            np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5, err_msg=f"{op}: {name}")


def copier(n: int) -> OnGpu:
    """The driver's own copy."""
    pairs = [[cupy().zeros(n, "float32") for _ in range(2)] for _ in range(sets_of(8 * n))]
    return OnGpu([lambda x=x, out=out: out.data.copy_from_device_async(x.data, 4 * n) for x, out in pairs])


def rows_of(op: str, where: str, n: int, options: Options) -> Iterator[Row]:
    sets = [arrays(op, n, seed) for seed in range(sets_of(4 * n * len(parts(op)[0])))]
    contestants = {name: OnGpu([make(a) for a in sets]) for name, make in makers(op).items()}
    measured = measure({**contestants, "copy": copier(n)}, options)
    amount = dict.fromkeys(contestants, bytes_of(op) * n / 1e9) | {"copy": 8 * n / 1e9}
    yield from measured.rows(
        "ops on a GPU", f"{op}, {where}", threads=1, n=n, amount=amount, unit="GB/s", limits=["copy"]
    )


def rows(options: Options) -> Iterator[Row]:
    print(
        f"on GPU 0, {device.first()}{'' if has_torch() else '; torch is not here, or sees no GPU'}",
        file=sys.stderr,
    )
    for where, n in ({"small": 1 << 12} if options.smoke else SIZES).items():
        for op in _core.rules.names():
            if options.only in f"{op}, {where}":
                check(op)
                yield from rows_of(op, where, n, options)
