"""What every topology promises of its mixing matrix, from 1 to 17 workers."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from math import cos, pi

import numpy as np
import pytest
from tests.contract.discovery import discover

import loosestep as ls
from loosestep import topologies
from loosestep.topologies.base import Topology

KINDS = discover(topologies, Topology)
every_topology = pytest.mark.parametrize("topology", [kind.example() for kind in KINDS], ids=repr)
every_size = pytest.mark.parametrize("n", range(1, 18))


def columns(n: int) -> int:
    """The longer side of the most nearly square grid."""
    return min(side for side in range(1, n + 1) if n % side == 0 and side * side >= n)


GAPS: dict[str, Callable[[int], tuple[float, float]]] = {
    r"spectral gap 1\.": lambda n: (1.0, 1.0),
    r"spectral gap 2/3 \(1 - cos\(2 pi/n\)\) for n > 3": lambda n: (2 / 3 * (1 - cos(2 * pi / n)),) * 2,
    r"Spectral gap 2/5 \(1 - cos\(2 pi/c\)\) for c >= 3 columns": lambda n: (
        (2 / 5 * (1 - cos(2 * pi / columns(n))),) * 2 if columns(n) > 2 else (0, 1)
    ),
}
"""What a docstring may say of the gap, as (least, most) for n > 3."""


@every_topology
@every_size
def test_rows_and_columns_sum_to_one(topology: Topology, n: int) -> None:
    mixing = topology.matrix(n)
    assert mixing.shape == (n, n)
    assert (mixing >= 0).all()
    assert mixing.sum(axis=0) == pytest.approx(np.ones(n), abs=1e-15)
    assert mixing.sum(axis=1) == pytest.approx(np.ones(n), abs=1e-15)


@every_topology
@every_size
def test_readers_are_those_whose_rows_hold_a_worker(topology: Topology, n: int) -> None:
    mixing = topology.matrix(n)
    for rank in range(n):
        weights = topology.weights(rank, n)
        assert weights.readers == tuple(other for other in range(n) if other != rank and mixing[other, rank])
        assert [other for other, _ in weights.row] == sorted({other for other, _ in weights.row})
        assert dict(weights.row) == {other: mixing[rank, other] for other in np.flatnonzero(mixing[rank])}


@every_topology
@every_size
def test_everybody_hears_of_everybody_in_the_end(topology: Topology, n: int) -> None:
    assert (np.linalg.matrix_power(topology.matrix(n), 4 * n) > 0).all()


@every_topology
@every_size
def test_the_spectral_gap_is_as_documented(topology: Topology, n: int) -> None:
    text = " ".join((type(topology).__doc__ or "").split())
    found = [gap for sentence, gap in GAPS.items() if re.search(sentence, text)]
    assert len(found) == 1, "the docstring must state the spectral gap, in one of the known sentences"
    gap = topology.spectral_gap(n)
    assert 0 < gap <= 1 + 1e-12
    if n > 3:
        least, most = found[0](n)
        assert least - 1e-9 <= gap <= most + 1e-9


def test_a_gap_that_is_wrong_shows() -> None:
    assert ls.Ring().spectral_gap(8) != pytest.approx(ls.Torus().spectral_gap(8))
    assert ls.Ring().matrix(6)[0].tolist() == [1 / 3, 1 / 3, 0, 0, 0, 1 / 3]
    assert np.linalg.eigvalsh(ls.Ring().matrix(6))[0] == pytest.approx(-1 / 3)


@every_topology
def test_it_is_a_value(topology: Topology) -> None:
    assert eval(repr(topology), vars(ls).copy()) == topology
    assert pickle.loads(pickle.dumps(topology)) == topology
    with pytest.raises(ValueError, match=r"^size must be at least 1, got 0$"):
        topology.matrix(0)
