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
from loosestep.sparse.ratings import Ratings
from loosestep.sparse.rotation import Share, rotate

EPOCHS = 3


def made(count: int = 3000, users: int = 40, items: int = 30) -> Ratings:
    random = np.random.default_rng(0)
    u, i = random.integers(users, size=count, dtype=np.uint32), random.integers(items, size=count, dtype=np.uint32)
    p, q = random.normal(size=(users, 3)), random.normal(size=(items, 3))
    return Ratings(u, i, np.einsum("nk,nk->n", p[u], q[i]).astype(np.float32), (users, items))


def sequential(size: int) -> list[Share]:
    """One pair (worker, slice) after the other, slices handed on by hand."""
    shares = [Share(rank, size, made(), 8, 0.05, 0) for rank in range(size)]
    for _ in range(EPOCHS):
        for share in shares:
            share.errors.append(0.0)
        for round_ in range(size):
            for share in shares:
                for k in (0, 1):
                    share.errors[-1] += share.visit(2 * ((share.rank - round_) % size) + k, k, 0.1)
            held = [share.here for share in shares]
            for share in shares:
                share.here = held[share.rank - 1]
    return shares


def arrays(shares: list[Share]) -> list[Any]:
    return [array for share in shares for array in (share.users.rows, *(each.buffer for each in share.here))]


TRANSPORTS = [ls.Serial(), ls.Threads(2), ls.Threads(3), ls.Simulated(2), ls.Simulated(5)]


@pytest.mark.parametrize("on", TRANSPORTS, ids=str)
def test_a_rotation_is_its_sequential_replay_bit_for_bit(on: ls.Transport) -> None:
    shares, expected = rotate(on, made(), 8, max_iter=EPOCHS), sequential(on.size)
    for one, other in zip(arrays(shares), arrays(expected), strict=True):
        np.testing.assert_array_equal(one, other)
    errors = [sum(share.errors[epoch] for share in shares) for epoch in range(EPOCHS)]
    assert errors == [sum(share.errors[epoch] for share in expected) for epoch in range(EPOCHS)]
    assert errors[-1] < 0.5 * errors[0]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_pair_is_visited_once_an_iteration(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(Share, "visit", lambda self, slice_, k, rate: seen.append((self.rank, slice_)) or 0.0)
    rotate(ls.Threads(size), made(), 8, max_iter=1)
    assert sorted(seen) == [(rank, slice_) for rank in range(size) for slice_ in range(2 * size)]


def test_too_few_items_are_named() -> None:
    with pytest.raises(ValueError, match=r"4 workers need 4 users and 8 items, got \(40, 5\)"):
        rotate(ls.Threads(4), made(items=5))


RANK = """
import numpy as np
import loosestep as ls
from tests.sparse.test_factor_rotation import EPOCHS, arrays, made, sequential
from loosestep.sparse.rotation import rotate
shares = rotate(ls.MPI(), made(), 8, max_iter=EPOCHS)
expected = [share for share in sequential(ls.MPI().size) if share.rank in [mine.rank for mine in shares]]
for one, other in zip(arrays(shares), arrays(expected), strict=True):
    np.testing.assert_array_equal(one, other)
print("the same bits")
"""


@needs_mpi
def test_processes_give_the_same_bits(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    job = ended("-n", 3, script(tmp_path, RANK), environment={**os.environ, "PYTHONPATH": root})
    assert job.process.returncode == 0, job.out + job.err
    assert job.out.count("the same bits") == 3
