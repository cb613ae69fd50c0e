"""Estimators with device='cuda': they reach what the CPU reaches, and refuse what the kernels lack."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from tests.cuda.carriers import Carrier

from loosestep.cuda.hogwild import StepSize
from loosestep.foundation.errors import LoosestepError
from loosestep.sparse import HogwildClassifier, HogwildRegressor, MatrixFactorization
from loosestep.sparse.linear_device import step_sizes

PLAIN: dict[str, Any] = {"max_iter": 5, "tol": None, "random_state": 0, "device": "cuda"}


def problem(classes: int = 2, count: int = 200) -> tuple[Any, np.ndarray]:
    """Sparse rows whose classes a linear model can tell apart."""
    rng = np.random.default_rng(0)
    rows = sp.random(count, 30, 0.3, format="csr", random_state=0, dtype=np.float32)
    return rows, np.argmax(rows @ rng.standard_normal((30, classes)), axis=1)


@pytest.mark.usefixtures("carrier")
@pytest.mark.parametrize("loss", ["log_loss", "hinge", "squared_hinge"])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_classifier_reaches_the_objective_of_the_cpu(loss: str, classes: int) -> None:
    rows, y = problem(classes)
    options = {"loss": loss, "alpha": 1e-3, "learning_rate": "invscaling", "eta0": 0.5, "power_t": 0.3}
    there = HogwildClassifier(**options, **PLAIN, n_threads=1).fit(rows, y)
    here = HogwildClassifier(**options, **{**PLAIN, "device": "cpu"}).fit(rows, y)
    assert there.score(rows, y) >= here.score(rows, y) - 0.03
    assert there.loss_curve_[-1] == pytest.approx(here.loss_curve_[-1], rel=0.1)
    assert there.loss_curve_[-1] < 0.8 * there.loss_curve_[0]


@pytest.mark.usefixtures("carrier")
@pytest.mark.parametrize("penalty", ["l2", "l1", None])
def test_one_warp_is_the_rule_row_after_row(penalty: str | None) -> None:
    """SGD over the shuffled rows, in float64, the penalty once after every 10 rows."""
    rows, y = problem(count=40)
    options = {
        "loss": "squared_error",
        "penalty": penalty,
        "alpha": 0.1,
        "learning_rate": "constant",
        "eta0": 0.05,
    }
    model = HogwildRegressor(**options, **{**PLAIN, "max_iter": 2}, n_threads=1, period=10).fit(
        rows, y.astype(float)
    )
    w, b = np.zeros(30), 0.0
    order = np.random.default_rng(model._trainer.settings.seed).permutation(40)
    dense = rows.toarray().astype(np.float64)
    for part in np.tile(order, 2).reshape(-1, 10):
        for i in part:
            slope = dense[i] @ w + b - y[i]
            w, b = w - 0.05 * slope * dense[i], b - 0.01 * 0.05 * slope
        w = w * np.exp(-0.1 * 0.5) if penalty == "l2" else w
        w = np.sign(w) * np.maximum(np.abs(w) - 0.1 * 0.5, 0) if penalty == "l1" else w
    np.testing.assert_allclose(model.coef_.ravel(), w, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.intercept_, b, rtol=1e-4)


@pytest.mark.usefixtures("carrier")
def test_going_on_and_pickles() -> None:
    """A pass more, from a copy or from the estimator itself, gives one model; the CPU goes on from the GPU's."""
    rows, y = problem()
    model = HogwildClassifier(**PLAIN, n_threads=1, learning_rate="constant", eta0=0.1)
    model.partial_fit(rows, y, classes=[0, 1])
    copy = pickle.loads(pickle.dumps(model))
    assert (copy.predict(rows) == model.predict(rows)).all()
    assert (copy.partial_fit(rows, y).coef_ == model.partial_fit(rows, y).coef_).all()
    assert model.t_ == 1 + 2 * len(y)
    before = model.coef_.copy()
    model.set_params(device="cpu", eta0=1e-7).partial_fit(rows, y)
    np.testing.assert_allclose(model.coef_, before, atol=1e-3)
    model.set_params(device="cuda").partial_fit(rows, y)
    assert model.n_iter_ == 4


@pytest.mark.usefixtures("carrier")
def test_weights_that_are_not_finite() -> None:
    rows, y = problem()
    with pytest.raises(FloatingPointError, match=r"no longer finite in epoch 1"):
        HogwildRegressor(**PLAIN, learning_rate="constant", eta0=1e30).fit(rows * 1e10, y.astype(float))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("average", True), ("deterministic", True), ("diagnose", True), ("dtype", "bfloat16"), ("head", 3),
        ("regularize", "touched"), ("learning_rate", "adagrad"),
    ],
)  # fmt: skip
def test_a_linear_model_refuses_what_the_kernels_do_not_have(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"device='cuda' .*{name}="):
        HogwildClassifier(**{**PLAIN, name: value}).fit(*problem())


def test_softmax_is_refused() -> None:
    with pytest.raises(ValueError, match="device='cuda' needs multi_class='ovr', got 'multinomial'"):
        HogwildClassifier("log_loss", multi_class="multinomial", **PLAIN).fit(*problem(3))


@pytest.mark.parametrize("schedule", ["constant", "invscaling", "optimal"])
def test_the_penalty_is_that_of_the_launch_s_step_sizes(schedule: str) -> None:
    rate = StepSize(0.5, schedule, 0.3, 0.01, 7.0)
    one = {
        "constant": lambda t: 0.5,
        "invscaling": lambda t: 0.5 / t**0.3,
        "optimal": lambda t: 1 / (0.01 * (7 + t)),
    }
    assert step_sizes(rate, 5, 20) == pytest.approx(sum(one[schedule](t) for t in range(6, 26)), rel=1e-12)


def ratings() -> tuple[np.ndarray, np.ndarray]:
    pairs = np.array([[u, i] for u in range(12) for i in range(10)])
    return pairs, np.outer(np.arange(12) % 4, np.arange(10) % 3).ravel().astype(np.float32)


FACTORS: dict[str, Any] = {"schedule": "backoff", "learning_rate": 0.05, "l2": 1e-3, "random_state": 0}


@pytest.mark.usefixtures("carrier")
@pytest.mark.parametrize("intercept", [False, True])
def test_factors_reach_the_error_of_the_cpu(intercept: bool) -> None:
    pairs, given = ratings()
    options = {**FACTORS, "max_iter": 40, "fit_intercept": intercept, "n_threads": 1, "adds": "exact"}
    there = MatrixFactorization(4, **options, device="cuda").fit(pairs, given)
    here = MatrixFactorization(4, **options).fit(pairs, given)
    assert there.rmse_[-1] == pytest.approx(here.rmse_[-1], rel=0.3)
    assert there.rmse_[-1] < 0.5 * there.rmse_[0]
    assert np.sqrt(np.mean((there.predict(pairs) - given) ** 2)) < there.rmse_[-1] * 1.1
    first = there.rmse_[-1]
    there.partial_fit(pairs, given)
    assert there.rmse_[-1] <= first * 1.05


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("schedule", "adagrad"), ("algorithm", "rotation"), ("dtype", "bfloat16"), ("feedback", "implicit"),
        ("l2_scale", "degree"),
    ],
)  # fmt: skip
def test_factors_refuse_what_the_kernels_do_not_have(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"device='cuda' needs {name}="):
        MatrixFactorization(4, **{**FACTORS, name: value}, device="cuda").fit(*ratings())


def test_no_gpu_and_no_cupy_is_one_sentence() -> None:
    pytest.importorskip("sklearn")
    try:
        import cupy  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("CuPy is here")
    with pytest.raises(LoosestepError, match="need CuPy"):
        HogwildClassifier(**PLAIN).fit(*problem())


def test_the_carrier_is_used(carrier: Carrier) -> None:
    """Launches of one fit: 16 a pass, and as many that shrink."""
    if not carrier.launches() and type(carrier).__name__ == "OnGpu":
        pytest.skip("a GPU does not list its launches")
    before = len(carrier.launches())
    HogwildClassifier(**{**PLAIN, "max_iter": 1}, n_threads=1).fit(*problem(count=160))
    kernels = [launch.kernel for launch in carrier.launches()[before:]]
    assert sum("linear" in each for each in kernels) == 16
