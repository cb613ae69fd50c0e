"""Decentralised SSFN: what the centralised network is, for any partition, over any topology and transport."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.exceptions import SkipTestWarning
from sklearn.utils.estimator_checks import check_estimator

import loosestep as ls
from loosestep.sparse import SSFNClassifier
from loosestep.sparse.ssfn import next_layer, with_constant

Array = NDArray[Any]
rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3))
Y = np.digitize(X[:, 0] * X[:, 1], [-0.3, 0.3])
TARGETS = np.eye(3)[Y].T
TIGHT = 0.25
"""A bound that both layers reach."""


def exact(y: Array, bound: float) -> Array:
    """argmin ||T - O y||^2, ||O||_F <= bound, by the multiplier: O = T y' (y y' + l I)^-1."""
    values, vectors = np.linalg.eigh(y @ y.T)
    cross = TARGETS @ y.T @ vectors

    def found(multiplier: float) -> Array:
        return np.asarray((cross / (values + multiplier)) @ vectors.T)

    low, high = 1e-12, 1e6
    if np.linalg.norm(found(low)) <= bound:
        return found(0.0)
    for _ in range(200):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if np.linalg.norm(found(middle)) > bound else (low, middle)
    return found(high)


def fitted(**options: Any) -> SSFNClassifier:
    return SSFNClassifier(1, 8, **{"iterations": 1500, "alpha": TIGHT, **options}).fit(X, Y)


@pytest.mark.parametrize("on", [None, ls.Threads(4), ls.Simulated(7)], ids=repr)
def test_however_rows_are_dealt_it_is_the_centralised_solution(on: Any) -> None:
    model = fitted(on=on)
    bound = TIGHT * np.sqrt(6)
    y = with_constant(X)
    for number, output in enumerate(model.outputs_):
        wanted = exact(y, bound)
        assert np.linalg.norm(wanted) == pytest.approx(bound), "the constraint is active"
        assert np.abs(output - wanted).max() < 1e-10
        assert model.costs_[number] == pytest.approx(((TARGETS - wanted @ y) ** 2).sum())
        y = next_layer(y, output, model.hidden_[0]) if not number else y


def test_alone_it_is_the_centralised_iteration() -> None:
    """O = (T Y' + (Z - L)/mu)(Y Y' + I/mu)^-1, Z = projection(O + L), L += O - Z."""
    model, y, mu, bound = fitted(mu=0.5, iterations=7), with_constant(X), 0.5, TIGHT * np.sqrt(6)
    z = dual = np.zeros((3, 4))
    for _ in range(7):
        output = (TARGETS @ y.T + (z - dual) / mu) @ np.linalg.inv(y @ y.T + np.eye(4) / mu)
        z = output + dual
        z = z * min(1.0, bound / np.linalg.norm(z))
        dual = dual + output - z
    assert np.abs(model.outputs_[0] - z).max() < 1e-14


def test_gossip_is_off_by_the_second_eigenvalue() -> None:
    """Its error falls as lambda_2^gossip does, and many rounds are the mean."""
    options: dict[str, Any] = {"alpha": TIGHT, "iterations": 80}
    ring: dict[str, Any] = {"on": ls.Simulated(5), "topology": ls.Ring()}
    mean = SSFNClassifier(0, on=ls.Simulated(5), **options).fit(X, Y).outputs_[0]
    few, more, many = (
        np.abs(SSFNClassifier(0, gossip=rounds, **ring, **options).fit(X, Y).outputs_[0] - mean).max()
        for rounds in (2, 6, 30)
    )
    second = 1 - ls.Ring().spectral_gap(5)
    assert more < 3 * few * second**4
    assert many < 1e-6


def test_the_cost_falls_from_layer_to_layer_and_the_bound_holds() -> None:
    model = SSFNClassifier(3, 20, alpha=1.0, iterations=400, on=ls.Simulated(3)).fit(X, Y)
    assert len(model.outputs_) == len(model.costs_) == 4
    assert all(after <= before + 1e-6 for before, after in zip(model.costs_, model.costs_[1:], strict=False))
    assert model.costs_[-1] < 0.8 * model.costs_[0]
    assert all(np.linalg.norm(output) <= np.sqrt(6) + 1e-9 for output in model.outputs_)
    assert model.score(X, Y) > 0.75


def test_threads_and_virtual_time_give_the_same_bits() -> None:
    one, other = (fitted(iterations=20, on=on) for on in (ls.Threads(3), ls.Simulated(3)))
    assert all((a == b).all() for a, b in zip(one.outputs_, other.outputs_, strict=True))
    assert (one.predict(X) == other.predict(X)).all()


def test_what_is_wrong_is_refused() -> None:
    with pytest.raises(ValueError, match="layers must be at least 0, got -1"):
        SSFNClassifier(-1).fit(X, Y)
    with pytest.raises(ValueError, match="topology must be doubly stochastic, to find means"):
        SSFNClassifier(topology=ls.Graph(((0.5, 0.2), (0.5, 0.8)))).fit(X, Y)
    with pytest.raises(ValueError, match=r"serves multiples of its group, got 3"):
        SSFNClassifier(on=ls.Simulated(3), topology=ls.HierarchicalRing()).fit(X, Y)


def test_it_is_an_estimator() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)
        check_estimator(SSFNClassifier(1, 20, iterations=20))
