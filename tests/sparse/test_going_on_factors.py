"""What is set between two calls of partial_fit counts in the next one or is refused: factorizations."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from loosestep.sparse import FactorizationMachineClassifier, FactorizationMachineRegressor, MatrixFactorization

KINDS = [FactorizationMachineClassifier, FactorizationMachineRegressor, MatrixFactorization]
SHOWN = ("coef_", "intercept_", "components_", "user_factors_", "user_bias_", "item_bias_", "mean_", "n_iter_")


def block(kind: Any, number: int) -> tuple[Any, Any]:
    random = np.random.default_rng(number)
    if kind is MatrixFactorization:
        pairs = np.array([[u, i] for u in range(30) for i in range(20) if (u + i) % 3])
        return pairs, np.abs(random.normal(size=len(pairs))) + 1
    X = random.normal(size=(300, 6)).astype(np.float32)
    z = X[:, 0] * X[:, 1] + random.normal(size=300)
    return X, np.digitize(z, [-1, 1]) if kind is FactorizationMachineClassifier else z


def pass_over(model: Any, number: int) -> Any:
    more = {"classes": [0, 1, 2]} if isinstance(model, FactorizationMachineClassifier) else {}
    return model.partial_fit(*block(type(model), number), **more)


def begun(kind: Any, **options: Any) -> Any:
    return pass_over(kind(**{"n_components": 4, "random_state": 0, **options}), 0)


def bits(model: Any) -> list[bytes]:
    return [np.asarray(getattr(model, name)).tobytes() for name in SHOWN if hasattr(model, name)]


FIT_ALONE, FIXED = "of fit alone", "fixed"
IMPLICIT = {"feedback": "implicit"}
CHANGES: dict[str, Any] = {
    "n_components": (8, FIXED),
    "fit_intercept": (False, FIXED),
    "init_scale": (0.5, FIXED),
    "random_state": (9, FIXED),
    "feedback": ("implicit", FIXED),
    "schedule": ("backoff", FIXED),
    "dtype": ("bfloat16", FIXED),
    "shape": ((99, 99), FIXED),
    "max_iter": (3, FIT_ALONE),
    "validation_fraction": (0.3, FIT_ALONE),
    "n_iter_no_change": (7, FIT_ALONE),
    "tol": (0.5, FIT_ALONE),
    "early_stopping": (True, "early_stopping=True holds ratings out, which partial_fit cannot"),
    "l2": (0.5, {}),
    "l2_linear": (0.5, {}),
    "learning_rate": (0.01, {}),
    "decay": (0.1, {}),
    "n_threads": (2, {"algorithm": "rotation"}),
    "alpha": (0.1, IMPLICIT),
    "n_negatives": (1, IMPLICIT),
    "l2_scale": ("degree", {}),
    "algorithm": ("rotation", {}),
    "rotation_order": ("permutation", {"algorithm": "rotation", "n_threads": 3}),
    "rotation_seconds": (1e-9, {"algorithm": "rotation"}),
    "adds": ("exact", {}),
    "verbose": (True, {}),
}
UNSEEN = {"verbose", "adds", "rotation_seconds"}  # in the weights of one thread; see the tests below
ELSEWHERE = {"device"}  # which needs a GPU: tests/cuda/test_estimators.py
OPTIONS = [(kind, name) for kind in KINDS for name in kind().get_params()]


@pytest.mark.parametrize(("kind", "name"), [each for each in OPTIONS if each[1] not in ELSEWHERE])
def test_an_option_that_is_set_between_blocks_counts_or_is_refused(kind: Any, name: str) -> None:
    value, how = CHANGES[name]
    if kind is not MatrixFactorization and name == "n_threads":
        how = {}
    model = begun(kind, **(how if isinstance(how, dict) else {}))
    unchanged, before = pass_over(copy.deepcopy(model), 1), bits(model)
    was = getattr(model, name)
    model.set_params(**{name: value})
    if isinstance(how, dict):
        pass_over(model, 1)
        assert (bits(model) != bits(unchanged)) or name in UNSEEN or (name == "n_threads" and kind in KINDS[:2])
    elif how == FIT_ALONE:
        assert bits(pass_over(model, 1)) == bits(unchanged)
    else:
        words = f"{name} is fixed by the first call: it was .* then, and is .* now" if how == FIXED else how
        with pytest.raises(ValueError, match=words):
            pass_over(model, 1)
        assert bits(model) == before
        assert bits(pass_over(model.set_params(**{name: was}), 1)) == bits(unchanged)


@pytest.mark.parametrize(("kind", "name"), OPTIONS)
def test_a_value_that_is_none_is_refused(kind: Any, name: str) -> None:
    model = begun(kind)
    with pytest.raises((TypeError, ValueError), match=name):
        pass_over(model.set_params(**{name: object()}), 1)
    with pytest.raises((TypeError, ValueError), match=name):
        model.fit(*block(kind, 0))


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_over_a_block_is_told(kind: Any, capsys: pytest.CaptureFixture[str]) -> None:
    model = begun(kind)
    assert capsys.readouterr().out == ""
    pass_over(model.set_params(verbose=True), 1)
    assert capsys.readouterr().out.startswith("epoch 2: training ")


@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_machine_that_is_set_to_threads_learns(kind: Any) -> None:
    model = begun(kind).set_params(n_threads=2)
    assert np.isfinite(pass_over(model, 1).coef_).all()


def test_what_is_fixed_does_not_change_predictions() -> None:
    X = block(FactorizationMachineRegressor, 5)[0]
    model = begun(FactorizationMachineRegressor)
    before = model.predict(X)
    assert abs(model.intercept_) > 1e-4
    model.set_params(fit_intercept=False, n_components=2)
    np.testing.assert_array_equal(model.predict(X), before)
    assert model.components_.shape == (4, 6)


WEIGHTS = [(kind, name) for kind in KINDS[:2] for name in ("coef_", "intercept_", "components_")] + [
    (MatrixFactorization, name) for name in ("user_factors_", "components_", "user_bias_", "item_bias_", "mean_")
]


@pytest.mark.parametrize("options", [{}, {"dtype": "bfloat16"}], ids=str)
@pytest.mark.parametrize(("kind", "name"), WEIGHTS)
def test_weights_that_are_set_between_blocks_are_gone_on_from(kind: Any, name: str, options: Any) -> None:
    model = begun(kind, **(options if kind is MatrixFactorization else {}), learning_rate=1e-7)
    value = np.asarray(getattr(model, name)) * 0 + 2
    setattr(model, name, value)
    np.testing.assert_array_equal(getattr(model, name), value)
    np.testing.assert_allclose(getattr(pass_over(model, 1), name), value, atol=0.02)
    for wrong in (np.zeros((2, 2)), np.full(value.shape, np.nan), "a"):
        if name != "mean_":
            with pytest.raises(ValueError, match=name):
                setattr(model, name, wrong)


def test_weights_that_are_copies_are_not_written_to() -> None:
    machine, factors = begun(FactorizationMachineClassifier), begun(MatrixFactorization, dtype="bfloat16")
    for copied in (
        machine.coef_,
        machine.intercept_,
        machine.components_,
        factors.user_factors_,
        factors.components_,
    ):
        with pytest.raises(ValueError, match="read-only"):
            copied[...] = 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"random_state": np.random.RandomState(1)}, {"decay": 0.5}], ids=" ".join)
def test_a_pickle_goes_on_to_the_same_bits(kind: Any, options: Any) -> None:
    model = begun(kind, **copy.deepcopy(options))
    other = pickle.loads(pickle.dumps(model))
    for number in range(1, 4):
        pass_over(model, number)
        other = pickle.loads(pickle.dumps(pass_over(other, number)))
        assert bits(model) == bits(other)


# --- weights of rows, and ratings -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS[:2])
@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (-np.ones(300), "Negative values in data passed to `sample_weight`"),
        (np.resize([1.0, -1.0], 300), "Negative values"),
        (np.zeros(300), "at least one non-zero"),
        (np.full(300, 1e-60), "sample_weight must hold a weight above 0: the largest is 1e-60"),
        (np.full(300, 1e39), r"sample_weight must hold numbers that float32 can, got 1e\+39"),
    ],
)
def test_weights_that_teach_nothing_or_the_contrary_are_refused(kind: Any, weights: Any, words: str) -> None:
    X, y = block(kind, 0)
    for call in ("fit", "partial_fit"):
        more = {"classes": [0, 1, 2]} if call == "partial_fit" and kind is KINDS[0] else {}
        with pytest.raises(ValueError, match=words):
            getattr(kind(4), call)(X, y, sample_weight=weights, **more)


def test_targets_beyond_float32_are_refused() -> None:
    with pytest.raises(ValueError, match=r"y must hold numbers that float32 can, got 1e\+39 in row 1"):
        FactorizationMachineRegressor().fit(np.eye(3), [0, 1e39, 1])


@pytest.mark.parametrize("shape", [(30,), (30, "b"), (30.5, 20), (0, 20), (2**33, 20), "ab", 30])
def test_a_shape_that_is_none_is_refused(shape: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="shape"):
        MatrixFactorization(shape=shape).fit(*block(MatrixFactorization, 0))


def test_one_rating_cannot_be_held_out() -> None:
    with pytest.raises(ValueError, match="validation_fraction=0.1 holds out 1 of 1 ratings: none are left"):
        MatrixFactorization(early_stopping=True).fit([[0, 0]], [1.0])


def test_an_unknown_id_says_how_to_make_it_known() -> None:
    model = begun(MatrixFactorization)
    words = r"X names item 20, but the factors are of 20 items: give shape=\(users, items\) to the first fit"
    with pytest.raises(IndexError, match=words):
        model.predict([[0, 20]])
    with pytest.raises(ValueError, match=words):
        model.partial_fit([[0, 20]], [1.0])
