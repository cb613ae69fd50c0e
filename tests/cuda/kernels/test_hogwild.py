"""Hogwild on a GPU: one warp is the sequential algorithm, many are its sum in some order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.cuda.emulated.emulation import emulate
from tests.cuda.making import lane_sum, structure

FEATURES, ROWS = 50, 60
LOGISTIC, HINGE = 0, 1
CONSTANT, INVSCALING = 0, 1
each_way = pytest.mark.parametrize("adds", ["Racy", "Exact"])


class Problem:
    """Sparse rows; every row has from none to 40 entries."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        sizes = rng.integers(0, 41, ROWS)
        self.starts = np.concatenate([[0], np.cumsum(sizes)])
        columns = [np.sort(rng.choice(FEATURES, size, replace=False)) for size in sizes]
        self.columns = np.concatenate(columns).astype(np.int32)
        self.values = rng.standard_normal(self.columns.size).astype(np.float32)
        self.targets = rng.choice([-1, 1], ROWS).astype(np.float32)
        self.importance = rng.random(ROWS).astype(np.float32)

    def passed(self) -> Any:
        arrays = [self.starts, self.columns, self.values, self.targets, self.importance]
        return structure(*[("u8", each) for each in arrays])

    def row(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        at = slice(self.starts[i], self.starts[i + 1])
        return self.columns[at], self.values[at]


def slope(kind: int, p: np.float32, y: np.float32) -> np.float32:
    if kind == HINGE:
        return -y if y * p < 1 else np.float32(0)
    return -y / (1 + np.exp(y * p))


def loss(kind: int, p: float, y: float) -> float:
    return max(0.0, 1 - y * p) if kind == HINGE else float(np.log1p(np.exp(-y * p)))


def sequential(problem: Problem, kind: int, steps: int, eta0: float) -> tuple[np.ndarray, float]:
    """One pass, row after row, at eta0 / sqrt(t)."""
    w, total = np.zeros(FEATURES + 1, np.float32), 0.0
    for i in range(ROWS):
        columns, values = problem.row(i)
        p, y = lane_sum(w[columns] * values, first=w[FEATURES]), problem.targets[i]
        eta = np.float32(eta0 / (steps + i + 1) ** 0.5)
        step = eta * (slope(kind, p, y) * problem.importance[i])
        total += loss(kind, float(p), float(y)) * float(problem.importance[i])
        w[columns] -= step * values
        w[FEATURES] -= step * np.float32(0.5)
    return w, total


def trained(
    adds: str, problem: Problem, kind: int, grid: int, threads: int, *, eta: tuple[int, float] = (INVSCALING, 0.3)
) -> tuple[np.ndarray, float]:
    w, total, schedule = np.zeros(FEATURES + 1, np.float32), np.zeros(1), eta
    criterion = structure(("i4", kind), ("f4", 0.1))
    rate = structure(("i4", schedule[0]), *[("f8", each) for each in (schedule[1], 0.5, 0.0, 0.0)])
    model = structure(("u8", w), ("u8", FEATURES), ("f4", 0.5), (criterion.dtype, criterion), (rate.dtype, rate))
    share = structure(("u8", 0), ("u8", ROWS), ("u8", 9))
    emulate("hogwild").launch(f"linear<{adds}>", (grid,), (threads,), [model, problem.passed(), share, total])
    return w, float(total[0])


@each_way
def test_one_warp_is_sequential_to_the_bit(adds: str) -> None:
    """With steps so long that some margins are above 1."""
    problem = Problem()
    w, total = trained(adds, problem, HINGE, 1, 32, eta=(INVSCALING, 3.0))
    want, losses = sequential(problem, HINGE, 9, 3.0)
    assert w.tobytes() == want.tobytes()
    assert total == pytest.approx(losses, rel=1e-6)


@each_way
def test_logistic_too_but_for_the_exponential(adds: str) -> None:
    problem = Problem()
    w, total = trained(adds, problem, LOGISTIC, 1, 32)
    want, losses = sequential(problem, LOGISTIC, 9, 0.3)
    np.testing.assert_allclose(w, want, rtol=1e-5, atol=1e-6)
    assert total == pytest.approx(losses, rel=1e-6)


def test_exact_adds_lose_nothing_among_warps() -> None:
    """Steps so small that all rows see about the start: the sum of their gradients, in any order."""
    problem, eta = Problem(), 1e-6
    w, _ = trained("Exact", problem, LOGISTIC, 3, 128, eta=(CONSTANT, eta))
    want = np.zeros(FEATURES + 1)
    for i in range(ROWS):
        columns, values = problem.row(i)
        at_zero = eta * float(problem.targets[i]) / 2 * float(problem.importance[i])
        want[columns] += at_zero * values
        want[FEATURES] += at_zero * 0.5
    np.testing.assert_allclose(w, want, rtol=1e-4, atol=1e-11)


def test_no_intercept_is_not_moved() -> None:
    problem, total = Problem(), np.zeros(1)
    w = np.zeros(FEATURES + 1, np.float32)
    criterion = structure(("i4", HINGE), ("f4", 0.1))
    rate = structure(("i4", CONSTANT), *[("f8", each) for each in (0.3, 0.5, 0.0, 0.0)])
    model = structure(("u8", w), ("u8", FEATURES), ("f4", 0.0), (criterion.dtype, criterion), (rate.dtype, rate))
    share = structure(("u8", 0), ("u8", ROWS), ("u8", 0))
    emulate("hogwild").launch("linear<Exact>", (2,), (64,), [model, problem.passed(), share, total])
    assert w[FEATURES] == 0
    assert np.abs(w[:FEATURES]).min() > 0


@each_way
def test_a_column_that_is_no_feature_is_not_followed(adds: str) -> None:
    """Neither the intercept, which lies behind the features, nor what lies behind all of them."""
    problem = Problem()
    problem.columns[:] = np.where(problem.columns < 25, FEATURES, -1)
    w, total = trained(adds, problem, HINGE, 2, 64)
    assert np.isnan(total)
    assert (w[:FEATURES] == 0).all()
