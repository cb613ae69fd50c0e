"""Large batches: what LARS, LAMB and RMSprop warm-up do in one step and in many, and rates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import exp, sqrt
from typing import Any

import numpy as np
import pytest
from tests.papers.problems import EQUAL, Array, around, changes_sides, difference, homogeneous, quadratics, trace

import loosestep as ls
from loosestep import ops
from loosestep.data.models import MLP
from loosestep.foundation.errors import WorkerFailed
from loosestep.optimizers import Optimizer, schedules

SHAPES = ((4, 3), (3,), (3, 2), (2,))
SIZE, MATRICES = 23, [slice(0, 12), slice(15, 21)]
RNG = np.random.default_rng(5)
START, SLOPE = RNG.normal(size=SIZE), RNG.normal(size=SIZE)


def step(optimizer: Optimizer, slopes: list[Array], shapes: Any = SHAPES, start: Array = START) -> Array:
    """Where the steps along these gradients end."""
    x = start.copy()
    moments = optimizer.init(x)
    for count, slope in enumerate(slopes):
        optimizer.update(x, slope.copy(), moments, count, count + 1, shapes=shapes)
    return x


def parts(shapes: Any) -> Iterator[tuple[slice, bool]]:
    begin = 0
    for shape in shapes:
        yield slice(begin, begin + int(np.prod(shape))), len(shape) > 1
        begin += int(np.prod(shape))


# --- LARS, LAMB: the recursions, in plain numpy --------------------------------------------------------------


def lars(slopes: list[Array], rate: float, mu: float, decay: float, trust: float) -> Array:
    w, v = START.copy(), np.zeros(SIZE)
    for g in slopes:
        for part, matrix in parts(SHAPES):
            lam, wd = 1.0, 0.0
            if matrix:
                wd = decay
                lengths = np.linalg.norm(w[part]), np.linalg.norm(g[part])
                lam = trust * lengths[0] / (lengths[1] + wd * lengths[0])
            v[part] = mu * v[part] + rate * lam * (g[part] + wd * w[part])
            w[part] -= v[part]
    return w


def lamb(slopes: list[Array], rate: float, decay: float, largest: float = np.inf) -> Array:
    w, m, v = START.copy(), np.zeros(SIZE), np.zeros(SIZE)
    for t, g in enumerate(slopes, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        u = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6)
        for part, matrix in parts(SHAPES):
            move = u[part] + (decay * w[part] if matrix else 0)
            ratio = min(np.linalg.norm(w[part]), largest) / np.linalg.norm(move) if matrix else 1.0
            w[part] = w[part] - rate * ratio * move
    return w


GRADIENTS = list(RNG.normal(size=(12, SIZE)))


def test_lars_follows_the_recursion() -> None:
    found = step(ls.LARS(0.5, momentum=0.8, weight_decay=0.03, trust=0.01), GRADIENTS)
    assert difference(found, lars(GRADIENTS, 0.5, 0.8, 0.03, 0.01)) < EQUAL


@pytest.mark.parametrize("largest", [None, 0.7])
def test_lamb_follows_the_recursion(largest: float | None) -> None:
    found = step(ls.LAMB(0.01, weight_decay=0.03, largest=largest), GRADIENTS)
    assert difference(found, lamb(GRADIENTS, 0.01, 0.03, largest or np.inf)) < EQUAL


@pytest.mark.parametrize("k", [1e-3, 7.0, 1e4])
def test_lars_and_lamb_do_not_see_the_scale_of_a_gradient(k: float) -> None:
    """Without decay; LAMB up to its epsilon, and biases aside, which LARS steps plainly."""
    for optimizer, tolerance in ((ls.LARS(weight_decay=0.0), 1e-14), (ls.LAMB(weight_decay=0.0), 1e-2)):
        one, other = step(optimizer, [SLOPE]), step(optimizer, [k * SLOPE])
        for part in MATRICES:
            assert difference(one[part], other[part]) < tolerance


def test_the_first_step_of_lars_has_length_rate_trust_weights() -> None:
    moved = step(ls.LARS(2.0, weight_decay=0.0, trust=0.01), [SLOPE]) - START
    for part in MATRICES:
        assert np.linalg.norm(moved[part]) == pytest.approx(0.02 * np.linalg.norm(START[part]), rel=1e-13)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_every_step_of_lamb_has_length_rate_weights(decay: float) -> None:
    moved = step(ls.LAMB(0.05, weight_decay=decay), [SLOPE]) - START
    for part in MATRICES:
        assert np.linalg.norm(moved[part]) == pytest.approx(0.05 * np.linalg.norm(START[part]), rel=1e-13)


@pytest.mark.parametrize("optimizer", [ls.LARS(0.1), ls.LAMB(0.1)], ids=repr)
@pytest.mark.parametrize("zeros", ["weights", "gradient"])
def test_a_norm_of_zero_leaves_the_rate_alone(optimizer: Any, zeros: str) -> None:
    assert optimizer.ratio(0.0, 2.0) == optimizer.ratio(2.0, 0.0) == 1.0
    start, slope = (np.zeros(6), np.ones(6)) if zeros == "weights" else (np.ones(6), np.zeros(6))
    assert np.isfinite(step(optimizer, [slope], [(2, 3)], start)).all()


def test_biases_are_stepped_plainly_and_with_vectors_likewise() -> None:
    moved = step(ls.LARS(0.1), [SLOPE]) - START
    assert difference(moved[12:15], -0.1 * SLOPE[12:15]) < 1e-15
    moved = step(ls.LARS(0.1, weight_decay=0.0, vectors=True), [SLOPE]) - START
    assert np.linalg.norm(moved[12:15]) == pytest.approx(1e-4 * np.linalg.norm(START[12:15]), rel=1e-13)


def test_where_no_tensors_are_known_all_is_one() -> None:
    moved = step(ls.LARS(0.1, weight_decay=0.0), [SLOPE], ()) - START
    assert np.linalg.norm(moved) == pytest.approx(1e-4 * np.linalg.norm(START), rel=1e-13)


@pytest.mark.parametrize("optimizer", [ls.LARS(), ls.LAMB()], ids=repr)
def test_a_built_in_model_tells_its_tensors(optimizer: Optimizer) -> None:
    classifier = MLP(5).build(3, 2, np.float64)
    assert classifier.shapes == ((3, 5), (5,), (5, 2), (2,))
    batch = np.ones((4, 3)), np.array([0, 1, 1, 0])

    def end(shapes: Any) -> Array:
        result = ls.run(
            optimizer=optimizer,
            strategy=ls.AllReduceSGD(),
            gradient=classifier.gradient,
            x0=classifier.init(0),
            batches=lambda rank, size: iter([batch] * 3),
            shapes=shapes,
        )
        return np.asarray(result.params)

    x = classifier.init(0)
    slopes, moments = [], optimizer.init(x)
    for count in range(3):
        slopes.append(classifier.gradient(x, batch)[1])
        optimizer.update(x, slopes[-1], moments, count, count + 1, shapes=classifier.shapes)
    assert (end(classifier.shapes) == x).all()
    assert difference(end(()), x) > 1e-6
    with pytest.raises(ValueError, match="shapes must be of 32 values together, as x0 has, got 15"):
        end([(3, 5)])


# --- RMSprop warm-up ------------------------------------------------------------------------------------------


def test_the_share_of_sgd_rises_from_0_to_1_without_a_jump() -> None:
    optimizer = ls.RMSpropWarmup(center=1000, width=500)
    shares = [optimizer.sgd_share(e) for e in range(2000)]
    rises = np.diff(shares)
    assert 0 < shares[0] < 0.01
    assert shares[1000] == 0.5
    assert shares[1249] < 1.0 == shares[1250] == shares[-1]
    assert (rises >= 0).all()
    assert rises.max() <= 1 / 500 + 1e-12, "the slope in the middle; the form that circulates would jump by a half"
    assert rises[999] == pytest.approx(rises[1000], rel=2e-3)


def test_shares_at_the_papers_epochs() -> None:
    optimizer = ls.RMSpropWarmup(center=10, width=5)
    expected = {0: 0.5 * exp(-4), 5: 0.5 * exp(-2), 10: 0.5, 11: 0.7, 12: 0.9, 13: 1.0}
    for epoch, share in expected.items():
        assert optimizer.sgd_share(epoch) == pytest.approx(share, rel=1e-15)


def rmsprop_warmup(share: Callable[[int], float], rate: float, rms_rate: float) -> Array:
    x, d, m = START.copy(), np.zeros(SIZE), np.zeros(SIZE)
    for e, g in enumerate(GRADIENTS):
        a = share(e)
        m = 0.99 * m + 0.01 * g * g
        d = 0.9 * d - (a + (1 - a) * rms_rate / rate / (np.sqrt(m) + 1e-8)) * g
        x = x + rate * d
    return x


def test_rmsprop_warmup_follows_the_recursion() -> None:
    optimizer = ls.RMSpropWarmup(0.2, rms_rate=1e-3, center=6, width=8)
    assert difference(step(optimizer, GRADIENTS), rmsprop_warmup(optimizer.sgd_share, 0.2, 1e-3)) < EQUAL


def test_when_the_share_is_1_it_is_momentum_sgd() -> None:
    found = step(ls.RMSpropWarmup(0.2, center=0, width=0), GRADIENTS)
    assert difference(found, step(ls.Momentum(0.2, 0.9), GRADIENTS)) < EQUAL


def test_when_the_share_is_0_it_is_rmsprop_with_momentum_at_its_own_rate() -> None:
    """The rate of SGD cancels."""
    ends = [step(ls.RMSpropWarmup(rate, rms_rate=1e-3, center=1e9), GRADIENTS) for rate in (0.2, 5.0)]
    x, v, m = START.copy(), np.zeros(SIZE), np.zeros(SIZE)
    for g in GRADIENTS:
        m = 0.99 * m + 0.01 * g * g
        v = 0.9 * v - 1e-3 * g / (np.sqrt(m) + 1e-8)
        x = x + v
    for end in ends:
        assert difference(end, x) < EQUAL


def test_as_momentum_sgd_it_is_stable_up_to_2_plus_2_mu() -> None:
    optimizer = ls.RMSpropWarmup(1.0, center=0, width=0, momentum=0.5)
    found = trace(ls.AllReduceSGD(), homogeneous(around(3.0), 2), 240, optimizer=optimizer)
    assert changes_sides(found.points[0])


# --- rates ----------------------------------------------------------------------------------------------------


def test_a_warmup_begins_at_its_start_and_ends_at_the_target_on_a_line() -> None:
    rate = ls.schedules.Warmup(0.8, 40, start=0.1)
    values = np.array([rate(step) for step in range(60)])
    assert values[0] == 0.1
    assert (values[40:] == 0.8).all()
    assert np.diff(values[:41]) == pytest.approx(np.full(40, 0.7 / 40), rel=1e-12)


def test_drops_are_at_their_steps() -> None:
    rate = ls.schedules.StepDecay(0.4, at=(30, 60, 80))
    assert [rate(step) for step in (0, 29)] == [0.4, 0.4]
    assert [rate(step) for step in (30, 60, 80)] == pytest.approx([0.04, 0.004, 0.0004], rel=1e-14)


def test_polynomial_and_cosine_fall_to_their_ends() -> None:
    polynomial, cosine = ls.schedules.Polynomial(1.0, 100, end=0.2), ls.schedules.Cosine(1.0, 100, end=0.2)
    assert [polynomial(step) for step in (0, 50, 100, 500)] == pytest.approx([1.0, 0.2 + 0.8 / 4, 0.2, 0.2])
    assert [cosine(step) for step in (0, 50, 100, 500)] == pytest.approx([1.0, 0.6, 0.2, 0.2])
    assert cosine(25) == pytest.approx(0.2 + 0.8 * (1 + sqrt(0.5)) / 2)


def test_rates_are_values_that_parse_compose_and_scale() -> None:
    from loosestep.cli.expressions import ExpressionError, parse, public

    text = "SGD(Warmup(StepDecay(0.1, at=(300, 600)), steps=50, start=0.1))"
    optimizer = parse(text, public(ls))
    assert repr(parse(repr(optimizer), public(ls))) == repr(optimizer)
    eight = optimizer.scaled(8.0).rate
    assert [eight(step) for step in (0, 50, 300)] == pytest.approx([0.1, 0.8, 0.08]), "the start is for one worker"
    with pytest.raises(ExpressionError, match="rate must be a number, got SGD"):
        parse("SGD(SGD())", public(ls))


@pytest.mark.parametrize("optimizer", [ls.Momentum, ls.Nesterov])
@pytest.mark.parametrize(
    "rate", [ls.schedules.Warmup(0.4, 8, start=0.1), ls.schedules.StepDecay(0.4, at=(3, 7))], ids=repr
)
def test_with_correction_the_rate_is_as_if_outside(optimizer: Any, rate: Any) -> None:
    """u <- mu u + g; x <- x - rate u, or for Nesterov x <- x - rate (g + mu u)."""
    x, u = START.copy(), np.zeros(SIZE)
    for e, g in enumerate(GRADIENTS):
        u = 0.9 * u + g
        x = x - rate(e) * (g + 0.9 * u if optimizer is ls.Nesterov else u)
    assert difference(step(optimizer(rate), GRADIENTS), x) < EQUAL
    assert difference(step(optimizer(rate, correction=False), GRADIENTS), x) > 1e-3


def test_while_the_rate_stands_correction_changes_no_bit() -> None:
    ends = [step(ls.Nesterov(lambda e: 0.1, correction=on), GRADIENTS) for on in (True, False)]
    assert ends[0].tobytes() == ends[1].tobytes() == step(ls.Nesterov(0.1), GRADIENTS).tobytes()


# --- one step of the union ------------------------------------------------------------------------------------

ROWS = RNG.normal(size=(24, 5))


@pytest.mark.parametrize("cuts", [(6, 12, 18), (1, 2, 3), (8, 8, 20)], ids=str)
@pytest.mark.parametrize("optimizer", [ls.Nesterov(0.3), ls.LARS(), ls.LAMB(), ls.RMSpropWarmup()], ids=repr)
def test_a_global_batch_split_in_any_way_gives_one_step(cuts: tuple[int, ...], optimizer: Optimizer) -> None:
    def batches(rank: int, size: int) -> Iterator[Array]:
        return iter([np.split(ROWS, cuts)[rank] if size == 4 else ROWS] * 6)

    def gradient(x: Array, batch: Array) -> Array:
        return (batch * (batch @ x)[:, None]).mean(axis=0) if len(batch) else np.zeros(5)

    ends = [
        ls.run(ls.AllReduceSGD(), gradient, np.ones(5), batches, optimizer=optimizer, on=ls.Simulated(n)).params
        for n in (1, 4)
    ]
    assert difference(*ends) < EQUAL


@pytest.mark.parametrize(("scaling", "by"), [("none", 1.0), ("linear", 4.0), ("sqrt", 2.0)])
def test_scale_rate_is_for_the_batch_of_all_workers(scaling: Any, by: float) -> None:
    assert schedules.factor(scaling, 4) == by
    problem = quadratics(4)

    def end(rate: float, scaling: Any) -> Array:
        options: dict[str, Any] = {"optimizer": ls.SGD(rate), "steps": 9, "on": ls.Simulated(4)}
        batches = lambda rank, size: iter([rank] * 9)  # noqa: E731
        return np.asarray(
            ls.run(ls.LocalSGD(2), problem.gradient, problem.start, batches, scale_rate=scaling, **options).params
        )

    assert (end(0.05, scaling) == end(0.05 * by, "none")).all()


def test_other_words_for_scale_rate_are_refused() -> None:
    with pytest.raises(ValueError, match="scale_rate must be one of 'none', 'linear', 'sqrt', got 'log'"):
        ls.run(ls.LocalSGD(), lambda x, b: x, np.ones(2), lambda r, s: iter([1]), scale_rate="log")  # type: ignore[arg-type]


def test_norms_of_tensors_are_sums_in_the_documented_order() -> None:
    flat = RNG.normal(size=10_000).astype(np.float32)
    for part in (slice(0, 5000), slice(5000, 10_000)):
        assert ops.norm(flat[part]) == ops.specification["norm"](flat[part].copy())


def test_a_failure_in_a_rate_is_told_in_the_users_words() -> None:
    with pytest.raises(WorkerFailed, match="KeyError: 'epoch'"):
        ls.run(
            ls.AllReduceSGD(),
            lambda x, b: x,
            np.ones(2),
            lambda rank, size: iter([1]),
            optimizer=ls.SGD(lambda step: {}["epoch"]),
        )
