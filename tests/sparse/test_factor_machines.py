"""Factorization machines: against numpy bit for bit, their gradient, and as scikit-learn's users meet them."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

import scipy.sparse
from sklearn.utils.estimator_checks import check_estimator
from tests.sparse.replay import f32, summed
from tests.sparse.splitmix import Random, shuffled

from loosestep import _core
from loosestep.sparse import (
    FactorizationMachineClassifier,
    FactorizationMachineRegressor,
    HogwildRegressor,
    MatrixFactorization,
)
from loosestep.sparse.parameters import threads

SETS = [*_core.isas(), "atomic"]
CHUNK = 64


def made(rank: int, count: int = 150, features: int = 30, seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    X = scipy.sparse.random_array((count, features), density=0.2, format="csr", rng=random, dtype=np.float32)
    v = np.zeros((features, -(-rank // 16) * 16), np.float32)
    v[:, :rank] = random.normal(size=(features, rank)) * 0.3
    heads = np.ones((features, 4), np.float32)
    heads[:, 0] = random.normal(size=features)
    signs = np.where(random.random(count) < 0.5, -1, 1).astype(np.float32)
    return {"X": X, "v": v, "heads": heads, "b": np.full(1, 0.5, np.float32), "y": signs, "rank": rank}


def native(problem: dict[str, Any], l2: float, adagrad: bool) -> tuple[Any, Any]:
    X = problem["X"]
    examples = _core.SparseExamples(
        X.indptr.astype(np.int64), X.indices.astype(np.int32), X.data, problem["y"], None, X.shape[1]
    )
    arrays = problem["v"], problem["heads"], problem["b"]
    return examples, _core.FactorMachine(*arrays, problem["rank"], l2, l2, adagrad)


def predicted(v: Any, w: Any, b: Any, x: Any) -> Any:
    return b + w @ x + 0.5 * (((v.T @ x) ** 2).sum() - ((v**2).T @ x**2).sum())


def learn(problem: dict[str, Any], row: int, b: Any, rate: Any, l2: Any, adagrad: bool) -> Any:
    """One example of squared loss, in the native order of sums; the moved intercept."""
    X, v, heads = problem["X"], problem["v"], problem["heads"]
    inside = slice(X.indptr[row], X.indptr[row + 1])
    features, values = X.indices[inside], X.data[inside]
    s, squares, linear = np.zeros_like(v[0]), np.zeros(16, np.float32), f32(0)
    for j, x in zip(features, values, strict=True):
        s = s + v[j] * x
        for part in (v[j] * x).reshape(-1, 16):
            squares = squares + part * part
        linear = linear + heads[j, 0] * x
    p = b + linear + f32(0.5) * (summed(s * s) - summed(squares))
    g = p - problem["y"][row]
    for j, x in zip(features, values, strict=True):
        for of_v in (True, False):
            old = v[j].copy() if of_v else heads[j, 0]
            gradient = -g * x * (old * -x + s) - l2 * old if of_v else -g * x - l2 * old
            step = rate
            if adagrad:
                square = summed(gradient * gradient) / f32(problem["rank"]) if of_v else gradient * gradient
                heads[j, 2 if of_v else 1] += square
                step = rate / np.sqrt(heads[j, 2 if of_v else 1])
            if of_v:
                v[j] = old + step * gradient
            else:
                heads[j, 0] = old + step * gradient
    return b - rate * g


@pytest.mark.parametrize("adagrad", [False, True])
@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("rank", [1, 16, 40])
def test_one_thread_is_the_sequential_method_bit_for_bit(rank: int, isa: str, adagrad: bool) -> None:
    ours, numpys = made(rank), made(rank)
    examples, machine = native(ours, 0.01, adagrad)
    for epoch in range(2):
        machine.learn(examples, "squared", 0.01, 1, 7, epoch, isa)
        for chunk in shuffled(-(-150 // CHUNK), Random(7, epoch)):
            b = numpys["b"][0]
            for row in range(chunk * CHUNK, min(150, (chunk + 1) * CHUNK)):
                b = learn(numpys, row, b, f32(0.01), f32(0.01), adagrad)
            numpys["b"][0] = b
    for name in ("v", "heads", "b"):
        np.testing.assert_array_equal(ours[name], numpys[name])


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_a_step_is_the_gradient(loss: Any) -> None:
    problem = made(5, count=1)
    x, y = problem["X"].toarray()[0].astype(np.float64), float(problem["y"][0])
    start = {name: problem[name].astype(np.float64) for name in ("v", "heads", "b")}
    rate = 2.0**-10

    def value(v: Any, w: Any, b: Any) -> float:
        p = predicted(v, w, b[0], x)
        return float(0.5 * (p - y) ** 2 if loss == "squared" else np.logaddexp(0, -y * p))

    def numerical(name: str, index: Any) -> float:
        around = []
        for shift in (1e-5, -1e-5):
            moved = {key: array.copy() for key, array in start.items()}
            moved[name][index] += shift
            around.append(value(moved["v"], moved["heads"][:, 0], moved["b"]))
        return (around[0] - around[1]) / 2e-5

    examples, machine = native(problem, 0.0, False)
    total = machine.learn(examples, loss, rate)
    assert total == pytest.approx(value(start["v"], start["heads"][:, 0], start["b"]), rel=1e-5)
    for j in np.flatnonzero(x):
        for name, index in [("heads", (j, 0)), *(("v", (j, f)) for f in range(5))]:
            step = (start[name][index] - problem[name][index]) / rate
            assert step == pytest.approx(numerical(name, index), rel=2e-3, abs=5e-4)
    still = x == 0
    np.testing.assert_array_equal(problem["v"][still], start["v"][still])


@pytest.mark.parametrize("isa", SETS)
def test_scores_are_the_formula(isa: str) -> None:
    problem = made(33)
    examples, machine = native(problem, 0.0, True)
    wide = {name: problem[name].astype(np.float64) for name in ("v", "heads", "b")}
    said = [predicted(wide["v"], wide["heads"][:, 0], wide["b"][0], x) for x in problem["X"].toarray()]
    np.testing.assert_allclose(machine.score(examples, 2, isa), said, rtol=1e-4, atol=1e-4)


def pairs(count: int = 4000, seed: int = 0) -> tuple[Any, Any]:
    """One-hot rows of three variables whose pairs matter, and the score."""
    random = np.random.default_rng(seed)
    columns = np.stack([f * 12 + random.integers(12, size=count) for f in range(3)], 1)
    X = scipy.sparse.csr_array(
        (np.ones(3 * count, np.float32), columns.ravel(), np.arange(0, 3 * count + 1, 3)), shape=(count, 36)
    )
    v = random.normal(size=(36, 2))
    s = v[columns].sum(1)
    return X, 0.5 * ((s**2).sum(1) - (v[columns] ** 2).sum((1, 2))) + random.normal(size=36)[columns].sum(1)


@pytest.mark.parametrize("threads", [1, 2])
def test_it_finds_pairs(threads: int) -> None:
    X, score = pairs()
    model = FactorizationMachineRegressor(4, max_iter=40, n_threads=threads, random_state=0)
    assert model.fit(X[:3000], score[:3000]).score(X[3000:], score[3000:]) > 0.99
    assert model.loss_curve_[-1] < 0.01 * model.loss_curve_[0]
    labels = np.where(score > 0, "up", "down")
    classifier = FactorizationMachineClassifier(4, max_iter=40, n_threads=threads, random_state=0)
    assert classifier.fit(X[:3000], labels[:3000]).score(X[3000:], labels[3000:]) > 0.95
    assert list(classifier.classes_) == ["down", "up"]
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(X), classifier.predict_proba(X))


def three_classes() -> tuple[Any, Any]:
    X, score = pairs()
    return X, np.array(["low", "middle", "high"])[np.digitize(score, np.quantile(score, [1 / 3, 2 / 3]))]


def test_several_classes_have_a_machine_each() -> None:
    X, labels = three_classes()
    options: dict[str, Any] = {"max_iter": 5, "random_state": 0}
    model = FactorizationMachineClassifier(4, **options).fit(X, labels)
    assert list(model.classes_) == ["high", "low", "middle"]
    assert (model.coef_.shape, model.components_.shape) == ((3, 36), (3, 4, 36))
    assert model.intercept_.shape == (3,)
    first = FactorizationMachineClassifier(4, **options).fit(X, labels == "high")
    assert (first.coef_.shape, first.components_.shape, first.intercept_.shape) == ((1, 36), (1, 4, 36), (1,))
    scores = model.decision_function(X)
    assert scores.shape == (4000, 3)
    dense = X.toarray()
    for k in range(3):
        v, w, b = model.components_[k].T, model.coef_[k], model.intercept_[k]
        said = [predicted(v, w, b, x) for x in dense[:50]]
        np.testing.assert_allclose(scores[:50, k], said, rtol=1e-4, atol=1e-4)
    chances = model.predict_proba(X)
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    np.testing.assert_allclose(chances, (p := 1 / (1 + np.exp(-scores))) / p.sum(axis=1, keepdims=True), rtol=1e-5)
    assert (model.predict(X) == model.classes_[scores.argmax(axis=1)]).all()
    assert FactorizationMachineClassifier(4, max_iter=40, random_state=0).fit(X, labels).score(X, labels) > 0.9


def test_partial_fit_goes_on_also_from_a_pickle() -> None:
    X, labels = three_classes()
    classes = np.unique(labels)
    model = FactorizationMachineClassifier(4, random_state=0)
    for _ in range(3):
        model.partial_fit(X, labels, classes)
    assert model.n_iter_ == len(model.loss_curve_) == 3
    assert model.loss_curve_[2] < model.loss_curve_[0]
    again = pickle.loads(pickle.dumps(model))
    for each in (model, again):
        each.partial_fit(X, labels)
    np.testing.assert_array_equal(model.components_, again.components_)
    block = FactorizationMachineClassifier(4, random_state=0).partial_fit(X[:64], labels[:64], classes)
    for begin in range(64, 4000, 64):
        block.partial_fit(X[begin : begin + 64], labels[begin : begin + 64])
    assert block.score(X, labels) > 0.45
    with pytest.raises(ValueError, match="classes must be given at the first call of partial_fit"):
        FactorizationMachineClassifier().partial_fit(X, labels)
    with pytest.raises(ValueError, match="label other is not among the classes of the first call"):
        model.partial_fit(X[:1], ["other"])


def test_a_first_partial_fit_is_a_fit_of_one_epoch() -> None:
    X, score = pairs(500)
    one = FactorizationMachineRegressor(4, max_iter=1, random_state=0).fit(X, score)
    other = FactorizationMachineRegressor(4, random_state=0).partial_fit(X, score)
    np.testing.assert_array_equal(one.components_, other.components_)
    assert one.loss_curve_ == other.loss_curve_


@pytest.mark.parametrize("kind", [FactorizationMachineRegressor, FactorizationMachineClassifier])
def test_it_keeps_scikit_learns_conventions(kind: Any) -> None:
    order = "examples are learned one after the other, and a weight of 2 is not two visits"
    expected = {f"check_sample_weight_equivalence_on_{form}_data": order for form in ("dense", "sparse")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_estimator(kind(), expected_failed_checks=expected)


def test_bad_input_is_named() -> None:
    X, score = pairs(100)
    with pytest.raises(ValueError, match=r"n_components must be in 1 \.\. 128, got 0"):
        FactorizationMachineRegressor(0).fit(X, score)
    with pytest.raises(ValueError, match="l2 must be at least 0 and finite, got -1.0"):
        FactorizationMachineRegressor(l2=-1.0).fit(X, score)
    problem = made(5)
    examples, machine = native(problem, 0.0, True)
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        machine.learn(examples, "squared", 0.1, 0)
    with pytest.raises(ValueError, match="loss must be 'squared' or 'logistic', got 'hinge'"):
        machine.learn(examples, "hinge", 0.1)
    for begin, words in (
        ([0, 5, 3], "starts must grow from 0 to the number of entries, 2"),
        ([0, 1, 2], "feature must be in 0 .. 2, got 7"),
    ):
        with pytest.raises(ValueError, match=words):
            _core.SparseExamples(
                np.array(begin),
                np.array([1, 7], np.int32),
                np.ones(2, np.float32),
                np.ones(2, np.float32),
                None,
                3,
            )


@pytest.mark.parametrize("kind", [FactorizationMachineRegressor, HogwildRegressor, MatrixFactorization])
def test_one_thread_unless_more_are_asked_for(kind: Any) -> None:
    random = np.random.default_rng(0)
    X, y = random.integers(5, size=(40, 2)), random.normal(size=40)
    names = {"MatrixFactorization": "components_", "HogwildRegressor": "coef_"}
    found = []
    for n_threads in (None, 1, np.int64(1)):
        model = kind(max_iter=np.int32(3), n_threads=n_threads, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # three passes are few
            found.append(getattr(model.fit(X, y), names.get(kind.__name__, "components_")))
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)
    assert threads(-1) == _core.info()["cores"]
    with pytest.raises(ValueError, match="n_threads must be at least 1, got -2"):
        kind(n_threads=-2).fit(X, y)
