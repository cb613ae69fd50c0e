"""SparseLoCo and DeMo: their recursions, by both divisors; the bits that they send; what they degenerate to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.papers.problems import EQUAL, RATE, Array, difference, in_turn, quadratics, trace

import loosestep as ls
from loosestep.codecs.cosine import CosineTiles

PROBLEM = quadratics(4, 24)
ALL = ls.ChunkedTopK(8, 8, width=64)


def largest(rows: Array, chunk: int, keep: int) -> Array:
    """Of each chunk, the first of the largest."""
    kept = np.zeros_like(rows)
    for row, out in zip(rows, kept, strict=True):
        for at in range(0, row.size, chunk):
            for i in np.argsort(-np.abs(row[at : at + chunk]), kind="stable")[:keep]:
                out[at + i] = row[at + i]
    return kept


def mean(q: Array, divisor: str) -> Array:
    if divisor == "workers":
        return q.mean(axis=0)
    return q.sum(axis=0) / np.maximum((q != 0).sum(axis=0), 1)


@pytest.mark.parametrize("on", [in_turn(4), ls.Threads(4)], ids=repr)
@pytest.mark.parametrize("divisor", ["senders", "workers"])
@pytest.mark.parametrize("clip", [True, False])
def test_it_follows_its_recursion(divisor: Any, clip: bool, on: Any) -> None:
    c, e = PROBLEM.start.copy(), np.zeros((4, 24))
    for _ in range(6):
        x = np.tile(c, (4, 1))
        for _ in range(5):
            x = x - RATE * PROBLEM.gradients(x)
        e = 0.9 * e + (c - x)
        q = largest(e, 8, 3)
        e = e - q
        norms = np.linalg.norm(q, axis=1)
        if clip:
            q = q * np.minimum(1, np.median(norms) / norms)[:, None]
        c = c - 0.5 * mean(q, divisor)
    strategy = ls.SparseLoCo(5, 0.5, 0.9, ls.ChunkedTopK(3, 8, width=64), divisor, clip)
    found = trace(strategy, PROBLEM, 30, on=on)
    assert difference(found.center, c) < EQUAL
    assert (found.replicas == found.replicas[0]).all()


@pytest.mark.parametrize("rate", [1.0, 0.6])
@pytest.mark.parametrize("divisor", ["senders", "workers"])
def test_with_all_kept_it_is_local_sgd_with_an_outer_rate(rate: float, divisor: Any) -> None:
    found = trace(ls.SparseLoCo(4, rate, 0.0, ALL, divisor, clip=False), PROBLEM, 24)
    assert difference(found.center, trace(ls.DiLoCo(4, rate, 0.0), PROBLEM, 24).center) < EQUAL
    if rate == 1:
        assert difference(found.center, trace(ls.LocalSGD(4), PROBLEM, 24).center) < EQUAL


def test_what_its_production_setting_sends() -> None:
    """64 of 4,096 values at 12 + 2 bits, and 4 means: 0.219 bits a parameter, 146 times below float32."""
    d = 1 << 20
    codec = ls.SparseLoCo().codec
    assert codec.bits(d) == 64 * 256 * (12 + 2) + 4 * 32
    assert codec.bits(d) / d == pytest.approx(64 * 14 / 4096, rel=1e-3)
    assert 32 * d / codec.bits(d) > 146
    cost, plain = ls.SparseLoCo().cost(2, d), ls.LocalSGD(30).cost(2, d)
    assert plain is not None
    assert plain.total(4) / cost.total(4) == pytest.approx(146.2, abs=0.3)


def test_messages_of_one_part_are_summed_in_the_order_of_ranks() -> None:
    """Values whose sum depends on the order: float32, a left fold, divided once."""
    values = np.array([[1e8, 1.0], [-1e8, 1.0], [3.0, 1e-9], [1.0, 7.0]], np.float32)
    found = ls.run(
        ls.SparseLoCo(1, 1.0, 0.0, ls.ChunkedTopK(2, 2), "workers", clip=False),
        lambda x, batch: batch,
        np.zeros(2, np.float32),
        lambda rank, size: iter([-values[rank]]),
        on=ls.Threads(4),
        optimizer=ls.SGD(1.0),
    )
    total = np.zeros(2, np.float32)
    for row in values:
        total -= row
    assert (found.params == -(total / np.float32(4))).all()


# --- DeMo ----------------------------------------------------------------------------------------------------


def cosines(side: int) -> Array:
    k, i = np.arange(side)[:, None], np.arange(side)
    return np.sqrt(np.where(k == 0, 1, 2) / side) * np.cos(np.pi * k * (2 * i + 1) / (2 * side))


@pytest.mark.parametrize("side", [1, 2, 8, 64])
def test_tiles_are_transformed_as_the_formula_says_and_back(side: int) -> None:
    tiles, rng = CosineTiles(side), np.random.default_rng(side)
    x = rng.standard_normal(2 * side**2)
    made, back = np.zeros(tiles.size(x.size)), np.zeros(x.size)
    tiles.forward(x, made)
    wanted = [cosines(side) @ tile @ cosines(side).T for tile in x.reshape(2, side, side)]
    assert difference(made.reshape(2, side, side), np.array(wanted)) < EQUAL
    tiles.back(made, back)
    assert difference(back, x) < EQUAL


@pytest.mark.parametrize("divisor", ["senders", "workers"])
def test_demo_follows_its_recursion(divisor: Any) -> None:
    """As the paper has it, with momentum as momentum: two tiles of 4 x 4, so that none ends in zeros."""
    problem, matrix = quadratics(4, 32), np.kron(cosines(4), cosines(4))
    x, m = problem.start.copy(), np.zeros((4, 32))
    both = np.kron(np.eye(2), matrix)
    for _ in range(20):
        m = 0.9 * m + 0.05 * problem.gradients(np.tile(x, (4, 1)))
        q = largest(m @ both.T, 16, 5)
        m = m - q @ both
        x = (1 - 0.05 * 0.1) * x - 0.05 * np.sign(mean(q, divisor) @ both)
    strategy = ls.DeMo(4, 5, 0.9, divisor)
    found = trace(strategy, problem, 20, optimizer=ls.SGD(0.05, weight_decay=0.1))
    assert difference(found.center, x) < 1e-6, "coefficients are sent as float32"
    assert (found.replicas == found.replicas[0]).all()
