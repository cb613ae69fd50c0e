"""Rotation between workers gives the sequential replay's bits on every transport."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from tests.mpi.jobs import ended, needs_mpi, script

import loosestep as ls
from loosestep.foundation.errors import Diverged, WorkerFailed
from loosestep.sparse import MatrixFactorization
from loosestep.sparse.ratings import read
from loosestep.sparse.rotation import Beginning, Share, rotate

EPOCHS = 3


def made(count: int = 3000, users: int = 40, items: int = 30) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    pairs = np.stack([random.integers(n, size=count) for n in (users, items)], 1)
    p, q = random.normal(size=(users, 3)), random.normal(size=(items, 3))
    biases = random.normal(size=users)[pairs[:, 0]] + 2 * random.normal(size=items)[pairs[:, 1]]
    return pairs, 3 + biases + np.einsum("nk,nk->n", p[pairs[:, 0]], q[pairs[:, 1]])


def sequential(size: int, **options: Any) -> list[Share]:
    """One pair (worker, slice) after the other, slices handed on by hand."""
    model = MatrixFactorization(8, l2=0.05, random_state=0, **options)
    start = Beginning.of(model, read(*made(), None))
    shares = [Share(rank, size, start) for rank in range(size)]
    for epoch in range(EPOCHS):
        ring = shares[0].ring(epoch)
        for share in shares:
            share.errors.append(np.zeros(2))
        for round_ in range(size):
            for seat, rank in enumerate(ring):
                for k in (0, 1):
                    visited = shares[rank].visit(2 * ring[seat - round_] + k, k, 0.1)
                    shares[rank].errors[-1] += visited
            held = [share.here for share in shares]
            for seat, rank in enumerate(ring):
                shares[rank].here = held[ring[seat - 1]]
    return shares


def assert_same(model: MatrixFactorization, expected: list[Share]) -> None:
    """Users as they lie, and items as slices 0, 1 of worker 0, then of worker 1 ..."""
    sides = [[share.users for share in expected], [each for share in expected for each in share.here]]
    cuts = expected[0].user_cuts, expected[0].cuts
    for table, bundles, ends in zip(model._tables, sides, cuts, strict=True):
        parts = [each.table(b - a) for each, a, b in zip(bundles, ends, ends[1:], strict=False)]
        for name in ("rows", "bias", "squares"):
            each = [getattr(part, name) for part in parts]
            if each[0] is None:
                assert getattr(table, name) is None
            else:
                np.testing.assert_array_equal(getattr(table, name), np.concatenate(each))


TRANSPORTS = [
    ls.Serial(),
    ls.Threads(2),
    ls.Threads(3),
    ls.Simulated(2),
    ls.Simulated(5),
    ls.Simulated(4, hosts=[2, 2]),
]


ORDERS: Any = ["ring", "permutation"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("on", TRANSPORTS, ids=str)
def test_a_rotation_is_its_sequential_replay_bit_for_bit(on: ls.Transport, order: Any) -> None:
    model = rotate(on, *made(), 8, l2=0.05, max_iter=EPOCHS, rotation_order=order)
    expected = sequential(on.size, algorithm="rotation", rotation_order=order)
    assert_same(model, expected)
    squares, visited = np.sum([share.errors for share in expected], axis=0).T
    np.testing.assert_array_equal(model.rmse_, np.sqrt(squares / 3000))
    assert visited.tolist() == [3000] * EPOCHS
    assert model.rmse_[-1] < 0.8 * model.rmse_[0]


def test_permutations_change_from_epoch_to_epoch_and_are_the_same_everywhere() -> None:
    model = MatrixFactorization(8, algorithm="rotation", rotation_order="permutation", random_state=0)
    start = Beginning.of(model, read(*made(), None))
    rings = [[Share(rank, 5, start).ring(epoch) for epoch in range(4)] for rank in range(5)]
    assert all(each == rings[0] for each in rings)
    assert all(sorted(ring) == list(range(5)) for ring in rings[0])
    assert len({tuple(ring) for ring in rings[0]}) == 4


def test_what_a_timed_visit_leaves_is_where_the_next_begins() -> None:
    """A visit too short for more than one cell: as many visits as cells meet every rating once."""
    pairs, ratings = made(120_000)
    model = MatrixFactorization(8, algorithm="rotation", rotation_seconds=1e-9, random_state=0)
    share = Share(0, 2, Beginning.of(model, read(pairs, ratings, None)))
    cells = [share.visit(0, 0, 0.1)[1] for _ in range(6)]
    inside = int(((pairs[:, 0] < 20) & (pairs[:, 1] < 7)).sum())
    assert inside in np.cumsum(cells)[1:]
    assert 0 < max(cells) < inside


@pytest.mark.parametrize("on", [ls.Threads(2), ls.Simulated(3)], ids=str)
def test_a_timed_rotation_learns(on: ls.Transport) -> None:
    pairs, ratings = made(40_000)
    model = rotate(on, pairs, ratings, 8, l2=0.001, max_iter=200, rotation_seconds=1e-6)
    assert np.sqrt(np.mean((model.predict(pairs) - ratings) ** 2)) < 0.3 * ratings.std()


def test_without_an_intercept_there_are_no_biases() -> None:
    model = rotate(ls.Threads(2), *made(), 8, l2=0.05, max_iter=EPOCHS, fit_intercept=False)
    assert_same(model, sequential(2, fit_intercept=False))
    assert model.mean_ == 0
    assert model.user_bias_ is model.item_bias_ is None


def test_it_is_as_good_as_the_estimator_and_goes_on_as_one() -> None:
    pairs, ratings = made()
    model = rotate(ls.Threads(3), pairs, ratings, 8, l2=0.001, max_iter=60)
    alone = MatrixFactorization(8, l2=0.001, max_iter=60, random_state=0).fit(pairs, ratings)
    off = [float(np.sqrt(np.mean((each.predict(pairs) - ratings) ** 2))) for each in (model, alone)]
    assert max(off) < 0.1 < 2 < ratings.std()
    model.partial_fit(pairs, ratings)
    assert model.n_iter_ == len(model.rmse_) == 61
    assert model.rmse_[-1] < 1.05 * model.rmse_[-2]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_pair_is_visited_once_an_epoch(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    visited = np.ones(2)
    monkeypatch.setattr(Share, "visit", lambda self, slice_, k, rate: seen.append((self.rank, slice_)) or visited)
    rotate(ls.Threads(size), *made(), 8, max_iter=1)
    assert sorted(seen) == [(rank, slice_) for rank in range(size) for slice_ in range(2 * size)]


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"4 workers need 4 users and 8 items, got \(40, 5\)"):
        rotate(ls.Threads(4), *made(items=5))
    with pytest.raises(TypeError, match="on must be a Transport, got .*did you mean Threads"):
        rotate(ls.Threads, *made())
    with pytest.raises(ValueError, match="l2 must be at least 0 and finite, got -1"):
        rotate(ls.Threads(2), *made(), l2=-1)
    with pytest.raises((Diverged, WorkerFailed), match="diverged"):
        rotate(ls.Threads(2), *made(), learning_rate=1e30)


RANK = """
import loosestep as ls
from tests.sparse.test_factor_rotation import EPOCHS, assert_same, made, sequential
from loosestep.sparse.rotation import rotate
for order in ("ring", "permutation"):
    model = rotate(ls.MPI(), *made(), 8, l2=0.05, max_iter=EPOCHS, rotation_order=order)
    assert_same(model, sequential(ls.MPI().size, algorithm="rotation", rotation_order=order))
timed = rotate(ls.MPI(), *made(), 8, l2=0.05, max_iter=50, rotation_seconds=1e-6)
assert timed.rmse_[-1] < 0.8 * timed.rmse_[0]
print("the same bits")
"""


@needs_mpi
def test_processes_give_the_same_bits(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    job = ended("-n", 2, script(tmp_path, RANK), environment={**os.environ, "PYTHONPATH": root})
    assert job.process.returncode == 0, job.out + job.err
    assert job.out.count("the same bits") == 2
