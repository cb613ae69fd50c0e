"""The native visits of a factorization against numpy, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.sparse import replay
from tests.sparse.replay import Problem

from loosestep import _core
from loosestep.sparse.factor_table import widened, words

SETS = [*_core.isas(), "atomic"]


def problem(
    rank: int = 20,
    *,
    users: int = 23,
    items: int = 17,
    count: int = 300,
    blocks: tuple[int, int] = (6, 5),
    bias: bool = True,
    adagrad: bool = True,
    degree: bool = False,
    weighted: bool = False,
    seed: int = 0,
) -> Problem:
    random = np.random.default_rng(seed)
    u, i = random.integers(users, size=count, dtype=np.uint32), random.integers(items, size=count, dtype=np.uint32)
    r = random.normal(size=count).astype(np.float32)
    weights = random.uniform(0.5, 2, count).astype(np.float32) if weighted else None
    grid = _core.RatingGrid(u, i, r, (users, items), blocks, seed, weights)
    rows = []
    for n in (users, items):
        padded = np.zeros((n, -(-rank // 16) * 16), np.float32)
        padded[:, :rank] = random.normal(size=(n, rank)) * 0.3
        rows.append(padded)

    def both(on: bool, make: Any) -> tuple[Any, Any]:
        return (make(users).astype(np.float32), make(items).astype(np.float32)) if on else (None, None)

    return Problem(
        grid,
        blocks,
        *rows,
        rank,
        bias=both(bias, lambda n: random.normal(size=n)),
        squares=both(adagrad, np.ones),
        l2_of=both(degree, lambda n: random.uniform(0.01, 0.1, n)),
        l2=0.05,
    )


def assert_same(one: Problem, other: Problem) -> None:
    for x, y in zip(one.arrays(), other.arrays(), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("rank", [1, 8, 16, 33, 50, 70, 96, 100, 128])
def test_one_thread_is_the_sequential_method_bit_for_bit(isa: str, rank: int) -> None:
    ours, numpys = problem(rank), problem(rank)
    for epoch in range(2):
        squares, visits = ours.native().hogwild(ours.grid, 0.1, 1, seed=3, epoch=epoch, isa=isa)
        assert visits == 300
        cells = replay.hogwild(ours.blocks, 1, 3, epoch)[0]
        assert squares == pytest.approx(replay.play(numpys, iter(cells), 0.1), rel=1e-12)
    assert_same(ours, numpys)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("adagrad", [False, True])
@pytest.mark.parametrize("degree", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_form_is_numpys(bias: bool, adagrad: bool, degree: bool, weighted: bool) -> None:
    ours = problem(bias=bias, adagrad=adagrad, degree=degree, weighted=weighted)
    numpys = ours.copy()
    ours.native().hogwild(ours.grid, 0.1)
    replay.play(numpys, iter(replay.hogwild(ours.blocks, 1, 0, 0)[0]), 0.1)
    assert_same(ours, numpys)


def test_padding_stays_zero() -> None:
    made = problem(20)
    made.native().hogwild(made.grid, 0.1)
    assert not made.p[:, 20:].any()
    assert not made.q[:, 20:].any()


def test_a_grid_holds_every_rating_once_in_the_cell_of_its_blocks() -> None:
    made = problem(count=500)
    users, items, values, weights = made.grid.ratings
    assert (weights == 1).all()
    given = np.random.default_rng(0)
    u, i = given.integers(23, size=500, dtype=np.uint32), given.integers(17, size=500, dtype=np.uint32)
    r = given.normal(size=500).astype(np.float32)
    assert sorted(zip(users, items, values, strict=True)) == sorted(zip(u, i, r, strict=True))
    for cell in range(30):
        inside = slice(*made.grid.begins[cell : cell + 2])
        for index, cuts, block in (
            (users, made.grid.user_cuts, cell % 6),
            (items, made.grid.item_cuts, cell // 6),
        ):
            assert (index[inside] >= cuts[block]).all()
            assert (index[inside] < cuts[block + 1]).all()


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_exact_adds_lose_nothing(threads: int) -> None:
    # Every rating is another user's, so its e is 1: p.q is lost beside it, and each visit adds 1 to its item.
    count, items = 40_000, 2
    users = np.arange(count, dtype=np.uint32)
    grid = _core.RatingGrid(
        users, users % np.uint32(items), np.ones(count, np.float32), (count, items), (threads, 1), 0
    )
    p, q = np.full((count, 16), 2.0**-60, np.float32), np.zeros((items, 16), np.float32)
    factors = _core.Factors(_core.FactorRows(p), _core.FactorRows(q), 16)
    factors.hogwild(grid, 2.0**60, threads, adds="exact")
    np.testing.assert_array_equal(q, count / items)
    q[:] = p[:] = 0
    p[:] = 2.0**-60
    factors.hogwild(grid, 2.0**60, threads)
    assert (q <= count / items).all()


def test_threads_that_share_nothing_give_the_sequential_result() -> None:
    def halves() -> Problem:
        made = problem(blocks=(2, 2))
        u = np.repeat(np.arange(20, dtype=np.uint32), 10)
        i = np.tile(np.arange(10, dtype=np.uint32), 20) + np.where(u < 10, 0, 10).astype(np.uint32)
        made.grid = _core.RatingGrid(u, i, np.ones(200, np.float32), (23, 20), (2, 2), 0)
        made.q = np.resize(made.q, (20, 32))
        made.bias, made.squares = (None, None), (None, None)
        return made

    numpys = halves()
    for cells in replay.hogwild((2, 2), 2, 0, 0):
        replay.play(numpys, iter(cells), 0.1)
    for _ in range(10):
        ours = halves()
        ours.native().hogwild(ours.grid, 0.1, 2)
        assert_same(ours, numpys)


# --- bfloat16 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("isa", SETS)
def test_half_rows_agree_between_instruction_sets(isa: str) -> None:
    results = []
    for which in (isa, "atomic"):
        made = problem(50)
        made.p, made.q = words(made.p), words(made.q)
        made.native().hogwild(made.grid, 0.1, isa=which)
        results.append(made)
    assert_same(*results)
    assert not widened(results[0].p)[:, 50:].any()


def test_half_rows_are_rounded_without_bias_and_each_element_by_itself() -> None:
    # q = 1 and e = 1: each of the users' elements is to move from 1 by a sixteenth of what bfloat16 resolves.
    users, length = 20_000, 32
    move = 2.0**-7 / 16
    index = np.arange(users, dtype=np.uint32)
    grid = _core.RatingGrid(index, np.zeros_like(index), np.full(users, 33, np.float32), (users, 1), (1, 1), 0)
    p, q = words(np.ones((users, length), np.float32)), words(np.ones((1, length), np.float32))
    _core.Factors(_core.FactorRows(p), _core.FactorRows(q, l2=1), length).hogwild(grid, move)  # q stays: e p = l q
    up = widened(p) > 1
    assert set(np.unique(widened(p))) == {1.0, 1 + 2.0**-7}
    sigma = (users * length * (1 / 16) * (15 / 16)) ** 0.5
    assert abs(up.sum() - users * length / 16) < 4 * sigma
    for other in (1, 16):  # in the next lane, in the other half of its word: 1/256 of the users, not 1/16
        together = (up[:, 0] & up[:, other]).sum()
        assert abs(together - users / 256) < 4 * (users / 256) ** 0.5


# --- rotation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["ring", "permutation"])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_rotation_is_its_sequential_replay_bit_for_bit(workers: int, order: Any) -> None:
    ours, numpys = problem(blocks=(6, 6)), problem(blocks=(6, 6))
    rotation = _core.Rotation(ours.grid, workers, order, seed=5)
    again = replay.Rotation((6, 6), workers, order, 5)
    for _ in range(3):
        squares, visits = ours.native().rotate(rotation, 0.1)
        assert visits == 300
        cells = list(again.iterate())
        assert sorted(cells) == [(user, item) for user in range(6) for item in range(6)]  # each once
        assert squares == pytest.approx(replay.play(numpys, iter(cells), 0.1), rel=1e-12)
    assert_same(ours, numpys)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_what_a_timed_rotation_leaves_is_visited_later(workers: int) -> None:
    # Out of time after its first cell, every visit is of one cell.
    ours, numpys = problem(blocks=(6, 6)), problem(blocks=(6, 6))
    rotation = _core.Rotation(ours.grid, workers, seconds=1e-9, seed=5)
    again = replay.Rotation((6, 6), workers, "ring", 5, most=1)
    seen: list[tuple[int, int]] = []
    for _ in range(18 // workers):
        _, visits = ours.native().rotate(rotation, 0.1)
        cells = list(again.iterate())
        assert len(cells) == 2 * workers * workers
        assert visits == sum(1 for cell in cells for _ in ours.cell(*cell))
        replay.play(numpys, iter(cells), 0.1)
        seen += cells
    assert set(seen) == {(user, item) for user in range(6) for item in range(6)}
    assert_same(ours, numpys)


# --- bad input ---------------------------------------------------------------------------------------------


def test_bad_input_is_named() -> None:
    made = problem()
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        made.native().hogwild(made.grid, 0.1, 0)
    with pytest.raises(ValueError, match="adds must be 'racy' or 'exact', got 'lossy'"):
        made.native().hogwild(made.grid, 0.1, adds="lossy")
    with pytest.raises(ValueError, match="the grid's shape must be that of the factors"):
        _core.Factors(_core.FactorRows(made.p), _core.FactorRows(made.p), 20).hogwild(made.grid, 0.1)
    with pytest.raises(ValueError, match="users must be below 3, got 7"):
        _core.RatingGrid(
            np.array([7], np.uint32), np.array([0], np.uint32), np.ones(1, np.float32), (3, 1), (1, 1), 0
        )
    with pytest.raises(ValueError, match="bias must have an element a row, 23, got 5"):
        _core.FactorRows(made.p, np.zeros(5, np.float32))
    with pytest.raises(ValueError, match="multiple of 16 words"):
        _core.FactorRows(np.zeros((3, 20), np.float32))
    made.p, made.q = words(made.p), words(made.q)
    with pytest.raises(ValueError, match="adds='exact' is not available for bfloat16"):
        made.native().hogwild(made.grid, 0.1, adds="exact")
    with pytest.raises(ValueError, match="seconds must be above 0, got 0"):
        _core.Rotation(made.grid, 2, seconds=0.0)
