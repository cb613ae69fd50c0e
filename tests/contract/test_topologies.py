"""What every topology promises of its mixing matrices, for 1 to 17 workers, at steps 0 to 2 log2 n."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from tests.contract.discovery import discover

import loosestep as ls
from loosestep import topologies
from loosestep.topologies.base import Topology

SIZES = range(1, 18)
FOUND = [kind.example() for kind in discover(topologies, Topology)]
REFUSED = [(topology, n) for topology in FOUND for n in SIZES if not topology.serves(n)]
every_topology = pytest.mark.parametrize("topology", FOUND, ids=repr)


def steps(n: int) -> range:
    """From 0 to 2 log2 n, rounded up; at least three."""
    return range(max(3, 2 * (n - 1).bit_length() + 1))


# --- the promises, as functions: below they are held against topologies that break them ----------------------


def weights_are_of_the_declared_kind(topology: Topology, n: int) -> None:
    for step in steps(n):
        mixing = topology.matrix(n, step)
        assert mixing.shape == (n, n)
        assert (mixing >= 0).all()
        if topology.stochastic in ("doubly", "row"):
            assert mixing.sum(axis=1) == pytest.approx(np.ones(n), abs=2e-15), f"rows, step {step}"
        if topology.stochastic in ("doubly", "column"):
            assert mixing.sum(axis=0) == pytest.approx(np.ones(n), abs=2e-15), f"columns, step {step}"


def readers_are_those_whose_rows_hold_a_worker(topology: Topology, n: int) -> None:
    for step in steps(n):
        mixing = topology.matrix(n, step)
        for rank in range(n):
            weights = topology.weights(rank, n, step)
            reading = tuple(other for other in range(n) if other != rank and mixing[other, rank])
            assert weights.readers == reading, f"rank {rank}, step {step}"
            assert [other for other, _ in weights.row] == sorted({other for other, _ in weights.row})
            assert dict(weights.row) == {other: mixing[rank, other] for other in np.flatnonzero(mixing[rank])}


def matrices_are_symmetric_where_it_says_so(topology: Topology, n: int) -> None:
    matrices = [topology.matrix(n, step) for step in steps(n)]
    alike = all((mixing == mixing.T).all() for mixing in matrices)
    assert alike >= topology.symmetric
    assert alike == topology.symmetric or n < 5, "of so few workers a directed graph may be symmetric"


def matrices_repeat_after_a_period(topology: Topology, n: int) -> None:
    period = topology.period(n)
    if period is None:  # drawn anew, by the step
        drawn = [topology.matrix(n, step) for step in range(20)]
        assert n < 4 or any((mixing != drawn[0]).any() for mixing in drawn)
        assert all((topology.matrix(n, step) == mixing).all() for step, mixing in enumerate(drawn))
        return
    assert period >= 1
    for step in steps(n):
        assert (topology.matrix(n, step) == topology.matrix(n, step + period)).all(), f"step {step}"


def everybody_hears_of_everybody(topology: Topology, n: int) -> None:
    """From any step on; and once they have heard enough all say the same."""
    for begin in steps(n):
        product = np.eye(n)
        for step in range(begin, begin + max(4 * n, 2 * (topology.period(n) or 1))):
            product = topology.matrix(n, step) @ product
        assert (product > 0).all(), f"from step {begin}"
    assert n == 1 or topology.spectral_gap(n) > 1e-3


def the_gap_is_that_of_the_matrices(topology: Topology, n: int) -> None:
    gap = topology.gap(n)
    if gap is not None:
        near = 1e-7 if topology.period(n) else 0.15  # of a root that is not simple; of 64 draws
        assert gap == pytest.approx(topology.spectral_gap(n), abs=near)


def the_spectrum_is_that_of_the_matrix(topology: Topology, n: int) -> None:
    known = topology.spectrum(n)
    eigenvalues = np.linalg.eigvals(topology.matrix(n))
    if known is not None:
        assert topology.period(n) == 1
        for power in (1, 2, 3):  # sums of powers say all of them, in no order
            assert (known**power).sum() == pytest.approx((eigenvalues**power).sum(), abs=1e-9)
    if topology.period(n) == 1:
        assert topology.smallest_eigenvalue(n) == pytest.approx(eigenvalues.real.min(), abs=1e-7)


def nothing_is_wrong_with_it(topology: Topology, n: int) -> None:
    assert topology.faults(n) == []
    assert topology.is_connected(n)


def degrees_are_those_of_the_readers(topology: Topology, n: int) -> None:
    for step in steps(n):
        sent = [len(topology.readers(rank, n, step)) for rank in range(n)]
        assert topology.degree(n, step) == pytest.approx(sum(sent) / n)
        assert topology.most_neighbours(n, step) == max(sent)


PROMISES = [
    weights_are_of_the_declared_kind,
    readers_are_those_whose_rows_hold_a_worker,
    matrices_are_symmetric_where_it_says_so,
    matrices_repeat_after_a_period,
    everybody_hears_of_everybody,
    the_gap_is_that_of_the_matrices,
    the_spectrum_is_that_of_the_matrix,
    nothing_is_wrong_with_it,
    degrees_are_those_of_the_readers,
]


@every_topology
@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_a_promise_is_kept(topology: Topology, promise: Callable[[Topology, int], None]) -> None:
    for n in filter(topology.serves, SIZES):
        promise(topology, n)


@pytest.mark.parametrize(("topology", "n"), REFUSED, ids=str)
def test_other_sizes_are_refused_in_a_sentence(topology: Topology, n: int) -> None:
    with pytest.raises(ValueError, match="serves ") as caught:
        topology.matrix(n)
    assert str(caught.value) == f"{topology!r} serves {topology.sizes}, got {n}"


@every_topology
def test_it_serves_some_sizes_and_says_which(topology: Topology) -> None:
    served = [n for n in range(1, 129) if topology.serves(n)]
    assert served
    assert (len(served) == 128) == (topology.sizes == Topology.sizes)


@every_topology
def test_it_is_a_value(topology: Topology) -> None:
    assert eval(repr(topology), vars(ls).copy()) == topology
    assert pickle.loads(pickle.dumps(topology)) == topology
    with pytest.raises(ValueError, match=r"^size must be at least 1, got 0$"):
        topology.matrix(0)


# --- that broken promises are found --------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Ahead(Topology):
    """Half of oneself, half of the worker ahead: 1, 2, 1, 2, ... places."""

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        ahead = (rank + self.distance(step)) % size
        return {rank: 0.5, ahead: 0.5} if ahead != rank else {rank: 1.0}

    def readers(self, rank: int, size: int, step: int) -> tuple[int, ...]:
        behind = (rank - self.distance(step)) % size
        return (behind,) if behind != rank else ()

    def period(self, size: int) -> int:
        return 2

    @staticmethod
    def distance(step: int) -> int:
        return 1 + step % 2


class LateReaders(Ahead):
    """Right at the first step alone."""

    def readers(self, rank: int, size: int, step: int) -> tuple[int, ...]:
        return super().readers(rank, size, 0)


class Fixed(Ahead):
    """It does not say that it changes."""

    def period(self, size: int) -> int:
        return 1


@dataclass(frozen=True, repr=False)
class Hub(Topology):
    """Everybody reads worker 0, which reads nobody else: rows sum to 1, columns do not."""

    stochastic: ClassVar[Literal["doubly", "row", "column"]] = "doubly"

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        return {0: 0.5, rank: 0.5} if rank else {0: 1.0}

    def readers(self, rank: int, size: int, step: int) -> tuple[int, ...]:
        return () if rank else tuple(range(1, size))


class RowHub(Hub):
    stochastic = "row"


class ColumnHub(Hub):
    stochastic = "column"


@dataclass(frozen=True, repr=False)
class Alone(Topology):
    """Nobody mixes with anybody."""

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        return {rank: 1.0}


class Hopeful(ls.Ring):
    def gap(self, size: int) -> float:
        return 0.5


class Guessed(ls.Ring):
    def spectrum(self, size: int) -> Any:
        return np.linspace(-1, 1, size)


class Undirected(ls.OnePeerExponential):
    symmetric = True


class Always(ls.RandomMatching):
    """It does not say that it is drawn anew."""

    def period(self, size: int) -> int:
        return 1


class Lonely(ls.Ring):
    def degree(self, size: int, step: int | None = None) -> float:
        return 1.0


BROKEN: list[tuple[Topology, Any]] = [
    (LateReaders(), readers_are_those_whose_rows_hold_a_worker),
    (Fixed(), matrices_repeat_after_a_period),
    (Hub(), weights_are_of_the_declared_kind),
    (ColumnHub(), weights_are_of_the_declared_kind),
    (RowHub(), everybody_hears_of_everybody),
    (Alone(), everybody_hears_of_everybody),
    (Hopeful(), the_gap_is_that_of_the_matrices),
    (Guessed(), the_spectrum_is_that_of_the_matrix),
    (Undirected(), matrices_are_symmetric_where_it_says_so),
    (Always(), matrices_repeat_after_a_period),
    (Alone(), nothing_is_wrong_with_it),
    (Lonely(), degrees_are_those_of_the_readers),
]


@pytest.mark.parametrize(("topology", "broken"), BROKEN, ids=lambda value: getattr(value, "__name__", repr(value)))
def test_a_promise_that_is_broken_is_found(topology: Topology, broken: Callable[[Topology, int], None]) -> None:
    with pytest.raises(AssertionError):
        broken(topology, 8)


@pytest.mark.parametrize("topology", [Ahead(), RowHub()], ids=repr)
def test_those_that_break_none_pass(topology: Topology) -> None:
    for promise in PROMISES:
        heard = promise in (everybody_hears_of_everybody, nothing_is_wrong_with_it)
        if not heard or topology != RowHub():  # its hub hears of nobody
            promise(topology, 8)


def test_the_ring_by_hand() -> None:
    assert ls.Ring().matrix(6)[0].tolist() == [1 / 3, 1 / 3, 0, 0, 0, 1 / 3]
    assert np.linalg.eigvalsh(ls.Ring().matrix(6))[0] == pytest.approx(-1 / 3)
    assert ls.Ring().spectral_gap(8) != pytest.approx(ls.Torus().spectral_gap(8))
