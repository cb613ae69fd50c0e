"""The native linear engine: against its replay in numpy, across threads, and where it must refuse."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray
from tests.sparse.replaying import replay
from tests.sparse.splitmix import Random, shuffled

from loosestep import _core

DISCIPLINES = ["free", "locked", "turns"]


def some_rows(rows: int = 1000, features: int = 40, seed: int = 0) -> tuple[Any, NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    dense = (random.random((rows, features)) < 0.2) * random.normal(size=(rows, features))
    targets = np.where(dense @ random.normal(size=features) > 0, 1, -1).astype(np.float32)
    return sp.csr_matrix(dense.astype(np.float32)), targets


def lay(
    rows: Any, targets: Any, head: int = 0, threads: int = 1, seed: int = 3, outputs: int = 1, weights: Any = None
) -> _core.SparseRows:
    """In the user's order of features."""
    places = np.arange(1, rows.shape[1] + 1, dtype=np.uint32)
    starts = rows.indptr.astype(np.int64)
    return _core.SparseRows(
        starts, rows.indices, rows.data, places, head, outputs, targets, weights, threads, seed
    )


def epoch_options(**changed: Any) -> Any:
    """All options of an epoch, which the engine wants: those of plain SGD where nothing is said."""
    plain = {
        "loss": "log_loss", "epsilon": 0.1, "schedule": "constant", "eta0": 0.1, "power_t": 0.5, "alpha": 0.0,
        "offset": 0.0, "l2": 0.0, "l1": 0.0, "intercept_step": 1.0, "adagrad": False, "deterministic": False,
        "diagnose": False, "average": False, "adds": "racy", "discipline": "free", "seed": 0, "epoch": 0,
        "steps": 0, "period": 4096, "tail_every": 1, "measure": 1,
    }  # fmt: skip
    return plain | changed


def train(
    rows: Any, targets: Any, etas: list[float], head: int = 0, threads: int = 1, seed: int = 3, outputs: int = 1,
    dtype: str = "float32", start: Any = None, weights: Any = None, **options: Any,
) -> tuple[NDArray[np.float32], list[dict[str, Any]]]:  # fmt: skip
    """Weights after one epoch for each step size, and what the epochs told."""
    model = _core.LinearModel(rows.shape[1] + 1, head, outputs, threads, dtype, options.get("adagrad", False))
    if start is not None:
        model.load(start)
    laid = lay(rows, targets, head, threads, seed, outputs, weights)
    told = [
        model.epoch(laid, None, epoch_options(eta0=eta, epoch=epoch, seed=seed, **options))
        for epoch, eta in enumerate(etas)
    ]
    out = np.empty((rows.shape[1] + 1, outputs), np.float32)
    model.read(out)
    return out.ravel() if outputs == 1 else out, told


def test_the_probe_of_random_access_moves_places_one_by_one() -> None:
    x = np.zeros(5, np.float32)
    assert _core.streams.touch(x, np.array([1, 3, 1], np.uint32)) >= 0
    assert x.tolist() == [0, 2, 0, 1, 0]
    with pytest.raises(ValueError, match="below x's 5 elements"):
        _core.streams.touch(x, np.array([5], np.uint32))


# --- one thread --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge", "squared_error", "huber"])
@pytest.mark.parametrize("adds", ["racy", "exact"])
def test_one_thread_is_sequential_sgd_bit_for_bit(loss: str, adds: str) -> None:
    rows, targets = some_rows()
    etas = [0.1, 0.05, 0.025]
    found, told = train(rows, targets, etas, loss=loss, adds=adds)
    np.testing.assert_array_equal(found, replay(rows, targets, loss, etas, 3))
    assert [each["examples"] for each in told] == [1000] * 3
    assert [each["retried"] for each in told] == [0] * 3


def test_backoff_multiplies_the_step_by_decay_each_epoch() -> None:
    rows, targets = some_rows(300)
    etas = [0.1 * 0.5**epoch for epoch in range(4)]
    found, _ = train(rows, targets, etas, loss="squared_error")
    np.testing.assert_array_equal(found, replay(rows, targets, "squared_error", etas, 3))


def test_logistic_slopes_are_those_of_the_loss() -> None:
    """One step from zero: w = eta y x / 2."""
    rows, targets = some_rows(1)
    found, _ = train(rows, targets, [0.5], loss="log_loss")
    np.testing.assert_allclose(found[1:], 0.25 * targets[0] * rows.toarray()[0], rtol=1e-6)


def test_softmax_slopes_are_those_of_the_loss() -> None:
    """One step from zero with 4 classes: w_o = eta x ([o = y] - 1/4)."""
    rows, _ = some_rows(1)
    found, told = train(rows, np.array([2], np.float32), [1.0], loss="softmax", outputs=4)
    wanted = np.outer(rows.toarray()[0], np.array([-0.25, -0.25, 0.75, -0.25]))
    np.testing.assert_allclose(found[1:], wanted, rtol=1e-6)
    assert told[0]["loss"] == pytest.approx(np.log(4))


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge", "log_loss"])
def test_one_against_the_rest_is_each_class_alone(loss: str) -> None:
    """With the same order of rows, outputs do not touch each other."""
    rows, _ = some_rows(500)
    classes = np.random.default_rng(1).integers(0, 3, 500)
    together, _ = train(rows, classes.astype(np.float32), [0.01, 0.01], loss=loss, outputs=3)
    for each in range(3):
        alone, _ = train(rows, np.where(classes == each, 1, -1).astype(np.float32), [0.01, 0.01], loss=loss)
        np.testing.assert_allclose(together[:, each], alone, atol=2e-6)


def test_weights_of_rows_multiply_slopes() -> None:
    """Rows of weight 0 are as if they were not there; weight 2 on all is twice the step."""
    rows, targets = some_rows(400)
    doubled, _ = train(rows, targets, [0.05], loss="squared_error", weights=np.full(400, 2, np.float32))
    np.testing.assert_array_equal(doubled, train(rows, targets, [0.1], loss="squared_error")[0])
    nothing, _ = train(rows, targets, [0.05], loss="squared_error", weights=np.zeros(400, np.float32))
    assert not nothing.any()


def test_adagrad_divides_by_the_root_of_summed_squares() -> None:
    """The same row again and again: G = sum g^2, w -= eta g / sqrt(G)."""
    rows = sp.csr_matrix(np.array([[2.0]], np.float32))
    found, _ = train(rows, np.array([8], np.float32), [0.5] * 3, loss="huber", epsilon=1.0, adagrad=True)
    total, weight = 0.0, 0.0
    for _ in range(3):
        total += 4.0
        weight += 0.5 * 2 / np.sqrt(total)
    assert found[1] == pytest.approx(weight, rel=1e-6)


# --- regularization ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 2, 3, 100])
def test_however_seldom_the_tail_is_swept_it_shrinks_by_the_sum(every: int) -> None:
    """10 merges a pass; what is left at the end of a pass is swept there. Places that no row reached keep 0."""
    rows = sp.csr_matrix((1000, 3), dtype=np.float32)
    start = np.array([0, 2, 0, 0], np.float32)
    options: dict[str, Any] = {"loss": "huber", "epsilon": 0.0, "l2": 0.05, "period": 100, "tail_every": every}
    found, _ = train(rows, np.zeros(1000, np.float32), [0.01, 0.01], start=start, **options)
    np.testing.assert_allclose(found, [0, 2 * np.exp(-0.05 * 20), 0, 0], rtol=1e-5)


def test_l2_and_l1_shrink_by_the_sum_of_step_sizes() -> None:
    """A loss that is flat leaves sign(w) max(0, |w| exp(-l2 s) - l1 s) after steps of sum s."""
    rows = sp.csr_matrix((64, 3), dtype=np.float32)
    start = np.array([5, 2, -1, 0.01], np.float32)
    found, _ = train(
        rows, np.zeros(64, np.float32), [0.01], loss="huber", epsilon=0.0, start=start, l2=0.5, l1=0.1
    )
    length = 64 * 0.01
    kept = np.maximum(0, np.abs(start[1:]) * np.exp(-0.5 * length) - 0.1 * length)
    np.testing.assert_allclose(found[1:], np.sign(start[1:]) * kept, rtol=1e-5)
    assert found[0] == 5


def test_l2_by_touch_weighs_rare_features_more() -> None:
    """w_j (1 - eta l2 n / n_j) for each row that holds j: after an epoch about exp(-eta l2 n) for all."""
    rows = sp.csr_matrix(np.array([[1, 1]] * 25 + [[1, 0]] * 75, np.float32))
    model = _core.LinearModel(3, 0, 1, 1)
    model.load(np.array([0, 1, 1], np.float32))
    touch = np.array([0, 0.1, 0.4], np.float32)  # l2 = 0.1, by the share of rows
    model.epoch(lay(rows, np.zeros(100, np.float32)), touch, epoch_options(loss="huber", epsilon=0.0, eta0=0.01))
    out = np.empty(3, np.float32)
    model.read(out)
    np.testing.assert_allclose(out[1:], [(1 - 0.001) ** 100, (1 - 0.004) ** 25], rtol=1e-5)


# --- threads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [2, 3, 4])
@pytest.mark.parametrize("head", [0, 2])
def test_exact_adds_lose_nothing(threads: int, head: int) -> None:
    """A slope that does not depend on the weights: every row adds 1 to each of its features."""
    rows = sp.csr_matrix(np.ones((20_000, 2), np.float32))
    found, _ = train(
        rows, np.full(20_000, 1e9, np.float32), [1.0], head, threads, loss="huber", epsilon=1.0, adds="exact",
        period=500,
    )  # fmt: skip
    if head == 0:
        np.testing.assert_array_equal(found, [20_000] * 3)
    else:  # the head's place is merged between sum and mean, the shared one is exact
        assert found[2] == 20_000
        assert 20_000 / threads <= found[1] <= 20_000


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_racy_adds_lose_only_where_threads_meet(discipline: str) -> None:
    rows = sp.csr_matrix(np.ones((20_000, 1), np.float32))
    found, _ = train(
        rows, np.full(20_000, 1e9, np.float32), [1.0], 0, 2, loss="huber", epsilon=1.0, discipline=discipline
    )
    if discipline == "free":
        assert 10_000 <= found[1] <= 20_000
    else:
        assert found[1] == 20_000


@pytest.mark.parametrize("threads", [2, 5])
def test_disjoint_features_are_sequential_sgd_whatever_the_interleaving(threads: int) -> None:
    """Each thread's rows have features of their own, so no order of threads can be seen."""
    count, seed = 3000, 3
    laid = shuffled(count, Random(seed))
    owner = np.empty(count, int)
    for place, row in enumerate(laid):
        owner[row] = next(t for t in range(threads) if place < count * (t + 1) // threads)
    random = np.random.default_rng(0)
    columns = owner * 7 + random.integers(0, 7, count)
    rows = sp.csr_matrix((random.normal(size=count).astype(np.float32), (np.arange(count), columns)))
    targets = random.normal(size=count).astype(np.float32)
    one_after_the_other = replay(rows, targets, "squared_error", [0.1, 0.1], seed, 0.0, threads)
    for _ in range(3):
        found, _ = train(rows, targets, [0.1, 0.1], 0, threads, seed, loss="squared_error", intercept_step=0.0)
        np.testing.assert_array_equal(found, one_after_the_other)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("outputs", [1, 3])
def test_deterministic_epochs_give_the_same_bits(threads: int, outputs: int) -> None:
    rows, targets = some_rows(2000)
    if outputs > 1:
        targets = (np.arange(2000) % outputs).astype(np.float32)
    options: dict[str, Any] = {"loss": "log_loss", "l2": 0.01, "deterministic": True, "period": 100}

    def run() -> Any:
        return train(rows, targets, [0.2, 0.1], 41, threads, outputs=outputs, **options)

    first, told = run()
    for _ in range(10):
        np.testing.assert_array_equal(first, run()[0])
    assert sum(each["examples"] for each in told) == 4000


@pytest.mark.parametrize("threads", [1, 2])
def test_features_that_no_row_has_had_yet_change_nothing(threads: int) -> None:
    """Neither looked at nor too late: an entry of 0 makes the engine look at all of them."""
    some, all_of_them = some_rows(2000, 20), some_rows(2000, 40)
    narrow = sp.csr_matrix((some[0].data, some[0].indices, some[0].indptr), (2000, 40))
    last = sp.csr_matrix(([0.0], ([0], [39])), narrow.shape, dtype=np.float32)
    seen = narrow.copy()
    seen.data, seen.indices = np.append(last.data, narrow.data), np.append(last.indices, narrow.indices)
    seen.indptr = np.append(0, narrow.indptr[1:] + 1)

    def run(first: Any) -> Any:
        model, out = _core.LinearModel(41, 41, 1, threads, "float32"), np.empty((41, 1), np.float32)
        for epoch, (rows, targets) in enumerate([(first, some[1]), all_of_them]):
            options = {"eta0": 0.1, "epoch": epoch, "l2": 0.01, "deterministic": True, "period": 100, "seed": 3}
            model.epoch(lay(rows, targets, 41, threads), None, epoch_options(loss="hinge", **options))
        model.read(out)
        return out

    np.testing.assert_array_equal(run(narrow), run(seen))
    assert np.count_nonzero(run(narrow)) == 41


@pytest.mark.parametrize("head", [0, 10, 41])
@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_threads_reach_the_objective_of_one(head: int, discipline: str) -> None:
    rows, targets = some_rows(8000)

    def objective(weights: Any) -> float:
        losses = np.logaddexp(0, -targets * (rows @ weights[1:] + weights[0]))
        return float(losses.mean() + 0.01 / 2 * weights[1:] @ weights[1:])

    etas = [0.1 * 0.6**epoch for epoch in range(10)]
    alone, _ = train(rows, targets, etas, loss="log_loss", l2=0.01)
    together, _ = train(rows, targets, etas, head, 2, loss="log_loss", l2=0.01, discipline=discipline, period=500)
    assert objective(together) == pytest.approx(objective(alone), rel=0.01)


def test_one_copy_is_no_copy() -> None:
    """A head with one thread: merging a single copy is the copy."""
    rows, targets = some_rows(1000)
    plain, _ = train(rows, targets, [0.1, 0.1], loss="squared_error", period=128)
    headed, _ = train(rows, targets, [0.1, 0.1], 41, 1, loss="squared_error", period=128)
    np.testing.assert_allclose(headed, plain, atol=1e-5)


# --- bfloat16 ----------------------------------------------------------------------------------------------


def test_stochastic_rounding_keeps_the_mean() -> None:
    """From 256 the next bfloat16 is 258: steps of 1/8 round to nothing or to 2, on average to 1/8."""
    steps, features = 4000, 64
    rows = sp.csr_matrix(np.ones((steps, features), np.float32))
    start = np.full(features + 1, 256, np.float32)
    found, _ = train(
        rows, np.full(steps, 1e9, np.float32), [0.125], start=start, loss="huber", epsilon=1.0, dtype="bfloat16"
    )
    moved = found[1:] - 256
    assert set(np.unique(moved % 2)) == {0.0}
    spread = np.sqrt(steps * 4 / 16 / features)  # variance of a step: 2^2 p (1 - p) with p = 1/16
    assert abs(moved.mean() - steps * 0.125) < 4 * spread + 4  # the spacing doubles at 512


def test_a_number_that_bfloat16_has_is_a_fixed_point() -> None:
    rows = sp.csr_matrix(np.ones((100, 3), np.float32))
    start = np.array([1, 1.5, -3.25, 0.00390625], np.float32)
    found, _ = train(rows, np.zeros(100, np.float32), [0.0], start=start, loss="squared_error", dtype="bfloat16")
    np.testing.assert_array_equal(found, start)


# --- what it tells -----------------------------------------------------------------------------------------


def test_one_thread_has_no_conflicts() -> None:
    rows, targets = some_rows(2000)
    _, (told,) = train(rows, targets, [0.1], loss="hinge", diagnose=True)
    watched = told["watched"]
    assert watched["examples"] == 2000 // 16
    assert watched["conflicts"] == 0
    assert watched["staleness"][0] == watched["examples"]


def test_conflicts_are_counted_where_threads_meet() -> None:
    rows, targets = some_rows(100_000, 4)
    _, (told,) = train(rows, targets, [0.001], 0, 2, loss="squared_error", diagnose=True)
    watched = told["watched"]
    assert sum(watched["staleness"]) == watched["examples"] > 0
    assert 0 <= watched["conflicts"] <= watched["coordinates"]
    assert len(watched["places"]) == watched["conflicts"]


# --- refusals ----------------------------------------------------------------------------------------------


def test_bad_input_is_refused_with_a_sentence() -> None:
    rows, targets = some_rows(10)
    model = _core.LinearModel(41, 0, 1, 1)
    with pytest.raises(TypeError, match="unknown options: \\['etta'\\]"):
        model.epoch(lay(rows, targets), None, epoch_options(etta=1))
    without = epoch_options()
    del without["alpha"]
    with pytest.raises(TypeError, match="missing options: \\['alpha'\\]"):
        model.epoch(lay(rows, targets), None, without)
    with pytest.raises(TypeError, match="adagrad must be a bool, got 1"):
        model.epoch(lay(rows, targets), None, epoch_options(adagrad=1))
    with pytest.raises(TypeError, match="steps must be a whole number of at least 0, got -1"):
        model.epoch(lay(rows, targets), None, epoch_options(steps=-1))
    with pytest.raises(ValueError, match="loss must be one of hinge, huber"):
        model.epoch(lay(rows, targets), None, epoch_options(loss="absolute"))
    with pytest.raises(ValueError, match="laid out for another model"):
        model.epoch(lay(rows, targets, head=5), None, epoch_options())
    with pytest.raises(ValueError, match="all of the model must be its head"):
        model.epoch(lay(rows, targets), None, epoch_options(deterministic=True))
    with pytest.raises(ValueError, match="targets must have 10 elements, got 9"):
        lay(rows, targets[:9])
    with pytest.raises(ValueError, match="numbers of classes below the number of outputs, 2"):
        lay(rows, np.full(10, 2, np.float32), outputs=2)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_value_that_is_not_finite_is_refused_with_its_row(value: float, threads: int) -> None:
    rows = some_rows(1000)[0].astype(np.float64)
    for row in (700, 300, 999):
        rows.data[rows.indptr[row]] = value
    with pytest.raises(ValueError, match="row 300 holds a value that float32 cannot"):
        _core.count_features(rows.indptr.astype(np.int64), rows.indices, rows.data, 40, threads)


def test_a_column_outside_is_refused_with_its_row() -> None:
    rows = some_rows(100)[0]
    rows.indices[rows.indptr[17]] = 40
    with pytest.raises(ValueError, match="row 17 has feature 40, and there are 40"):
        _core.count_features(rows.indptr.astype(np.int64), rows.indices, rows.data, 40, 2)


def many_epochs(model: _core.LinearModel, laid: _core.SparseRows, options: dict[str, Any]) -> None:
    while True:
        model.epoch(laid, None, options)


@pytest.mark.usefixtures("ctrl_c_is_heard")
@pytest.mark.parametrize("discipline", DISCIPLINES)
@pytest.mark.parametrize("deterministic", [False, True])
def test_ctrl_c_ends_an_epoch(discipline: str, deterministic: bool) -> None:
    if deterministic and discipline != "free":
        pytest.skip("deterministic epochs are free")
    rows = sp.csr_matrix(np.ones((50_000, 30), np.float32))
    head = 31 if deterministic else 0
    laid = lay(rows, np.ones(50_000, np.float32), head, 2)
    model = _core.LinearModel(31, head, 1, 2)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    options = epoch_options(deterministic=deterministic, discipline=discipline)
    with pytest.raises(KeyboardInterrupt):
        many_epochs(model, laid, options)
    timer.join()
