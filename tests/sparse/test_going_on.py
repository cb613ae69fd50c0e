"""What is set between two calls of partial_fit counts in the next one, and pickles go on to the same bits."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone

from loosestep.sparse import HogwildClassifier, HogwildRegressor

KINDS = [HogwildClassifier, HogwildRegressor]
ROWS = 600  # of a block: more than a chunk of the engine's, so that orders matter


def block(kind: Any, number: int) -> tuple[Any, Any]:
    random = np.random.default_rng(number)
    X = random.normal(size=(ROWS, 6))
    z = X @ np.arange(1.0, 7) / 6 + random.normal(size=ROWS)
    return X, np.digitize(z, [-1, 1]) if kind is HogwildClassifier else z


def base(kind: Any, **options: Any) -> Any:
    if kind is HogwildClassifier:
        options.setdefault("loss", "log_loss")
    return kind(**{"learning_rate": "constant", "eta0": 0.02, "random_state": 0, **options})


def pass_over(model: Any, number: int) -> Any:
    X, y = block(type(model), number)
    if isinstance(model, HogwildClassifier):
        return model.partial_fit(X, y, classes=[0, 1, 2])
    return model.partial_fit(X, y)


def begun(kind: Any, **options: Any) -> Any:
    return pass_over(base(kind, **options), 0)


SHOWN = ("coef_", "intercept_", "squares_", "t_", "n_iter_", "classes_", "n_features_in_")


def beginning_at(model: Any) -> Any:
    """An estimator that was never fitted, with the options and what is shown of another."""
    other = clone(model)
    for name in SHOWN:
        if hasattr(model, name):
            setattr(other, name, copy.deepcopy(getattr(model, name)))
    return other


def bits(model: Any) -> list[bytes]:
    return [np.asarray(getattr(model, name)).tobytes() for name in SHOWN if hasattr(model, name)]


# --- options ---------------------------------------------------------------------------------------------------


class Change(NamedTuple):
    """Another value of an option, where it shows (by default in the weights), and what it needs."""

    value: Any
    shows: Callable[[Any], Any] = bits
    needs: dict[str, Any] = {}  # noqa: RUF012


def setting(name: str) -> Callable[[Any], Any]:
    return lambda model: getattr(model._trainer.settings, name)


FIT_ALONE = object()
REFUSED = "early_stopping=True holds rows out, which partial_fit cannot"
CHANGES: dict[str, Any] = {
    "loss": {HogwildClassifier: Change("hinge"), HogwildRegressor: Change("huber")},
    "penalty": Change("l1"),
    "alpha": Change(0.5),
    "l1_ratio": Change(0.9, needs={"penalty": "elasticnet", "alpha": 0.1}),
    "fit_intercept": Change(False),
    "max_iter": FIT_ALONE,
    "tol": FIT_ALONE,
    "n_iter_no_change": FIT_ALONE,
    "validation_fraction": FIT_ALONE,
    "warm_start": FIT_ALONE,
    "verbose": Change(1, shows=lambda model: model.verbose),  # see test_a_pass_is_told
    "epsilon": {HogwildClassifier: FIT_ALONE, HogwildRegressor: Change(0.01, needs={"loss": "huber"})},
    "n_threads": Change(2, needs={"deterministic": True}),
    "random_state": Change(7),
    "learning_rate": Change("invscaling"),
    "eta0": Change(1e-6),
    "power_t": Change(0.9, needs={"learning_rate": "invscaling"}),
    "decay": Change(0.1, needs={"learning_rate": "backoff"}),
    "early_stopping": REFUSED,
    "class_weight": Change({0: 9, 1: 1, 2: 1}),
    "average": Change(True),
    "multi_class": Change("multinomial"),
    "head": Change(3, shows=lambda model: model._trainer.layout.head),
    "period": Change(5, needs={"alpha": 0.1}),
    "adds": Change("exact", shows=setting("adds")),
    "dtype": Change("bfloat16"),
    "regularize": Change("touched", needs={"alpha": 0.1}),
    "block_rows": Change(200),
    "deterministic": Change(True, shows=setting("deterministic")),
    "diagnose": Change(True, shows=lambda model: hasattr(model, "diagnosis_")),
}
OTHER = {
    "max_iter": 3,
    "tol": 0.5,
    "n_iter_no_change": 2,
    "validation_fraction": 0.3,
    "warm_start": True,
    "epsilon": 3,
}
ELSEWHERE = {"device"}  # which needs a GPU: tests/cuda/test_estimators.py
OPTIONS = [(kind, name) for kind in KINDS for name in kind().get_params()]


def change_of(kind: Any, name: str) -> Any:
    change = CHANGES[name]
    return change[kind] if isinstance(change, dict) else change


@pytest.mark.parametrize(("kind", "name"), [each for each in OPTIONS if each[1] not in ELSEWHERE])
def test_an_option_that_is_set_between_blocks_counts_from_then_on(kind: Any, name: str) -> None:
    change = change_of(kind, name)
    needs = change.needs if isinstance(change, Change) else {}
    unchanged = pass_over(begun(kind, **needs), 1)
    model = begun(kind, **needs)
    if change is FIT_ALONE:
        assert bits(pass_over(model.set_params(**{name: OTHER[name]}), 1)) == bits(unchanged)
    elif change == REFUSED:
        with pytest.raises(ValueError, match=REFUSED):
            pass_over(model.set_params(**{name: True}), 1)
    else:
        anew = pass_over(beginning_at(model.set_params(**{name: change.value})), 1)
        pass_over(model, 1)
        assert change.shows(model) != change.shows(unchanged)
        assert bits(model) == bits(anew)


@pytest.mark.parametrize(("kind", "name"), OPTIONS)
def test_a_value_that_is_none_is_refused_between_blocks_too(kind: Any, name: str) -> None:
    model = begun(kind)
    before = bits(model)
    with pytest.raises((TypeError, ValueError), match=name):
        pass_over(model.set_params(**{name: object()}), 1)
    assert bits(model) == before


def test_a_pass_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    model = begun(HogwildRegressor)
    assert capsys.readouterr().out == ""
    pass_over(model.set_params(verbose=1), 1)
    assert capsys.readouterr().out.startswith("epoch 2: loss ")


def test_a_step_that_is_steered_is_as_long_as_asked() -> None:
    """Without a penalty all movement is by gradients: a tenth of the rate, about a tenth of the way."""
    ways = []
    for eta0 in (1e-4, 1e-5):
        model = begun(HogwildRegressor, alpha=0.0)
        before = model.coef_.copy()
        ways.append(np.abs(pass_over(model.set_params(eta0=eta0), 1).coef_ - before).sum())
    assert ways[0] / ways[1] == pytest.approx(10, rel=0.05)


def test_an_adaptive_rate_that_was_cut_is_whole_again_when_it_is_set() -> None:
    X, y = block(HogwildRegressor, 0)
    model = base(HogwildRegressor, learning_rate="adaptive", max_iter=60).fit(X, y)
    assert model._trainer.cuts > 0
    went_on, steered = copy.deepcopy(model), model.set_params(eta0=0.01)
    assert pass_over(went_on, 1)._trainer.cuts > 0
    assert pass_over(steered, 1)._trainer.cuts == 0


# --- weights ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("coef_", {}), ("intercept_", {}), ("coef_", {"average": True}), ("intercept_", {"average": True}),
        ("coef_", {"learning_rate": "adagrad"}), ("squares_", {"learning_rate": "adagrad"}),
        ("t_", {"learning_rate": "invscaling"}), ("n_iter_", {"learning_rate": "backoff"}),
    ],
)  # fmt: skip
def test_weights_and_counts_that_are_set_between_blocks_are_gone_on_from(
    kind: Any, name: str, options: Any
) -> None:
    model = begun(kind, **options)
    unchanged = pass_over(copy.deepcopy(model), 1)
    value = getattr(model, name)
    setattr(model, name, value + 3 if name == "n_iter_" else value * 2 + 1)
    anew = pass_over(beginning_at(model), 1)
    assert bits(pass_over(model, 1)) != bits(unchanged)
    assert bits(model) == bits(anew)


@pytest.mark.parametrize("average", [False, True])
def test_weights_that_are_moved_in_place_are_gone_on_from(average: bool) -> None:
    model = begun(HogwildRegressor, average=average, eta0=1e-7)
    model.coef_[0, 2] = 50.0
    assert pass_over(model, 1).coef_[0, 2] == pytest.approx(50, abs=0.5)


def test_weights_may_be_set_before_the_first_block() -> None:
    """As federated training does: an estimator is made of the weights that a server sends."""
    model = base(HogwildClassifier, eta0=1e-7)
    model.classes_, model.coef_, model.intercept_ = np.arange(3), np.full((3, 6), 2.0), np.zeros(3)
    pass_over(model, 0)
    np.testing.assert_allclose(model.coef_, 2, atol=0.01)
    assert model.t_ == 1 + ROWS


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("coef_", np.zeros((1, 5)), r"coef_ must be numbers of the shape \(1, 6\).* got float64 of \(1, 5\)"),
        ("coef_", np.full((1, 6), np.nan), "coef_ must be finite"),
        ("coef_", np.full((1, 6), 1e39), "coef_ must be finite in float32"),
        ("intercept_", 0.0, r"intercept_ must be numbers of the shape \(1,\).* got float64 of \(\)"),
        ("t_", -1.0, "t_ must be above 0 and finite, got -1.0"),
        ("n_iter_", 1.5, "n_iter_ must be an integer, got 1.5"),
    ],
)
def test_weights_that_fit_no_model_are_refused(name: str, value: Any, words: str) -> None:
    model = begun(HogwildRegressor)
    setattr(model, name, value)
    with pytest.raises((TypeError, ValueError), match=words):
        pass_over(model, 1)


def test_a_pass_that_failed_leaves_weights_that_can_be_gone_on_from() -> None:
    model = begun(HogwildRegressor)
    before, X = bits(model), np.full((300, 6), 1e30)
    with pytest.raises(FloatingPointError):
        model.set_params(eta0=1e30).partial_fit(X, np.zeros(300))
    assert bits(model) == before
    assert np.isfinite(pass_over(model.set_params(eta0=0.01), 1).coef_).all()


# --- pickles ---------------------------------------------------------------------------------------------------


def through_joblib(model: Any, folder: Path) -> Any:
    joblib.dump(model, folder / "model")
    return joblib.load(folder / "model")


WAYS = {
    "pickle": lambda model, folder: pickle.loads(pickle.dumps(model)),
    "deepcopy": lambda model, folder: copy.deepcopy(model),
    "joblib": through_joblib,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {}, {"average": True}, {"average": 1000}, {"learning_rate": "adagrad", "average": True},
        {"learning_rate": "backoff"}, {"n_threads": 2, "deterministic": True, "average": True},
        {"dtype": "bfloat16", "average": True}, {"penalty": "l1", "alpha": 0.05, "average": 700, "period": 50},
        {"random_state": np.random.RandomState(3)}, {"diagnose": True}, {"block_rows": 250, "average": True},
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_copy_goes_on_to_the_same_bits(way: str, kind: Any, options: Any, tmp_path: Path) -> None:
    options = copy.deepcopy(options)
    model = base(kind, **options)
    other = copy.deepcopy(model)
    for number in range(4):
        pass_over(model, number)
        other = WAYS[way](pass_over(other, number), tmp_path)
        assert bits(other) == bits(model)
    assert getattr(other, "diagnosis_", None) == getattr(model, "diagnosis_", None)


@pytest.mark.parametrize("average", [False, True])
def test_a_copy_of_a_fit_goes_on_to_the_same_bits(average: bool) -> None:
    X, y = block(HogwildRegressor, 0)
    model = base(HogwildRegressor, average=average, max_iter=3, tol=None).fit(sp.csr_matrix(X), y)
    assert bits(pass_over(pickle.loads(pickle.dumps(model)), 1)) == bits(pass_over(model, 1))


def test_a_clone_begins_anew() -> None:
    model = begun(HogwildRegressor, average=True)
    assert bits(pass_over(clone(model), 0)) == bits(model)


def test_a_mean_goes_on_when_the_memory_is_another() -> None:
    """Going from one to two threads keeps the iterate and the mean: at a step of nearly 0 neither moves."""
    model = begun(HogwildRegressor, average=True, deterministic=True)
    before = model.coef_.copy()
    pass_over(model.set_params(n_threads=2, eta0=1e-12, alpha=0.0), 1)
    iterate = model._trainer._in_order(model._trainer.native.read)[0]
    assert np.abs(iterate - before).max() > 1e-3
    low, high = np.minimum(iterate, before), np.maximum(iterate, before)
    assert ((low - 1e-6 <= model.coef_) & (model.coef_ <= high + 1e-6)).all()
