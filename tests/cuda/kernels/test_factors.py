"""Factors on a GPU: one warp is the sequential algorithm, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from tests.cuda.emulated.emulation import emulate
from tests.cuda.making import lane_sum, structure

USERS, ITEMS, RATINGS = 7, 9, 40
RATE, L2 = np.float32(0.1), (np.float32(0.03), np.float32(0.02))
RATING = np.dtype([("user", np.uint32), ("item", np.uint32), ("value", np.float32), ("weight", np.float32)])


class Problem:
    def __init__(self, rank: int) -> None:
        rng = np.random.default_rng(rank)
        self.p = rng.standard_normal((USERS, rank)).astype(np.float32) / 2
        self.q = rng.standard_normal((ITEMS, rank)).astype(np.float32) / 2
        self.biases = [rng.standard_normal(n).astype(np.float32) for n in (USERS, ITEMS)]
        columns = rng.integers(0, USERS, RATINGS), rng.integers(0, ITEMS, RATINGS), rng.random(RATINGS) * 5
        self.ratings = np.array(list(zip(*columns, rng.random(RATINGS), strict=True)), RATING)

    def train(self, adds: str, grid: int, threads: int, *, biases: bool) -> float:
        squares, none = np.zeros(1), [0, 0]
        given = self.biases if biases else none
        sides = [
            structure(("u8", rows), ("u8", bias), ("u4", rows.shape[0]), ("f4", l2))
            for rows, bias, l2 in zip([self.p, self.q], given, L2, strict=True)
        ]
        model = structure(*[(side.dtype, side) for side in sides], ("u4", self.p.shape[1]), ("f4", RATE))
        emulate("factors").launch(
            f"factors<{adds}>",
            (grid,),
            (threads,),
            [model, self.ratings, np.uint64(0), np.uint64(RATINGS), squares],
        )
        return float(squares[0])

    def sequential(self, *, biases: bool) -> float:
        p, q, (b_u, b_i), total = self.p, self.q, self.biases, 0.0
        for u, i, r, weight in self.ratings.tolist():
            shift = b_u[u] + b_i[i] if biases else np.float32(0)
            wrong = np.float32(r) - (shift + lane_sum(p[u] * q[i]))
            e = np.float32(weight) * wrong
            total += float(e * wrong)
            old = p[u].copy()
            p[u] += RATE * (e * q[i] - L2[0] * p[u])
            q[i] += RATE * (e * old - L2[1] * q[i])
            if biases:
                b_u[u] += RATE * (e - L2[0] * b_u[u])
                b_i[i] += RATE * (e - L2[1] * b_i[i])
        return total


@pytest.mark.parametrize("adds", ["Racy", "Exact"])
@pytest.mark.parametrize("rank", [1, 8, 32, 100, 128])
@pytest.mark.parametrize("biases", [False, True])
def test_one_warp_is_sequential_to_the_bit(adds: str, rank: int, biases: bool) -> None:
    gpu, cpu = Problem(rank), Problem(rank)
    got, want = gpu.train(adds, 1, 32, biases=biases), cpu.sequential(biases=biases)
    assert got == want
    for mine, theirs in zip([gpu.p, gpu.q, *gpu.biases], [cpu.p, cpu.q, *cpu.biases], strict=True):
        assert mine.tobytes() == theirs.tobytes()


def test_many_warps_learn() -> None:
    problem = Problem(16)
    first = problem.train("Exact", 2, 64, biases=True)
    for _ in range(30):
        last = problem.train("Exact", 2, 64, biases=True)
    assert last < 0.2 * first


def test_a_user_that_is_none_moves_nothing() -> None:
    problem = Problem(16)
    problem.ratings["user"] = USERS
    before = [problem.p.copy(), problem.q.copy()]
    assert np.isnan(problem.train("Racy", 2, 64, biases=True))
    assert [x.tobytes() for x in before] == [problem.p.tobytes(), problem.q.tobytes()]
