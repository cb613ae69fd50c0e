"""One worker's optimizers are those of torch.optim."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from tests.papers.problems import difference, quadratics, trace

import loosestep as ls
from loosestep.optimizers import muon

torch = pytest.importorskip("torch")

ALONE = quadratics(1, 50)
PAIRS = [
    (ls.SGD(0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    (ls.SGD(0.1, weight_decay=0.03), lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.03)),
    (ls.Momentum(0.1, 0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    (ls.Nesterov(0.1, 0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True)),
    (
        ls.Nesterov(0.1, 0.9, weight_decay=0.03),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.03),
    ),
    (ls.Adam(0.02), lambda p: torch.optim.Adam(p, lr=0.02)),
    (
        ls.Adam(0.02, 0.8, 0.95, 1e-6, weight_decay=0.03),
        lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.03),
    ),
    (ls.AdamW(0.02), lambda p: torch.optim.AdamW(p, lr=0.02)),
    (
        ls.AdamW(0.02, 0.8, 0.95, 1e-6, weight_decay=0.3),
        lambda p: torch.optim.AdamW(p, lr=0.02, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.3),
    ),
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=[repr(pair[0]) for pair in PAIRS])
def test_a_worker_alone_steps_as_torch_does(ours: Any, theirs: Any) -> None:
    x = torch.tensor(ALONE.start, requires_grad=True)
    optimizer, path = theirs([x]), []
    for _ in range(50):
        path.append(x.detach().numpy().copy())
        x.grad = torch.tensor(ALONE.gradient(path[-1], 0))
        optimizer.step()
    found = trace(ls.AllReduceSGD(), ALONE, 50, on=ls.Serial(), optimizer=ours)
    assert difference(found.points[0], np.array(path)) < 1e-13
    assert difference(found.center, x.detach().numpy()) < 1e-13


# --- to the bit ----------------------------------------------------------------------------------------------

BITS = """
import numpy as np, torch, loosestep as ls
assert torch.backends.cpu.get_cpu_capability() == "DEFAULT"
rng = np.random.default_rng(0)
for kind, fused, values in [(ls.Adam, torch.optim.Adam, {}), (ls.AdamW, torch.optim.AdamW, {"weight_decay": 0.1})]:
    for dtype in (np.float32, np.float64):
        start = rng.standard_normal(1001).astype(dtype)
        x, y = torch.tensor(start, requires_grad=True), start.copy()
        theirs, ours = fused([x], lr=0.02, fused=True, **values), kind(0.02, **values)
        moments = ours.init(y)
        for step in range(60):
            g = rng.standard_normal(1001).astype(dtype)
            x.grad = torch.tensor(g)
            theirs.step()
            ours.update(y, g.copy(), moments, step, step + 1)
            for mine, name in zip(moments, ("exp_avg", "exp_avg_sq")):
                assert (theirs.state[x][name].numpy() == mine).all(), (kind, dtype, step, name)
            assert (x.detach().numpy() == y).all(), (kind, dtype, step)
print("equal")
"""


def test_adam_has_torchs_bits_where_torch_rounds_each_operation() -> None:
    """Its loops for AVX2 and AVX-512 round a product and a sum once: a process of its own goes without them."""
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    command = [sys.executable, "-W", "ignore", "-c", BITS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "equal"), done.stderr


def muons(dtype: Any, **values: Any) -> tuple[Any, Any]:
    """Where ten steps of torch's Muon end, and of ours, on two matrices: one wide, one tall."""
    rng = np.random.default_rng(1)
    shapes = ((3, 7), (6, 2))
    parts = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    tensors = [torch.tensor(part, requires_grad=True) for part in parts]
    given = {"nesterov": values.pop("nesterov", True)}
    scaling = values.pop("scaling", "original")
    theirs = torch.optim.Muon(
        tensors, lr=0.02, adjust_lr_fn={"rms": "match_rms_adamw"}.get(scaling), **given, **values
    )
    ours = ls.Muon(0.02, scaling=scaling, **given, **values)
    flat = np.concatenate([part.reshape(-1) for part in parts])
    moments = ours.init(flat)
    for step in range(10):
        gradients = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
        for tensor, gradient in zip(tensors, gradients, strict=True):
            tensor.grad = torch.tensor(gradient)
        theirs.step()
        whole = np.concatenate([gradient.reshape(-1) for gradient in gradients])
        ours.update(flat, whole, moments, step, step + 1, shapes=shapes)
    return np.concatenate([tensor.detach().numpy().reshape(-1) for tensor in tensors]), flat


@pytest.mark.parametrize(
    "values",
    [{}, {"nesterov": False, "momentum": 0.3}, {"scaling": "rms", "weight_decay": 0.0}, {"weight_decay": 0.5}],
    ids=str,
)
def test_muon_is_torchs_but_for_its_rounding_to_bfloat16(values: dict[str, Any], monkeypatch: Any) -> None:
    theirs, ours = muons(np.float32, **values)
    assert difference(theirs, ours) < 0.02, "of ten steps of up to 0.02 in each of 33 places"
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())
    theirs, ours = muons(np.float64, **values)
    assert difference(theirs, ours) < 1e-12
    theirs, ours = muons(np.float32, **values)
    assert difference(theirs, ours) < 2e-5


@pytest.mark.parametrize("coefficients", ["TORCH", "MULOCO"])
def test_muons_steps_are_nearly_orthogonal(coefficients: str) -> None:
    rng = np.random.default_rng(2)
    for shape in ((8, 8), (4, 12), (12, 4)):
        made = muon.orthogonalized(rng.standard_normal(shape), getattr(muon, coefficients), 1e-7)
        singular = np.linalg.svd(made, compute_uv=False)
        least, most = {"TORCH": (0.6, 1.3), "MULOCO": (0.85, 1.15)}[coefficients]
        assert least < singular.min() <= singular.max() < most
    assert not muon.orthogonalized(np.zeros((3, 2)), muon.TORCH, 1e-7).any()


def test_muon_leaves_vectors_to_adamw() -> None:
    """And a tensor of more than two dimensions is a matrix of its first by the others."""
    rng = np.random.default_rng(3)
    x, g = rng.standard_normal(29), rng.standard_normal(29)
    whole = ls.Muon(0.02, vectors=0.1, weight_decay=0.2)
    one, other, flat = x.copy(), x[24:].copy(), x[:24].copy()
    whole.update(one, g.copy(), whole.init(one), 0, 1, shapes=((2, 3, 2, 2), (5,)))
    adam = ls.AdamW(0.002, beta2=0.95, weight_decay=0.2)
    adam.update(other, g[24:].copy(), adam.init(other), 0, 1)
    whole.update(flat, g[:24].copy(), whole.init(flat), 0, 1, shapes=((2, 12),))
    assert one[24:].tobytes() == other.tobytes()
    assert one[:24].tobytes() == flat.tobytes()
