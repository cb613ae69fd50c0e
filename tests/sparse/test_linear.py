"""HogwildClassifier and HogwildRegressor: scikit-learn's conventions, objectives, and what users do wrong."""

from __future__ import annotations

import pickle
import re
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from loosestep.sparse import HogwildClassifier, HogwildRegressor
from loosestep.sparse.linear_trainer import Trainer

ESTIMATORS = [HogwildClassifier, HogwildRegressor]

REPEATED = "a row of weight 2 is visited once, a repeated row twice, as by scikit-learn's own SGD"
UNEQUAL = {f"check_sample_weight_equivalence_on_{kind}_data": REPEATED for kind in ("dense", "sparse")}


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [
        HogwildClassifier(),
        HogwildRegressor(),
        HogwildClassifier(loss="log_loss", n_threads=2, deterministic=True),
        HogwildRegressor(n_threads=2, deterministic=True),
    ],
    expected_failed_checks=lambda estimator: UNEQUAL,
)
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def digits() -> tuple[Any, Any]:
    images, labels = load_digits(return_X_y=True)
    return sp.csr_matrix(images / 16), labels


def two_classes() -> tuple[Any, Any]:
    images, labels = digits()
    return images, np.where(labels < 5, "low", "high")


def mean_log_loss(scores: Any, places: Any) -> float:
    return float((np.logaddexp.reduce(scores, axis=1) - scores[np.arange(len(places)), places]).mean())


# --- objectives --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_threads", [1, 2])
def test_logistic_regression_reaches_the_converged_solvers_objective(n_threads: int) -> None:
    images, labels = two_classes()
    alpha = 1e-2
    signs = np.where(labels == "low", 1, -1)

    def objective(coef: Any, intercept: Any) -> float:
        losses = np.logaddexp(0, -signs * (images @ coef + intercept))
        return float(losses.mean() + alpha / 2 * coef @ coef)

    best = LogisticRegression(C=1 / (alpha * len(labels)), max_iter=1000).fit(images, labels)
    ours = HogwildClassifier(
        "log_loss", alpha=alpha, learning_rate="backoff", eta0=0.1, decay=0.8, max_iter=40, tol=None,
        n_threads=n_threads, random_state=0,
    ).fit(images.toarray(), labels)  # fmt: skip
    found = objective(ours.coef_[0], ours.intercept_[0])
    assert found < 1.005 * objective(best.coef_[0], best.intercept_[0])


def test_softmax_reaches_the_converged_solvers_objective() -> None:
    images, labels = digits()
    best = LogisticRegression(C=1 / (1e-3 * len(labels)), max_iter=1000).fit(images, labels)
    ours = HogwildClassifier(
        "log_loss", multi_class="multinomial", alpha=1e-3, learning_rate="backoff", eta0=0.3, decay=0.85,
        max_iter=60, tol=None, n_threads=2, random_state=0,
    ).fit(images.toarray(), labels)  # fmt: skip

    def objective(model: Any) -> float:
        losses = mean_log_loss(model.decision_function(images), labels)
        return losses + 1e-3 / 2 * float((model.coef_**2).sum())

    assert objective(ours) < 1.01 * objective(best)
    np.testing.assert_allclose(ours.predict_proba(images).sum(axis=1), 1)


def test_regression_is_ridge() -> None:
    random = np.random.default_rng(0)
    inputs = random.normal(size=(2000, 8))
    outputs = inputs @ np.arange(8.0) + 3 + random.normal(size=2000)
    best = Ridge(alpha=0.1 * 2000).fit(inputs, outputs)
    ours = HogwildRegressor(
        alpha=0.1,
        learning_rate="backoff",
        eta0=0.02,
        decay=0.7,
        max_iter=25,
        tol=None,
        n_threads=2,
        random_state=0,
    ).fit(inputs, outputs)
    np.testing.assert_allclose(ours.coef_, best.coef_[None], atol=0.03)
    np.testing.assert_allclose(ours.intercept_, best.intercept_, atol=0.03)


def test_l1_makes_weights_zero() -> None:
    images, labels = two_classes()
    options: dict[str, Any] = {"alpha": 0.01, "learning_rate": "backoff", "eta0": 0.1, "random_state": 0}
    sparse = HogwildClassifier("log_loss", penalty="l1", **options).fit(images, labels)
    dense = HogwildClassifier("log_loss", penalty="l2", **options).fit(images, labels)
    assert (sparse.coef_ == 0).sum() > 20
    assert (dense.coef_[:, 1:-1] == 0).sum() < 10


@pytest.mark.parametrize("learning_rate", ["optimal", "constant", "invscaling", "adaptive", "backoff", "adagrad"])
@pytest.mark.parametrize("loss", ["log_loss", "hinge", "squared_hinge"])
def test_every_rate_and_loss_learns(learning_rate: str, loss: str) -> None:
    images, labels = digits()
    eta0 = 0.02 if loss == "squared_hinge" else 0.1
    options: dict[str, Any] = {"learning_rate": learning_rate, "eta0": eta0, "power_t": 0.25}
    model = HogwildClassifier(loss, **options, n_threads=2, random_state=0, max_iter=30, tol=None)
    assert model.fit(images, labels).score(images, labels) > 0.93


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "bfloat16"}, {"average": True}, {"average": 5000}, {"adds": "exact"},
        {"regularize": "touched"},
        {"head": 0}, {"head": 10, "period": 50}, {"deterministic": True}, {"block_rows": 400},
        {"early_stopping": True},
        {"class_weight": "balanced"}, {"penalty": "elasticnet"}, {"penalty": None}, {"fit_intercept": False},
        {"diagnose": True}, {"max_iter": 12, "warm_start": True, "tol": None},
    ],
    ids=str,
)  # fmt: skip
def test_every_option_learns(options: dict[str, Any]) -> None:
    images, labels = digits()
    model = HogwildClassifier("log_loss", alpha=1e-4, n_threads=2, random_state=0, **options)
    model.fit(images, labels)
    if options.get("warm_start"):
        model.fit(images, labels)
    assert model.score(images, labels) > 0.93
    assert options.get("fit_intercept", True) == bool(model.intercept_.any())


def test_the_mean_of_iterates_is_closer_than_the_last() -> None:
    """Constant steps on a noisy regression: the last iterate swings about the optimum, the mean does not."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(5000, 10))
    outputs = inputs @ np.ones(10) + 3 * random.normal(size=5000)
    best = np.linalg.lstsq(inputs, outputs, rcond=None)[0]
    options: dict[str, Any] = {
        "learning_rate": "constant", "eta0": 0.02, "alpha": 0.0, "fit_intercept": False, "max_iter": 20,
        "tol": None, "random_state": 0, "period": 100,
    }  # fmt: skip
    last = HogwildRegressor(**options).fit(inputs, outputs)
    mean = HogwildRegressor(average=20_000, **options).fit(inputs, outputs)
    assert np.linalg.norm(mean.coef_ - best) < 0.2 * np.linalg.norm(last.coef_ - best)


# --- conventions -------------------------------------------------------------------------------------------


def test_one_thread_and_deterministic_threads_repeat_themselves() -> None:
    images, labels = digits()
    for options in ({"n_threads": 1}, {"n_threads": 3, "deterministic": True}):
        model = HogwildClassifier("log_loss", random_state=5, max_iter=4, tol=None, **options)
        first, second = (clone(model).fit(images, labels) for _ in range(2))
        np.testing.assert_array_equal(first.coef_, second.coef_)
        np.testing.assert_array_equal(first.loss_curve_, second.loss_curve_)


def test_it_works_in_pipelines_and_searches_and_pickles() -> None:
    words = ["good fine nice", "bad poor sad"] * 50
    labels = ["yes", "no"] * 50
    pipeline = make_pipeline(HashingVectorizer(n_features=1 << 12), HogwildClassifier("log_loss", random_state=0))
    search = GridSearchCV(pipeline, {"hogwildclassifier__alpha": [1e-5, 1e-3]}, cv=2).fit(words, labels)
    assert search.best_score_ == 1
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(again.predict_proba(words), search.predict_proba(words))


def test_partial_fit_goes_on_also_from_a_pickle() -> None:
    images, labels = digits()
    model = HogwildClassifier("log_loss", random_state=0, n_threads=2, learning_rate="adagrad", eta0=0.1)
    for turn in range(6):
        for begin in range(0, 1797, 300):
            part = slice(begin, begin + 300)
            model.partial_fit(images[part], labels[part], classes=range(10))
        steps = model.t_
        if turn == 2:
            model = pickle.loads(pickle.dumps(model))
            assert model.t_ == steps
    assert model.t_ == 1 + 6 * 1797
    assert model.score(images, labels) > 0.93


def test_rows_on_disk_are_laid_out_a_block_at_a_time(tmp_path: Path) -> None:
    images, labels = digits()
    parts = {}
    for name in ("data", "indices", "indptr"):
        np.save(tmp_path / name, getattr(images, name))
        parts[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    mapped = sp.csr_matrix((parts["data"], parts["indices"], parts["indptr"]), images.shape, copy=False)
    options: dict[str, Any] = {"random_state": 0, "max_iter": 20, "tol": None, "n_threads": 2}
    model = HogwildClassifier("log_loss", block_rows=200, **options).fit(mapped, labels)
    assert model.score(images, labels) > 0.93
    assert model.t_ == 1 + 20 * 1797


def test_a_block_is_laid_out_when_the_one_before_it_is_done_with(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def noted(name: str, run: Any) -> Any:
        return lambda *given: (done.append(name), run(*given))[1]

    for name in ("lay", "pass_over"):
        monkeypatch.setattr(Trainer, name, noted(name, getattr(Trainer, name)))
    images, labels = digits()
    HogwildClassifier(block_rows=600, max_iter=2, tol=None, random_state=0).fit(images, labels)
    assert done == ["lay", "pass_over"] * 6


def test_empty_rows_and_features_nobody_has_are_no_trouble() -> None:
    rows = sp.csr_matrix(np.array([[1, 0, 0], [0, 0, 0], [0, 2, 0], [0, 0, 0]], np.float32))
    model = HogwildClassifier(random_state=0, max_iter=50, tol=None).fit(rows, [0, 1, 1, 1])
    assert model.coef_[0, 2] == 0
    assert model.predict(rows)[0] == 0


def test_weights_of_classes_move_the_boundary() -> None:
    images, labels = two_classes()
    shares = []
    for weight in ({"low": 1, "high": 1}, {"low": 1, "high": 30}):
        model = HogwildClassifier("log_loss", class_weight=weight, alpha=0.05, random_state=0).fit(images, labels)
        shares.append((model.predict(images) == "high").mean())
    assert shares[1] > shares[0] + 0.1


def test_a_diagnosis_says_what_threads_did_to_each_other() -> None:
    images, labels = two_classes()
    alone = HogwildClassifier(n_threads=1, diagnose=True, max_iter=3, tol=None, random_state=0).fit(images, labels)
    assert (alone.diagnosis_.conflict_rate, alone.diagnosis_.lost_rate, alone.diagnosis_.head) == (0, 0, 0)
    both = clone(alone).set_params(n_threads=2, head=0, max_iter=50).fit(images, labels).diagnosis_
    assert 0 <= both.conflict_rate <= 1
    assert sum(share for _, _, share in both.staleness) == pytest.approx(1)
    assert all(-1 <= feature < 64 for feature, _ in both.hottest)
    assert "staleness, in examples of others: 0:" in str(both)


# --- weights of rows, and classes of a warm start -------------------------------------------------------------


def weighted(kind: Any, weights: Any, **options: Any) -> Any:
    X = np.random.default_rng(0).normal(size=(len(weights), 3))
    y = X @ [1.0, -2, 0.5]
    model = kind(random_state=0, **options)
    return model.fit(X, y > 0 if kind is HogwildClassifier else y, sample_weight=weights)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_rows_of_weight_zero_are_not_held_out(kind: Any) -> None:
    weights = np.zeros(60)
    weights[20:32] = 1
    loss = "log_loss" if kind is HogwildClassifier else "squared_error"
    model = weighted(kind, weights, early_stopping=True, loss=loss)
    assert np.isfinite(model.loss_curve_).all()
    assert min(model.loss_curve_) > 0
    with pytest.raises(ValueError, match="of 1 rows of weights above 0 holds out 1: there must be rows to train"):
        weighted(kind, np.arange(60) == 7, early_stopping=True)


def test_a_split_without_weights_of_zero_is_as_without_weights() -> None:
    plain = weighted(HogwildRegressor, np.ones(60), early_stopping=True)
    X = np.random.default_rng(0).normal(size=(60, 3))
    alone = HogwildRegressor(random_state=0, early_stopping=True).fit(X, X @ [1.0, -2, 0.5])
    np.testing.assert_array_equal(plain.coef_, alone.coef_)


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (np.full(60, 1e-60), "the largest is 1e-60, which is 0 in float32: scale them"),
        (np.full(60, 1e39), r"sample_weight must hold numbers that float32 can, got 1e\+39 in row 0"),
        (-np.ones(60), "Negative values in data passed to `sample_weight`"),
        (np.zeros(60), "at least one non-zero"),
    ],
)
def test_weights_that_would_teach_nothing_are_refused(kind: Any, weights: Any, words: str) -> None:
    for options in ({}, {"early_stopping": True}):
        with pytest.raises(ValueError, match=words):
            weighted(kind, weights, **options)


def test_weights_of_classes_are_numbers_that_float32_holds() -> None:
    X, y = np.eye(4), [0, 1, 0, 1]
    with pytest.raises(ValueError, match="sample_weight must hold a weight above 0: the largest is 1e-50"):
        HogwildClassifier(class_weight={0: 1e-50, 1: 1e-50}).fit(X, y)


def test_targets_beyond_float32_are_refused() -> None:
    for call in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=r"y must hold numbers that float32 can, got -1e\+39 in row 2"):
            getattr(HogwildRegressor(), call)(np.eye(3), [0, 1, -1e39])


@pytest.mark.parametrize(
    ("first", "second"),
    [((0, 1, 2), (0, 1)), ((0, 1), (0, 1, 2)), ((0, 1), (1, 2)), ((0, 1, 2), (1, 2, 3)), ("ab", "ac")],
    ids=str,
)
def test_a_warm_start_is_of_the_same_classes(first: Any, second: Any) -> None:
    X = np.random.default_rng(0).normal(size=(60, 4))
    model = HogwildClassifier(warm_start=True, random_state=0).fit(X, np.resize(list(first), 60))
    before = model.coef_.copy()
    with pytest.raises(
        ValueError, match=r"warm_start=True goes on from the weights of the classes \[.*set warm_st"
    ):
        model.fit(X, np.resize(list(second), 60))
    np.testing.assert_array_equal(model.classes_, list(first))
    np.testing.assert_array_equal(model.coef_, before)
    model.set_params(warm_start=False).fit(X, np.resize(list(second), 60))
    np.testing.assert_array_equal(model.classes_, list(second))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_warm_start_is_of_as_many_features(kind: Any) -> None:
    X, y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 2
    model = kind(warm_start=True, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="X has 3 features, but Hogwild.* is expecting 4"):
        model.fit(X[:, :3], y)
    assert model.predict(X).shape == (60,)
    model.coef_ = model.coef_[:, :3]
    with pytest.raises(ValueError, match=r"coef_ must be numbers of the shape \(1, 4\)"):
        model.fit(X, y)


# --- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alpha": -1}, "alpha must be at least 0 and finite, got -1"),
        ({"loss": "absolute"}, "loss must be one of '"),
        ({"penalty": "l3"}, "penalty must be one of 'l2', 'l1', 'elasticnet', None, got 'l3'"),
        ({"learning_rate": "fast"}, "learning_rate must be one of optimal, constant"),
        ({"learning_rate": "constant", "eta0": 0}, "eta0 must be above 0, got 0"),
        ({"learning_rate": "optimal", "alpha": 0}, "alpha must be above 0, got 0"),
        ({"n_threads": 0}, "n_threads must be at least 1, got 0"),
        ({"max_iter": 0}, "max_iter must be at least 1, got 0"),
        ({"l1_ratio": 2}, "l1_ratio must be in [0, 1], got 2"),
        ({"dtype": "float16"}, "dtype must be one of 'float32', 'bfloat16', got 'float16'"),
        ({"period": 0}, "period must be at least 1, got 0"),
        ({"decay": 0, "learning_rate": "backoff"}, "decay must be in (0, 1], got 0"),
        ({"deterministic": True, "head": 3}, "head must be 'auto'"),
        ({"deterministic": True, "dtype": "bfloat16"}, "head, which is float32"),
        ({"early_stopping": True, "validation_fraction": 0.0}, "rows to train and rows to hold out"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_bad_parameter_is_refused_at_fit_in_a_sentence(kind: Any, options: dict[str, Any], words: str) -> None:
    images, labels = two_classes()
    with pytest.raises(ValueError, match=re.escape(words)):
        kind(**options).fit(images, labels if kind is HogwildClassifier else np.arange(1797.0))


def test_labels_and_classes_are_checked() -> None:
    images, labels = digits()
    with pytest.raises(ValueError, match="at least two classes, got one class: 3"):
        HogwildClassifier().fit(images[:10], [3] * 10)
    with pytest.raises(ValueError, match="classes must be given at the first call"):
        HogwildClassifier().partial_fit(images, labels)
    model = HogwildClassifier(random_state=0).partial_fit(images, labels % 3, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"label 3 is not among the classes of the first call, \[0 1 2\]"):
        model.partial_fit(images, labels)
    with pytest.raises(ValueError, match="X has 63 features, but HogwildClassifier is expecting 64"):
        model.predict(images[:, 1:])
    with pytest.raises(AttributeError, match="predict_proba"):
        model.predict_proba(images)
    with pytest.raises(ValueError, match="multi_class must be one of 'ovr', got 'multinomial'"):
        HogwildClassifier("hinge", multi_class="multinomial").fit(images, labels)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_values_that_are_not_finite_are_refused(kind: Any, value: float) -> None:
    images, labels = digits()
    images.data[5] = value
    with pytest.raises(ValueError, match="Input X contains"):
        kind().fit(images, labels)


def test_steps_that_are_too_long_are_said() -> None:
    inputs = np.random.default_rng(0).normal(100, 1, (200, 5))
    with pytest.warns(ConvergenceWarning, match="the step size is too large for the scale of the features"):
        HogwildRegressor(eta0=10, max_iter=5, tol=None).fit(inputs, inputs[:, 0])
    with pytest.warns(ConvergenceWarning, match="max_iter=2 passes did not reach tol"):
        HogwildRegressor(max_iter=2).fit(inputs / 100, inputs[:, 0])


@pytest.mark.usefixtures("ctrl_c_is_heard")
def test_ctrl_c_ends_a_fit() -> None:
    rows = sp.csr_matrix(np.random.default_rng(0).random((5_000, 50), np.float32))
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            HogwildClassifier(n_threads=2, max_iter=10**9, tol=None).fit(rows, np.arange(5_000) % 2)
    finally:
        timer.cancel()
