"""Bayesian logistic regression: the posterior by quadrature, calibrated probabilities, scikit-learn's contract."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning, SkipTestWarning
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import check_estimator

import loosestep as ls
from loosestep.sparse import BayesianLogisticRegression
from loosestep.sparse.bayesian import Potential


def test_the_posterior_of_two_weights_is_that_of_quadrature() -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(20, 1)) * 3
    y = (X[:, 0] + rng.normal(size=20) > 0).astype(int)
    slope, intercept = np.meshgrid(np.linspace(-2, 8, 300), np.linspace(-5, 5, 300), indexing="ij")
    scores = X[:, 0, None, None] * slope + intercept
    sign = np.where(y, -1, 1)[:, None, None]
    log = -np.logaddexp(0, sign * scores).sum(axis=0) - 0.5 * (slope**2 + intercept**2)
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    model = BayesianLogisticRegression(draws=400, random_state=0).fit(X, y)
    for found, grid in ((model.draws_[..., 0, 0], slope), (model.draws_[..., 0, 1], intercept)):
        mean = (weight * grid).sum()
        spread = np.sqrt((weight * grid**2).sum() - mean**2)
        assert found.mean() == pytest.approx(mean, abs=0.12 * spread)
        assert found.std() == pytest.approx(spread, rel=0.1)
    expected = (weight / (1 + np.exp(-2.0 * slope - intercept))).sum()
    assert model.predict_proba([[2.0]])[0, 1] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_gradient_is_that_of_the_value(outputs: int) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, max(2, outputs), 30)
    X = rng.normal(size=(30, 4))
    dense, sparse = (Potential(rows, labels, outputs, 0.7) for rows in (X, sp.csr_array(X)))
    x, way = (rng.normal(size=outputs * 5) for _ in range(2))
    value, slope = dense.gradient(x, None)
    near = [dense.gradient(x + step * way, None)[0] for step in (1e-5, -1e-5)]
    assert (near[0] - near[1]) / 2e-5 == pytest.approx(slope @ way, rel=1e-6)
    assert sparse.gradient(x, None)[0] == pytest.approx(value)
    hessian = [dense.gradient(x + 1e-5 * row, None)[1] - slope for row in np.eye(x.size)]
    assert np.linalg.eigvalsh(np.array(hessian) * 1e5 * 30).max() < dense.curvature()


def calibration_error(sure: Any, right: Any) -> float:
    """The mean distance of confidence and accuracy over ten bins of confidence."""
    place = np.minimum((sure * 10).astype(int), 9)
    bins = [place == number for number in range(10)]
    return float(sum(abs(sure[each].mean() - right[each].mean()) * each.mean() for each in bins if each.any()))


@pytest.mark.filterwarnings("ignore:the chains disagree", "ignore:gradients of")
def test_probabilities_are_calibrated_where_the_best_weights_are_too_sure() -> None:
    """30 weights from their prior, 40 rows: log loss and calibration error, means over three sets."""
    found = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        true, X = rng.normal(size=30), rng.normal(size=(2040, 30))
        y = (rng.random(2040) < 1 / (1 + np.exp(-X @ true))).astype(int)
        told = []
        for model in (
            BayesianLogisticRegression(draws=40, burn_in=100, random_state=seed),
            LogisticRegression(C=1.0),
        ):
            right = model.fit(X[:40], y[:40]).predict(X[40:]) == y[40:]
            odds = model.predict_proba(X[40:])
            loss = -np.log(odds[np.arange(2000), y[40:]]).mean()
            told.append((loss, calibration_error(odds.max(axis=1), right)))
        found.append(told)
    (loss, off), (of_best, off_of_best) = np.mean(found, axis=0)
    assert loss < of_best - 0.05
    assert off < 0.5 * off_of_best


def test_chains_agree_and_have_streams_of_their_own() -> None:
    pytest.importorskip("arviz_stats")
    X = np.random.default_rng(0).normal(size=(50, 2))
    y = X[:, 0] > 0.5 * X[:, 1]
    model = BayesianLogisticRegression(draws=300, burn_in=50, random_state=0).fit(X, y)
    assert model.draws_.shape == (4, 300, 1, 3)
    assert model.rhat().shape == (1, 3)
    assert model.rhat().max() < 1.02
    assert model.ess().min() > 200


@pytest.mark.filterwarnings("ignore:the chains disagree", "ignore:gradients of")
def test_sparse_rows_threads_batches_and_seeds() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3)) * (rng.random((80, 3)) < 0.5)
    y = np.argmax(X + rng.normal(size=(80, 3)), axis=1)
    few: dict[str, Any] = {"draws": 20, "burn_in": 20, "random_state": 3}
    dense = BayesianLogisticRegression(**few).fit(X, y)
    assert dense.predict_proba(X).sum(axis=1) == pytest.approx(np.ones(80))
    for other in (sp.csr_array(X), sp.csr_matrix(X)):
        assert np.abs(BayesianLogisticRegression(**few).fit(other, y).draws_ - dense.draws_).max() < 1e-5
    threads = BayesianLogisticRegression(**few, on=ls.Threads(4)).fit(X, y)
    assert threads.draws_.tobytes() == dense.draws_.tobytes()
    batches = BayesianLogisticRegression(**few, batch_size=20).fit(X, y)
    assert np.abs(batches.draws_ - dense.draws_).max() > 1e-3
    assert BayesianLogisticRegression(**few, on=ls.Serial()).fit(X, y).draws_.shape[0] == 1


def test_a_fit_warns_of_chains_that_disagree_and_of_batches_that_widen_the_posterior() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    y = (rng.random(200) < 1 / (1 + np.exp(-X @ [1.0, -0.5]))).astype(int)
    options: dict[str, Any] = {"draws": 100, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = BayesianLogisticRegression(**options).fit(X, y)
        BayesianLogisticRegression(draws=3, burn_in=0, batch_size=199).fit(X, y)
    with pytest.warns(
        ConvergenceWarning, match=r"of 20 of 200 rows make variances up to (.*) times those"
    ) as told:
        widened = BayesianLogisticRegression(**options, batch_size=20).fit(X, y)
    times = float(str(told[0].message).split(" times")[0].split()[-1])
    found = widened.draws_.var(axis=(0, 1)) / whole.draws_.var(axis=(0, 1))
    assert times == pytest.approx(found.max(), rel=0.4)
    assert found.min() > 2
    with pytest.warns(ConvergenceWarning, match=r"^the chains disagree: R-hat is .*, and near 1 where they have"):
        BayesianLogisticRegression(draws=50, random_state=0).fit(np.where(y[:, None], 4, -4) + X, y)


def test_what_is_wrong_is_refused() -> None:
    X, y = np.eye(4), [0, 1, 0, 1]
    with pytest.raises(ValueError, match=r"^alpha must be above 0 and finite, got 0$"):
        BayesianLogisticRegression(0).fit(X, y)
    with pytest.raises(ValueError, match=r"^draws must be at least 1, got 0$"):
        BayesianLogisticRegression(draws=0).fit(X, y)
    with pytest.raises(
        ValueError, match=r"^friction must be above 0, as noise replaces what it takes away, got 0$"
    ):
        BayesianLogisticRegression(friction=0).fit(X, y)
    with pytest.raises(ValueError, match=r"^friction must be at most 1, got 2$"):
        BayesianLogisticRegression(friction=2).fit(X, y)


def test_it_is_an_estimator() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)
        check_estimator(BayesianLogisticRegression(draws=2, burn_in=2, thin=1, on=ls.Serial(), random_state=0))
