"""Hogwild as Python has it: one warp is the sequential algorithm to the bit, many reach the objective."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.cuda.carriers import Carrier
from tests.cuda.kernels.test_factors import L2, USERS
from tests.cuda.kernels.test_factors import Problem as Ratings
from tests.cuda.kernels.test_hogwild import FEATURES, HINGE, Problem, sequential

from loosestep.cuda import hogwild

each_way = pytest.mark.parametrize("adds", ["racy", "exact"])


def rows_of(carrier: Carrier, problem: Problem, **other: Any) -> hogwild.CSR:
    given = {"starts": problem.starts, "columns": problem.columns, "values": problem.values} | other
    return hogwild.CSR(*carrier.put_all([*given.values(), problem.targets, problem.importance]))


def model(carrier: Carrier) -> Any:
    return carrier.put(np.zeros(FEATURES + 1, np.float32))


@each_way
def test_one_warp_is_sequential_to_the_bit(carrier: Carrier, adds: Any) -> None:
    problem, w = Problem(), model(carrier)
    rate = hogwild.StepSize(3.0, "invscaling")
    options = {"loss": "hinge", "rate": rate, "steps": 9, "intercept_step": 0.5, "adds": adds, "warps": 1}
    told = hogwild.linear(w, rows_of(carrier, problem), **options)
    want, losses = sequential(problem, HINGE, 9, 3.0)
    assert carrier.same([w], [want])
    assert told == pytest.approx(losses, rel=1e-6)


@each_way
def test_many_warps_reach_the_objective(carrier: Carrier, adds: Any) -> None:
    """A sixth of the start's, where every row's loss is its weight; also where true races lose updates."""
    problem = Problem()
    rows = rows_of(carrier, problem)
    for warps in (1, 8, 60):
        w = model(carrier)
        losses = [hogwild.linear(w, rows, loss="hinge", adds=adds, warps=warps) for _ in range(20)]
        assert losses[-1] < problem.importance.sum() / 6


@pytest.mark.parametrize(("warps", "shape"), [(1, (1, 32)), (9, (9, 32)), (12, (3, 128)), (1024, (128, 256))])
def test_warps_are_as_many_as_asked_for(carrier: Carrier, warps: int, shape: tuple[int, int]) -> None:
    hogwild.linear(model(carrier), rows_of(carrier, Problem()), warps=warps)
    assert [(each.grid[0], each.block[0]) for each in carrier.launches()] in ([], [shape])


@pytest.mark.parametrize("biases", [False, True])
def test_one_warp_of_ratings_is_sequential_to_the_bit(carrier: Carrier, biases: bool) -> None:
    problem = Ratings(24)
    users, items, b_u, b_i = carrier.put_all([problem.p, problem.q, *problem.biases])
    bias = [b_u, b_i] if biases else [None, None]
    sides = [hogwild.Side(x, b, float(l2)) for x, b, l2 in zip([users, items], bias, L2, strict=True)]
    ratings = carrier.put(problem.ratings.view(np.uint32).reshape(-1, 4))
    told = hogwild.factors(*sides, ratings, rate=0.1, adds="exact", warps=1)
    assert told == problem.sequential(biases=biases)
    assert carrier.same([users, items, b_u, b_i], [problem.p, problem.q, *problem.biases])


@each_way
def test_many_warps_of_ratings_learn(carrier: Carrier, adds: Any) -> None:
    problem = Ratings(16)
    sides = [hogwild.Side(x) for x in carrier.put_all([problem.p, problem.q])]
    ratings = carrier.put(problem.ratings.view(np.uint32))
    errors = [hogwild.factors(*sides, ratings, rate=0.1, adds=adds, warps=4) for _ in range(30)]
    assert errors[-1] < 0.5 * errors[0]


def test_what_is_none_of_the_model_is_not_followed(carrier: Carrier) -> None:
    problem, ratings, w = Problem(), Ratings(16), model(carrier)
    problem.columns[:], ratings.ratings["user"] = FEATURES, USERS
    sides = carrier.put_all([ratings.p, ratings.q])
    assert np.isnan(hogwild.linear(w, rows_of(carrier, problem), loss="hinge"))
    assert (carrier.got(w)[:FEATURES] == 0).all()
    assert np.isnan(hogwild.factors(*map(hogwild.Side, sides), carrier.put(ratings.ratings.view(np.uint32))))
    assert carrier.same(sides, [ratings.p, ratings.q])


REFUSED: dict[str, Any] = {
    "loss must be one of log_loss, hinge, squared_hinge, squared_error, huber, got 'logistic'": {
        "loss": "logistic"
    },
    "adds must be one of racy, exact, got 'atomic'": {"adds": "atomic"},
    "warps must be at least 1, got 0": {"warps": 0},
    "intercept_step must be finite and at least 0, got -1": {"intercept_step": -1},
    "steps must be finite and at least 0, got -1": {"steps": -1},
    "schedule must be one of constant, invscaling, optimal, got 'cosine'": {
        "rate": hogwild.StepSize(0.1, "cosine")
    },
}


@pytest.mark.parametrize("says", REFUSED)
def test_options_that_are_none(carrier: Carrier, says: str) -> None:
    w = model(carrier)
    with pytest.raises(ValueError, match=f"^hogwild: {says}$"):
        hogwild.linear(w, rows_of(carrier, Problem()), **REFUSED[says])
    assert (carrier.got(w) == 0).all()


def test_rows_that_are_none(carrier: Carrier) -> None:
    problem, w = Problem(), model(carrier)
    for says, other in {
        f"values must have {problem.values.size} elements, got {problem.values.size - 1}": {
            "values": problem.values[:-1]
        },
        "columns must be a contiguous array of int32, got <i8, strides None": {
            "columns": problem.columns.astype(np.int64)
        },
    }.items():
        with pytest.raises((ValueError, TypeError)) as raised:
            hogwild.linear(w, rows_of(carrier, problem, **other))
        assert str(raised.value) == f"hogwild: {says}"
    rows = rows_of(carrier, problem)
    with pytest.raises(ValueError, match="hogwild: targets must be on GPU 0 like the model, got ndarray"):
        hogwild.linear(w, rows._replace(targets=problem.targets))
    with pytest.raises(
        TypeError, match=r"hogwild: values must be a contiguous array of float32, got <f4, strides \(8,\)"
    ):
        hogwild.linear(w, rows._replace(values=carrier.put(np.repeat(problem.values, 2))[::2]))


def test_sides_and_ratings_that_are_none(carrier: Carrier) -> None:
    problem = Ratings(8)
    p, q, flat = carrier.put_all([problem.p, problem.q, problem.q[:, 0].copy()])
    ratings = carrier.put(problem.ratings.view(np.uint32))
    for says, given in {
        "rows must have one length from 1 to 128, got shapes": (p, flat, ratings),
        "ratings must have 156 elements, got 159": (p, q, ratings[1:]),
        "ratings must be on GPU 0 like the model, got ndarray": (p, q, problem.ratings),
    }.items():
        with pytest.raises(ValueError, match=f"^hogwild: {says}"):
            hogwild.factors(hogwild.Side(given[0]), hogwild.Side(given[1]), given[2])
    assert carrier.same([p, q], [problem.p, problem.q])
