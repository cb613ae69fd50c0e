"""MatrixFactorization as scikit-learn's users meet it."""

from __future__ import annotations

import pickle
import signal
import threading
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

import scipy.sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from loosestep import _core
from loosestep.foundation.errors import Diverged
from loosestep.sparse import MatrixFactorization


def made(users: int = 60, items: int = 40, rank: int = 3, seed: int = 0) -> tuple[Any, Any]:
    """All pairs, ratings of a low rank with biases."""
    random = np.random.default_rng(seed)
    p, q = random.normal(size=(users, rank)), random.normal(size=(items, rank))
    full = 3 + random.normal(size=users)[:, None] + 0.5 * random.normal(size=items) + p @ q.T
    pairs = np.stack(np.meshgrid(np.arange(users), np.arange(items), indexing="ij"), -1).reshape(-1, 2)
    keep = random.random(len(pairs)) < 0.6
    return pairs[keep], full.ravel()[keep].astype(np.float32)


def small(**options: Any) -> MatrixFactorization:
    given: dict[str, Any] = {"l2": 0.001, "max_iter": 100, "n_threads": 1, "random_state": 0, **options}
    return MatrixFactorization(4, **given)


def rmse(model: MatrixFactorization, pairs: Any, ratings: Any) -> float:
    return float(np.sqrt(np.mean((model.predict(pairs) - ratings) ** 2)))


FORMS: list[dict[str, Any]] = [
    {},
    {"n_threads": 2},
    {"n_threads": 2, "adds": "exact"},
    {"n_threads": 2, "algorithm": "rotation"},
    {"dtype": "bfloat16"},
    {"schedule": "backoff", "learning_rate": 0.02, "decay": 0.99},
    {"l2_scale": "degree", "l2": 0.01},
]


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_it_finds_a_low_rank(options: dict[str, Any]) -> None:
    pairs, ratings = made()
    model = small(**options).fit(pairs, ratings)
    assert rmse(model, pairs, ratings) < 0.1 < 1.5 < ratings.std()
    assert model.n_iter_ == len(model.rmse_) == 100
    assert model.rmse_[-1] < 0.1 * model.rmse_[0]
    assert model.score(pairs, ratings) > 0.99


def test_completion_has_no_mean_and_no_biases() -> None:
    pairs, ratings = made()
    model = small(fit_intercept=False, max_iter=200).fit(pairs, ratings)
    assert model.mean_ == 0
    assert model.user_bias_ is model.item_bias_ is None
    np.testing.assert_allclose(
        (model.user_factors_ @ model.components_)[tuple(pairs.T)], model.predict(pairs), rtol=1e-4, atol=1e-4
    )


def test_a_prediction_is_what_it_says() -> None:
    pairs, ratings = made()
    model = small(max_iter=3).fit(pairs, ratings)
    u, i = pairs.T
    said = model.mean_ + model.user_bias_[u] + model.item_bias_[i]
    said += np.einsum("nk,kn->n", model.user_factors_[u], model.components_[:, i])
    np.testing.assert_allclose(model.predict(pairs), said, rtol=1e-5, atol=1e-5)
    assert model.mean_ == pytest.approx(ratings.mean(), rel=1e-6)


def test_a_sparse_matrix_is_its_entries() -> None:
    pairs, ratings = made()
    matrix = scipy.sparse.csr_array((ratings, tuple(pairs.T)))
    one, other = small(max_iter=3).fit(pairs, ratings), small(max_iter=3).fit(matrix)
    np.testing.assert_array_equal(one.user_factors_, other.user_factors_)
    np.testing.assert_array_equal(one.predict(pairs), other.predict(matrix))
    assert one.score(pairs, ratings) == other.score(matrix)


@pytest.mark.parametrize("options", [{}, {"n_threads": 3, "algorithm": "rotation"}], ids=str)
def test_the_same_seed_gives_the_same_bits(options: dict[str, Any]) -> None:
    pairs, ratings = made()
    one, other = (small(max_iter=5, **options).fit(pairs, ratings) for _ in range(2))
    np.testing.assert_array_equal(one.user_factors_, other.user_factors_)
    np.testing.assert_array_equal(one.components_, other.components_)
    another = small(max_iter=5, **{**options, "random_state": 1}).fit(pairs, ratings)
    assert (another.components_ != one.components_).all()


def test_partial_fit_is_an_epoch() -> None:
    pairs, ratings = made()
    model = small()
    errors = [model.partial_fit(pairs, ratings).rmse_[-1] for _ in range(30)]
    assert errors[-1] < 0.3 * errors[0]
    assert model.n_iter_ == 30
    with pytest.raises(ValueError, match="X names user 99, but the factors are of 60 users: give shape="):
        model.partial_fit([[99, 0]], [1.0])


def test_it_stops_when_what_is_held_out_gets_no_better() -> None:
    random = np.random.default_rng(0)
    pairs, _ = made()
    noise = random.normal(size=len(pairs))
    model = small(early_stopping=True, l2=0.0, n_iter_no_change=3).fit(pairs, noise)
    assert model.n_iter_ == len(model.validation_rmse_) < 100
    best = int(np.argmin(model.validation_rmse_))
    assert model.n_iter_ <= best + 1 + 3 or model.validation_rmse_[best] > model.validation_rmse_[-4] - 1e-4


def test_transform_places_users_by_their_ratings() -> None:
    pairs, ratings = made()
    model = small(fit_intercept=False, max_iter=200, l2=1e-4).fit(pairs, ratings)
    rows = model.transform(scipy.sparse.csr_array((ratings, tuple(pairs.T))))
    again = np.einsum("nk,kn->n", rows[pairs[:, 0]], model.components_[:, pairs[:, 1]])
    assert np.sqrt(np.mean((again - ratings) ** 2)) <= rmse(model, pairs, ratings) + 1e-3


@pytest.mark.parametrize("algorithm", ["hogwild", "rotation"])
def test_implicit_feedback_ranks_what_was_not_shown(algorithm: Any) -> None:
    # Users of one half like items of one half; a fifth of what they like is held out.
    random = np.random.default_rng(0)
    pairs = np.array([[u, i] for u in range(60) for i in range(40) if u % 2 == i % 2])
    held = random.random(len(pairs)) < 0.2
    options: dict[str, Any] = {"feedback": "implicit", "algorithm": algorithm, "max_iter": 30, "n_threads": 2}
    model = small(l2=0.01, **options).fit(pairs[~held], np.ones((~held).sum()))
    others = np.array([[u, i] for u in range(60) for i in range(40) if u % 2 != i % 2])
    assert model.mean_ == 0
    assert model.predict(pairs[held]).mean() > 0.5 > 0.2 > model.predict(others).mean()
    with pytest.raises(ValueError, match="implicit feedback must be at least 0, got -1.0"):
        model.fit(pairs, -np.ones(len(pairs)))
    with pytest.raises(ValueError, match="transform places users by explicit ratings"):
        model.transform(scipy.sparse.csr_array(np.ones((1, 40))))
    with pytest.raises(ValueError, match="early_stopping holds ratings out"):
        small(**options, early_stopping=True).fit(pairs, np.ones(len(pairs)))


def test_users_without_ratings_have_no_factors() -> None:
    model = small(max_iter=2, shape=(10, 9)).fit([[0, 0], [2, 3]], [1.0, 2.0])
    assert model.user_factors_.shape == (10, 4)
    assert not model.user_factors_[1].any()
    assert model.user_factors_[2].all()
    assert model.predict([[1, 8]])[0] == pytest.approx(1.5)


def test_it_is_cloned_pickled_and_searched() -> None:
    pairs, ratings = made()
    model = small(max_iter=3, l2=0.25)
    assert clone(model).get_params() == model.get_params()
    model.fit(pairs, ratings)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(pairs), model.predict(pairs))
    again.partial_fit(pairs, ratings)
    assert again.n_iter_ == 4
    options = {"shape": [(60, 40)], "l2": [0.01, 10.0], "max_iter": [10]}
    found = GridSearchCV(small(), options, cv=3).fit(pairs, ratings)
    assert found.best_params_["l2"] == 0.01


def test_a_failed_fit_leaves_what_was_fitted() -> None:
    pairs, ratings = made()
    model = small(max_iter=3).fit(pairs, ratings)
    before = model.predict(pairs)
    model.set_params(learning_rate=1e6, schedule="backoff")
    with pytest.raises(Diverged, match="a smaller learning rate may help"):
        model.fit(pairs, ratings)
    np.testing.assert_array_equal(model.predict(pairs), before)


BAD: list[tuple[Any, Any, str]] = [
    ([[0, 0]], [np.nan], "ratings must be finite"),
    ([[0, 0]], [np.inf], "ratings must be finite"),
    ([[0, 0]], [1e39], "ratings must be finite"),
    ([[0, 0], [1, 1]], [1.0], "y must hold a rating for each of the 2 pairs, got 1"),
    ([[0, 0, 0]], [1.0], r"X must have the shape \(n, 2\), a user and an item a row, got \(1, 3\)"),
    ([[0.5, 0]], [1.0], "X must hold whole numbers, got float64"),
    ([[-1, 0]], [1.0], "X must hold numbers from 0"),
    (np.empty((0, 2), int), [], "X must hold at least 1 rating"),
    ([[0, 0]], None, "X must be a sparse matrix, or pairs with y given, got list and no y"),
]


@pytest.mark.parametrize(("pairs", "ratings", "words"), BAD)
def test_bad_ratings_are_named(pairs: Any, ratings: Any, words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        small().fit(pairs, ratings)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"l2": -1.0}, "l2 must be at least 0 and finite, got -1.0"),
    ({"max_iter": 0}, "max_iter must be at least 1, got 0"),
    ({"n_threads": 1.5}, "n_threads must be an integer, got 1.5"),
    ({"n_threads": 0}, "n_threads must be at least 1, got 0"),
    ({"rotation_order": "ring "}, "rotation_order must be one of 'ring', 'permutation', got 'ring '"),
    ({"rotation_order": "permutation"}, "rotation_order and rotation_seconds are for algorithm='rotation'"),
    ({"rotation_seconds": 0.1}, "rotation_order and rotation_seconds are for algorithm='rotation'"),
    ({"algorithm": "rotation", "rotation_seconds": 0}, "rotation_seconds must be above 0 and finite, got 0"),
    (
        {"algorithm": "rotation", "rotation_seconds": 1.0, "feedback": "implicit"},
        "rotation_seconds leaves ratings",
    ),
    ({"algorithm": "magic"}, "algorithm must be one of 'hogwild', 'rotation', got 'magic'"),
    ({"adds": "exact", "dtype": "bfloat16"}, "adds='exact' is for"),
    ({"validation_fraction": 1.0}, "validation_fraction must be between 0 and 1, got 1.0"),
    ({"shape": (1, 1)}, r"shape must be at least \(60, 40\)"),
]


@pytest.mark.parametrize(("options", "words"), WRONG, ids=str)
def test_bad_options_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        small(**options).fit(*made())


def test_a_rank_is_at_most_128() -> None:
    with pytest.raises(ValueError, match=r"n_components must be in 1 \.\. 128, got 129"):
        MatrixFactorization(129).fit(*made())


def test_an_unknown_user_is_named() -> None:
    with pytest.raises(IndexError, match="X names user 60, but the factors are of 60 users"):
        small(max_iter=1).fit(*made()).predict([[60, 0]])


@pytest.mark.usefixtures("ctrl_c_is_heard")
def test_ctrl_c_ends_a_fit() -> None:
    pairs, ratings = made(300, 300)
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            small(max_iter=10**9).fit(pairs, ratings)
    finally:
        timer.cancel()


# --- implicit feedback -------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_unseen_pairs_are_drawn_evenly_for_each_user(threads: int) -> None:
    random = np.random.default_rng(0)
    users, items, each = 50, 40, 30
    seen = np.flatnonzero(random.random(users * items) < 0.3)
    u, i = (index.astype(np.uint32) for index in np.divmod(seen, items))
    weights = random.uniform(1, 2, len(seen)).astype(np.float32)
    pairs = _core.SeenPairs(u, i, weights, (users, items))
    found_u, found_i, values, found_weights = pairs.drawn(each, (3, 4), 7, 1, threads).ratings
    keys, new = found_u.astype(int) * items + found_i, values == 0
    np.testing.assert_array_equal(np.sort(keys[~new]), seen)
    np.testing.assert_array_equal(found_weights[~new], weights[np.searchsorted(seen, keys[~new])])
    assert (found_weights[new] == 1).all()
    assert not np.isin(keys[new], seen).any()
    degree = np.bincount(u, minlength=users)
    p = (1 / items) * np.ones(users * items).reshape(users, items)
    expected = (each * degree[:, None] * p).ravel()
    expected[seen] = 0
    met = np.bincount(keys[new], minlength=users * items)
    assert (np.abs(met - expected) < 5 * np.sqrt(expected) + 1e-9).all()
    other = pairs.drawn(each, (3, 4), 7, 1, 1).ratings
    np.testing.assert_array_equal(np.sort(keys), np.sort(other[0].astype(int) * items + other[1]))
    assert len(pairs.drawn(each, (3, 4), 7, 2).ratings[0]) != len(keys)  # another epoch, other pairs


# --- rotation ----------------------------------------------------------------------------------------------


def test_a_permutation_is_another_way_round() -> None:
    pairs, ratings = made()
    options: dict[str, Any] = {"algorithm": "rotation", "n_threads": 3, "max_iter": 4}
    ring, permuted, again = (
        small(**options, rotation_order=order).fit(pairs, ratings)
        for order in ("ring", "permutation", "permutation")
    )
    np.testing.assert_array_equal(permuted.components_, again.components_)
    assert (ring.components_ != permuted.components_).any()
    assert permuted.rmse_[-1] == pytest.approx(ring.rmse_[-1], rel=0.05)


def test_a_timed_rotation_passes_slices_on_before_their_ratings_end() -> None:
    pairs, ratings = made()
    options: dict[str, Any] = {"algorithm": "rotation", "n_threads": 2}
    static = small(**options, max_iter=30).fit(pairs, ratings)
    patient = small(**options, max_iter=30, rotation_seconds=60.0).fit(pairs, ratings)
    np.testing.assert_array_equal(static.components_, patient.components_)
    hasty = small(**options, max_iter=300, rotation_seconds=1e-9).fit(pairs, ratings)
    assert rmse(hasty, pairs, ratings) < 0.1
