"""The optimizers' steps are torch's, to rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from loosestep import ops

torch = pytest.importorskip("torch")

STEPS = 25
SETTINGS = [(0.9, 0.999, 1e-8), (0.5, 0.9, 1e-3), (0.0, 0.99, 1e-6)]
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def run_torch(kind: str, x: np.ndarray, gradients: list[np.ndarray], **options: Any) -> np.ndarray:
    parameter = torch.nn.Parameter(torch.from_numpy(x.copy()))
    optimizer = getattr(torch.optim, kind)([parameter], **options)
    for g in gradients:
        parameter.grad = torch.from_numpy(g.copy())
        optimizer.step()
    return parameter.detach().numpy()


def run_ours(step: Callable[..., None], x: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    x = x.copy()
    for t, g in enumerate(gradients, start=1):
        step(x, g, t)
    return x


def problem(dtype: type) -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(3)
    return rng.standard_normal(300).astype(dtype), list(rng.standard_normal((STEPS, 300)).astype(dtype))


def assert_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    epsilon = float(np.finfo(ours.dtype).eps)
    np.testing.assert_allclose(ours, theirs, rtol=4 * STEPS * epsilon, atol=4 * STEPS * epsilon)


@dtypes
def test_sgd(dtype: type) -> None:
    x, gradients = problem(dtype)
    ours = run_ours(lambda x, g, t: ops.sgd(x, g, 0.1), x, gradients)
    assert_close(ours, run_torch("SGD", x, gradients, lr=0.1))


@dtypes
def test_momentum(dtype: type) -> None:
    x, gradients = problem(dtype)
    v = np.zeros_like(x)
    ours = run_ours(lambda x, g, t: ops.momentum(x, v, g, 0.1, 0.9), x, gradients)
    assert_close(ours, run_torch("SGD", x, gradients, lr=0.1, momentum=0.9))


@dtypes
def test_nesterov(dtype: type) -> None:
    x, gradients = problem(dtype)
    v = np.zeros_like(x)
    ours = run_ours(lambda x, g, t: ops.nesterov(x, v, g, 0.1, 0.9), x, gradients)
    assert_close(ours, run_torch("SGD", x, gradients, lr=0.1, momentum=0.9, nesterov=True))


@dtypes
@pytest.mark.parametrize(("beta1", "beta2", "epsilon"), SETTINGS)
def test_adam(dtype: type, beta1: float, beta2: float, epsilon: float) -> None:
    x, gradients = problem(dtype)
    m, v = np.zeros_like(x), np.zeros_like(x)
    ours = run_ours(lambda x, g, t: ops.adam(x, m, v, g, 0.01, beta1, beta2, epsilon, t), x, gradients)
    assert_close(ours, run_torch("Adam", x, gradients, lr=0.01, betas=(beta1, beta2), eps=epsilon))
