"""What the native core does to factors, said again in numpy: one visit after the other, in one thread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tests.sparse.splitmix import MASK, Random, shuffled

from loosestep import _core

f32 = np.float32


def part(blocks: int, of: int, threads: int) -> range:
    return range(blocks * of // threads, blocks * (of + 1) // threads)


@dataclass
class Problem:
    """A grid of ratings, and factors with all that may belong to a row."""

    grid: Any
    blocks: tuple[int, int]
    p: Any
    q: Any
    rank: int
    bias: tuple[Any, Any] = (None, None)
    squares: tuple[Any, Any] = (None, None)
    l2_of: tuple[Any, Any] = (None, None)
    l2: float = 0.0

    def copy(self) -> Problem:
        twice = lambda pair: tuple(None if each is None else each.copy() for each in pair)  # noqa: E731
        return replace(self, p=self.p.copy(), q=self.q.copy(), bias=twice(self.bias), squares=twice(self.squares))

    def native(self) -> Any:
        users, items = (
            _core.FactorRows(rows, self.bias[side], self.squares[side], self.l2_of[side], self.l2)
            for side, rows in enumerate((self.p, self.q))
        )
        return _core.Factors(users, items, self.rank)

    def arrays(self) -> list[Any]:
        return [self.p, self.q, *(each for pair in (self.bias, self.squares) for each in pair if each is not None)]

    def cell(self, user_block: int, item_block: int) -> Iterator[tuple[int, int, Any, Any]]:
        at = item_block * self.blocks[0] + user_block
        users, items, values, weights = self.grid.ratings
        for i in range(*map(int, self.grid.begins[at : at + 2])):
            yield int(users[i]), int(items[i]), values[i], weights[i]


def folded(x: Any) -> Any:
    """Sixteen lanes: lane i and lane i + n/2, again and again."""
    while len(x) > 1:
        x = x[: len(x) // 2] + x[len(x) // 2 :]
    return x[0]


def summed(x: Any) -> Any:
    lines = x.reshape(-1, 16)
    lanes = lines[0]
    for each in lines[1:]:
        lanes = lanes + each
    return folded(lanes)


def visit(problem: Problem, u: int, i: int, value: Any, weight: Any, rate: float) -> float:
    at, rows, index = [], (problem.p[u].copy(), problem.q[i].copy()), (u, i)
    for side in (0, 1):
        bias = f32(0) if problem.bias[side] is None else problem.bias[side][index[side]]
        l2 = f32(problem.l2) if problem.l2_of[side] is None else problem.l2_of[side][index[side]]
        sums = problem.squares[side]
        step = f32(rate) if sums is None else f32(rate) / np.sqrt(sums[index[side]])
        at.append((bias, l2, step))
    off = value - ((at[0][0] + at[1][0]) + summed(rows[0] * rows[1]))
    e = weight * off
    for side, table in ((0, problem.p), (1, problem.q)):
        bias, l2, step = at[side]
        gradient = e * rows[1 - side] - l2 * rows[side]
        table[index[side]] = rows[side] + step * gradient
        if problem.squares[side] is not None:
            problem.squares[side][index[side]] += summed(gradient * gradient) / f32(problem.rank)
        if problem.bias[side] is not None:
            problem.bias[side][index[side]] = bias + step * (e - l2 * bias)
    return float(e) * float(off)


def play(problem: Problem, cells: Iterator[tuple[int, int]], rate: float) -> float:
    """Visits cells (user block, item block) in order; the sum of e^2."""
    return sum(visit(problem, *rating, rate) for cell in cells for rating in problem.cell(*cell))


def hogwild(blocks: tuple[int, int], threads: int, seed: int, epoch: int) -> list[list[tuple[int, int]]]:
    """The cells of each thread."""
    order = shuffled(blocks[1], Random(seed, epoch))
    made = []
    for thread in range(threads):
        users, start = part(blocks[0], thread, threads), part(blocks[1], thread, threads).start
        cells = []
        for k in range(blocks[1]):
            item = order[(start + k) % blocks[1]]
            stream = Random(seed, epoch, (item << 32) + thread + 1)
            cells += [(users[user], item) for user in shuffled(len(users), stream)]
        made.append(cells)
    return made


class Rotation:
    """The cells of an iteration, round by round; `most` of them a visit."""

    def __init__(self, blocks: tuple[int, int], workers: int, order: str, seed: int, most: int = 1 << 30) -> None:
        self.blocks, self.workers, self.order, self.seed, self.most = blocks, workers, order, seed, most
        self.iteration = 0
        self.passes = {(w, s): 0 for w in range(workers) for s in range(2 * workers)}
        self.left = {(w, s): self.cells(w, s, 0) for w in range(workers) for s in range(2 * workers)}

    def cells(self, worker: int, slice_: int, pass_: int) -> list[tuple[int, int]]:
        random = Random(self.seed, pass_, worker * 2 * self.workers + slice_)
        users, items = part(self.blocks[0], worker, self.workers), part(self.blocks[1], slice_, 2 * self.workers)
        inner, made = random.next(), []
        for item in shuffled(len(items), random):
            made += [(users[user], items[item]) for user in shuffled(len(users), Random(inner, item))]
        return made

    def iterate(self) -> Iterator[tuple[int, int]]:
        n = self.workers
        ring = list(range(n))
        seats = ring if self.order == "ring" else shuffled(n, Random(self.seed, self.iteration, MASK))
        for round_ in range(n):
            for worker in range(n):
                for k in (0, 1):
                    yield from self.met(worker, 2 * ((seats[worker] - round_) % n) + k)
        self.iteration += 1

    def met(self, worker: int, slice_: int) -> Iterator[tuple[int, int]]:
        pair = worker, slice_
        for _ in range(min(self.most, len(self.cells(worker, slice_, 0)))):
            if not self.left[pair]:
                self.passes[pair] += 1
                self.left[pair] = self.cells(worker, slice_, self.passes[pair])
            yield self.left[pair].pop(0)
