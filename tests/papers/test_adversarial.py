"""Attacks against a recursion of their own and closed forms; adversarial training on every transport."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loosestep as ls
from loosestep.adversarial import FGSM, PGD, AdversarialModel, Attack
from loosestep.adversarial.attack import Place
from loosestep.data.models import MLP, Softmax

ROWS, FEATURES, CLASSES = 24, 6, 3
RANDOM = np.random.default_rng(5)
X = RANDOM.random((ROWS, FEATURES))
Y = RANDOM.integers(0, CLASSES, ROWS)
NET = MLP(5).build(FEATURES, CLASSES, "f8")
PARAMS = NET.init(3)
TARGETS = (Y + 1) % CLASSES


def slope(labels: np.ndarray = Y) -> Callable[[Any], Any]:
    return lambda inputs: NET.input_gradient(PARAMS, (inputs, labels))


def losses(inputs: np.ndarray, labels: np.ndarray = Y) -> np.ndarray:
    """The loss of each row."""
    return np.array([NET.gradient(PARAMS, (x[None], y[None]))[0] for x, y in zip(inputs, labels, strict=True)])


# --- what an attack finds ---------------------------------------------------------------------------------------


def by_hand(attack: PGD, start: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The recursion, row by row, of the perturbation instead of the inputs, gradients by finite differences."""
    found = np.empty_like(X)
    low, high = attack.low, attack.high
    sense = -1 if attack.targeted else 1
    assert low is not None
    assert high is not None
    for row, (x, y) in enumerate(zip(X, labels, strict=True)):
        delta = start[row].astype(float)
        delta = np.minimum(np.maximum(x + delta, low), high) - x
        for _ in range(attack.steps):
            ways = np.eye(FEATURES) * 1e-6
            up, down = (losses(x + delta + s * ways, np.full(FEATURES, y)) for s in (1, -1))
            g = (up - down) / 2e-6
            step = np.sign(g) if attack.norm == math.inf else g / math.sqrt(sum(g**2))
            delta = delta + sense * attack.lengths[0] * step
            if attack.norm == math.inf:
                delta = np.maximum(np.minimum(delta, attack.epsilon), -attack.epsilon)
            elif (length := math.sqrt(sum(delta**2))) > attack.epsilon:
                delta = delta * attack.epsilon / length
            delta = np.minimum(np.maximum(x + delta, low), high) - x
        found[row] = x + delta
    return found


@pytest.mark.parametrize(("norm", "targeted"), [*product((math.inf, 2), (False, True))])
def test_pgd_is_its_recursion(norm: float, targeted: bool) -> None:
    attack = PGD(0.3, steps=4, norm=norm, targeted=targeted)
    labels, place = (TARGETS if targeted else Y), Place(seed=2, worker=1, step=7)
    expected = by_hand(attack, attack.start(X.shape, place), labels)
    np.testing.assert_allclose(attack.perturb(X, slope(labels), place), expected, atol=1e-7)


@pytest.mark.parametrize("norm", [math.inf, 2])
def test_fgsm_is_one_step_of_pgd(norm: float) -> None:
    plain = FGSM(0.2, norm=norm, random_start=False)
    one = PGD(0.2, steps=1, step=0.2, norm=norm, random_start=False)
    np.testing.assert_array_equal(plain.perturb(X, slope()), one.perturb(X, slope()))
    fast, far = FGSM(0.2, norm=norm), PGD(0.2, steps=1, step=0.25, norm=norm)
    np.testing.assert_array_equal(fast.perturb(X, slope()), far.perturb(X, slope()))


def test_defaults_are_those_of_the_papers() -> None:
    assert PGD(8 / 255).lengths == (2 / 255,) * 10
    assert FGSM(0.1).lengths == (0.125,)
    assert FGSM(0.1, random_start=False).lengths == (0.1,)
    assert (PGD.clean, FGSM.clean) == (1.0, 0.0)


ATTACKS = [
    kind(epsilon, norm=norm, targeted=targeted)
    for kind in (PGD, FGSM)
    for epsilon in (0.0, 0.05, 3.0)
    for norm in (math.inf, 2)
    for targeted in (False, True)
]


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_what_is_found_lies_in_the_ball_and_in_the_range(attack: Attack, dtype: str) -> None:
    x = X.astype(dtype)
    kept = x.copy()
    found = attack.perturb(x, lambda at: NET.input_gradient(PARAMS, (at, TARGETS)).astype(dtype))
    np.testing.assert_array_equal(x, kept)
    assert found.dtype == x.dtype
    assert found.min() >= 0
    assert found.max() <= 1
    lengths = np.linalg.norm(found - x, axis=1, ord=attack.norm)
    assert lengths.max() <= attack.epsilon * (1 + 1e-6) + 1e-7
    assert (attack.epsilon == 0) == bool((found == x).all())


@pytest.mark.parametrize("targeted", [False, True])
def test_the_loss_rises_and_that_of_a_target_falls(targeted: bool) -> None:
    labels = TARGETS if targeted else Y
    found = PGD(0.2, steps=20, step=0.02, targeted=targeted).perturb(X, slope(labels))
    change = losses(found, labels) - losses(X, labels)
    assert (change < 0).all() if targeted else (change > 0).all()


@pytest.mark.parametrize(("norm", "dual"), [(math.inf, 1), (2, 2)])
def test_of_a_linear_model_the_margin_falls_by_epsilon_times_the_dual_norm(norm: float, dual: int) -> None:
    """Two classes: the loss of a row with margin m is log(1 + e^-m), attacked log(1 + e^-(m - epsilon |w|))."""
    linear = Softmax().build(FEATURES, 2, "f8")
    params, labels = linear.init(1), Y % 2
    weights, _ = linear.layers(params)[0]
    w = weights[:, 0] - weights[:, 1]
    margins = np.where(labels == 0, 1, -1) * (X @ w)
    expected = np.log1p(np.exp(-(margins - 0.3 * np.linalg.norm(w, dual)))).mean()
    for attack in (
        PGD(0.3, norm=norm, low=None, high=None, steps=50, step=0.1),
        FGSM(0.3, norm=norm, low=None, high=None, random_start=False),
    ):
        robust = AdversarialModel(linear, attack, test=attack).evaluate(params, (X, labels))
        assert robust["loss"] == pytest.approx(np.log1p(np.exp(-margins)).mean())
        assert robust["robust_loss"] == pytest.approx(expected, rel=1e-6)
        assert robust["robust_accuracy"] == np.mean(margins > 0.3 * np.linalg.norm(w, dual))


@pytest.mark.parametrize("norm", [math.inf, 2])
def test_starts_are_uniform_in_the_ball_and_differ_by_seed_worker_step_and_call(norm: float) -> None:
    attack = PGD(0.5, norm=norm)
    places = [Place(seed, worker, step, call) for seed, worker, step, call in product((0, 1), repeat=4)]
    starts = [attack.start((4000, 3), place) for place in places]
    np.testing.assert_array_equal(starts[5], attack.start((4000, 3), places[5]))
    assert len({start.tobytes() for start in starts}) == len(places)
    for start in starts:
        lengths = np.linalg.norm(start, axis=1, ord=norm) / 0.5
        assert lengths.max() <= 1 + 1e-6
        assert np.abs(start.mean(axis=0)).max() < 0.02
        assert (lengths**3).mean() == pytest.approx(0.5, abs=0.025)  # a uniform point's r^d is uniform
    covariance = np.cov(np.stack([start.ravel() for start in starts]))
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 0.01


# --- training ---------------------------------------------------------------------------------------------------


def batches(rank: int, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    x, y = X.astype("f4")[rank::size], Y[rank::size]
    return iter([(x, y)] * 12)


def trained(gradient: Any, on: ls.Transport | None = None, strategy: Any = None, **options: Any) -> bytes:
    net = MLP(5).build(FEATURES, CLASSES)
    strategy = strategy or ls.AllReduceSGD()
    options = {"optimizer": ls.SGD(0.2), **options}
    result = ls.run(strategy, gradient, net.init(0), batches, on=on or ls.Threads(2), **options)
    return result.params.tobytes()


SMALL = MLP(5).build(FEATURES, CLASSES)
each_transport = pytest.mark.parametrize("on", [ls.Serial(), ls.Threads(3), ls.Simulated(3)], ids=repr)


@each_transport
@pytest.mark.parametrize("strategy", [ls.AllReduceSGD(), ls.LocalSGD(4)], ids=repr)
def test_without_a_perturbation_it_is_standard_training(on: Any, strategy: Any) -> None:
    expected = trained(SMALL.gradient, on, strategy)
    for attack in (PGD(0.0, steps=2), PGD(0.0, steps=2, norm=2), FGSM(0.0)):
        assert trained(AdversarialModel(SMALL, attack).gradient, on, strategy) == expected


def test_a_seed_gives_the_same_bits_on_every_transport_and_another_seed_others() -> None:
    gradient = AdversarialModel(SMALL, PGD(0.2, steps=2)).gradient
    found = {trained(gradient, on, seed=7) for on in (ls.Threads(3), ls.Simulated(3), ls.Threads(3))}
    assert len(found) == 1
    assert trained(gradient, ls.Threads(3), seed=8) not in found


def test_a_resumed_run_attacks_as_an_unbroken_one(tmp_path: Path) -> None:
    gradient = AdversarialModel(SMALL, PGD(0.2, steps=2)).gradient
    options: dict[str, Any] = {"checkpoint": tmp_path, "checkpoint_every": 5}
    trained(gradient, steps=5, **options)
    assert trained(gradient, steps=12, resume=True, **options) == trained(gradient, steps=12)


def test_its_loss_and_gradient_are_the_means_of_both_parts() -> None:
    robust = AdversarialModel(NET, PGD(0.1), clean=0.5)
    found = PGD(0.1).perturb(X, slope())
    (clean, one), (attacked, other) = NET.gradient(PARAMS, (X, Y)), NET.gradient(PARAMS, (found, Y))
    loss, gradient = robust.gradient(PARAMS, (X, Y))
    assert loss == pytest.approx((attacked + clean / 2) / 1.5)
    np.testing.assert_allclose(gradient, (other + one / 2) / 1.5, rtol=1e-12)


class Buffered:
    """Its gradients, without losses, are all in one buffer, as those of a torch module are."""

    def __init__(self) -> None:
        self.buffer = np.empty(NET.size)

    def gradient(self, params: Any, batch: Any) -> np.ndarray:
        self.buffer[:] = NET.gradient(params, batch)[1]
        return self.buffer

    input_gradient = staticmethod(NET.input_gradient)


def test_a_model_may_return_no_loss_and_the_same_buffer_again() -> None:
    gradient = AdversarialModel(Buffered(), PGD(0.1)).gradient(PARAMS, (X, Y))
    np.testing.assert_array_equal(gradient, AdversarialModel(NET, PGD(0.1)).gradient(PARAMS, (X, Y))[1])


def features(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A label, one feature that shows it in 9 of 10 rows, and forty that show it a little each.

    After D. Tsipras et al., Robustness May Be at Odds with Accuracy, arXiv:1805.12152, section 2.1.
    """
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, rows)
    strong = np.where(random.random(rows) < 0.9, 2 * y - 1, 1 - 2 * y)[:, None]
    weak = random.normal(0.4 * (2 * y - 1)[:, None], 1.0, (rows, 40))
    return np.concatenate([strong, weak], axis=1), y


def test_training_on_attacks_makes_robust() -> None:
    linear = Softmax().build(41, 2, "f8")
    attack = PGD(0.5, steps=2, step=0.5, low=None, high=None)
    robust_gradient = AdversarialModel(linear, attack, clean=0.0).gradient
    rows, test = features(600, 0), features(600, 1)

    def accuracy(gradient: Any) -> tuple[float, float]:
        deal = lambda rank, size: iter([tuple(part[rank::size] for part in rows)] * 80)  # noqa: E731
        x0 = np.zeros(linear.size)
        params = ls.run(ls.AllReduceSGD(), gradient, x0, deal, on=ls.Simulated(2), optimizer=ls.SGD(0.1)).params
        found = AdversarialModel(linear, attack).evaluate(params, test)
        return found["test_accuracy"], found["robust_accuracy"]

    (plain, broken), (kept, robust) = (accuracy(each) for each in (linear.gradient, robust_gradient))
    assert plain > 0.95
    assert broken < 0.4
    assert kept > 0.85
    assert robust > 0.85


def test_an_evaluation_in_blocks_is_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    robust = AdversarialModel(NET, FGSM(0.1))
    assert robust.test == PGD(0.1)
    first = robust.evaluate(PARAMS, (X, Y))
    assert first == robust.evaluate(PARAMS, (X, Y))
    assert first.keys() == {"test_accuracy", "loss", "robust_accuracy", "robust_loss"}
    assert first["robust_loss"] > first["loss"]
    monkeypatch.setattr("loosestep.adversarial.model.BLOCK", 7)
    assert robust.evaluate(PARAMS, (X, Y))["robust_loss"] == pytest.approx(first["robust_loss"], rel=0.01)


def test_training_may_aim_at_targets() -> None:
    aimed = AdversarialModel(NET, PGD(0.1, targeted=True), clean=0.0, targets=lambda y: (y + 1) % CLASSES)
    found = PGD(0.1, targeted=True).perturb(X, slope(TARGETS))
    assert aimed.gradient(PARAMS, (X, Y))[0] == NET.gradient(PARAMS, (found, Y))[0]


# --- large batches and few bits ---------------------------------------------------------------------------------


def test_lamb_without_decay_is_the_layer_wise_rule_of_the_release() -> None:
    """phi(|w|) / |u| u with phi = min(|w|, 10) of every tensor and no bias correction, which the ratio cancels."""
    ours, theirs = RANDOM.normal(0, 9.0, 12), np.empty(0)
    theirs = ours.copy()
    optimizer = ls.LAMB(0.01, largest=10, vectors=True, weight_decay=0.0)
    moments, m, v = (np.zeros(12), np.zeros(12)), np.zeros(12), np.zeros(12)
    for step in range(20):
        g = RANDOM.normal(size=12)
        optimizer.update(ours, g.copy(), moments, step, step + 1, shapes=((3, 3), (3,)))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        u = m / (np.sqrt(v) + 1e-6)
        for low, high in pairwise((0, 9, 12)):
            part = slice(low, high)
            ratio = min(np.linalg.norm(theirs[part]), 10) / np.linalg.norm(u[part])
            theirs[part] -= 0.01 * ratio * u[part]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_gradients_of_attacks_are_quantised_as_any() -> None:
    gradient = AdversarialModel(SMALL, PGD(0.2, steps=2)).gradient
    strategy = ls.ErrorFeedback(ls.AllReduceSGD(), ls.QSGD(127))
    one, other = (np.frombuffer(trained(gradient, ls.Simulated(3), each), "f4") for each in (None, strategy))
    assert trained(gradient, ls.Threads(3), strategy) == other.tobytes()
    assert 0 < np.linalg.norm(one - other) < 0.05 * np.linalg.norm(one - SMALL.init(0))


# --- refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "kind", "sentence"),
    [
        (lambda: PGD(-0.1), ValueError, "epsilon must be at least 0 and finite, got -0.1"),
        (lambda: PGD(0.1, steps=0), ValueError, "steps must be at least 1, got 0"),
        (lambda: PGD(0.1, step=math.nan), ValueError, "step must be at least 0 and finite, got nan"),
        (lambda: FGSM(0.1, norm=1), ValueError, "norm must be one of inf, 2, got 1"),
        (lambda: FGSM(0.1, targeted="yes"), ValueError, "targeted must be one of True, False, got 'yes'"),  # type: ignore[arg-type]
        (lambda: PGD(low=1.0, high=0.0), ValueError, "low must be below high, got 1.0 and 0.0"),
        (lambda: PGD(high="white"), TypeError, "high must be a number, or None for no limit, got 'white'"),  # type: ignore[arg-type]
        (lambda: FGSM(low=math.nan, high=None), TypeError, "low must be a number, or None for no limit, got nan"),
        (
            lambda: PGD().perturb(np.zeros((1, 2), np.uint8), slope()),
            TypeError,
            "inputs must be floating-point numbers to be attacked, got uint8",
        ),
        (
            lambda: PGD().perturb(X - 0.5, slope()),
            ValueError,
            "inputs must be from low=0.0 to high=1.0, got -0.4",
        ),
        (
            lambda: AdversarialModel(lambda x, b: x, PGD()),  # type: ignore[arg-type]
            TypeError,
            r"model must have gradient\(params, \(inputs, labels\)\), which returns",
        ),
        (lambda: AdversarialModel(NET, PGD), TypeError, r"attack must be an Attack, .* did you mean PGD\(\)?"),  # type: ignore[arg-type]
        (lambda: AdversarialModel(NET, PGD(), clean=-1), ValueError, "clean must be at least 0"),
        (lambda: AdversarialModel(NET, PGD(targeted=True)), ValueError, "goes with a targeted attack alone"),
        (lambda: AdversarialModel(NET, PGD(), targets=np.copy), ValueError, "goes with a targeted attack alone"),
        (
            lambda: AdversarialModel(NET, PGD(), test=PGD(targeted=True)),
            ValueError,
            r"test must be an attack that is not targeted, got PGD\(targeted=True\)",
        ),
        (
            lambda: AdversarialModel(Buffered(), PGD()).evaluate(PARAMS, (X, Y)),
            TypeError,
            r"model must have evaluate\(params, \(inputs, labels\)\) to be evaluated, and Buffered has none",
        ),
    ],
)
def test_bad_input(make: Callable[[], object], kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        make()


def test_a_model_without_gradients_of_inputs_is_named() -> None:
    class Plain:
        gradient = staticmethod(NET.gradient)

    with pytest.raises(
        TypeError, match=r"model must have input_gradient\(.*respect to inputs, and Plain has none"
    ):
        AdversarialModel(Plain(), PGD())  # type: ignore[arg-type]


def test_no_rows_are_no_error() -> None:
    for norm in (math.inf, 2):
        assert PGD(norm=norm).perturb(X[:0], lambda at: at).shape == (0, FEATURES)
