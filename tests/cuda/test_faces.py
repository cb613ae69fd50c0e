"""Ops that are no rule, on buffers of a card: the CPU's bits and sentences. Only the card is the emulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.cuda.making import KINDS, buffers, each_kind
from tests.cuda.stub import Array, Card
from tests.cuda.test_factors import L2
from tests.cuda.test_factors import Problem as Ratings
from tests.cuda.test_hogwild import FEATURES, HINGE, Problem, sequential

from loosestep import ops
from loosestep.cuda import hogwild

SIZES = [0, 1, 4097, 20_000]


@each_kind
@pytest.mark.parametrize("n", SIZES)
def test_reductions(card: Card, kind: str, n: int) -> None:
    x, y = buffers(2, n, kind, 1)
    assert ops.dot(Array(x), Array(y)) == ops.dot(x, y)
    assert ops.norm(Array(x)) == ops.norm(x)
    starts = [0, 0, n // 3, n]
    assert ops.norms(Array(x), starts) == ops.norms(x, starts)
    assert ops.norms(Array(x), [n]) == []


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@each_kind
def test_one_bad_element_is_found(card: Card, n: int, bad: float, kind: str) -> None:
    x = np.full(n, 1e38, KINDS[kind])
    assert ops.all_finite(Array(x)) is True
    if n:
        x[n // 2] = bad
        assert ops.all_finite(Array(x)) is False


@pytest.mark.parametrize("typestr", ["<f2", "<V2"])
def test_norms_of_two_bytes(card: Card, typestr: str) -> None:
    numbers = np.array([1.5, -2, 3, 0.25], np.float32)
    held = numbers.astype(np.float16) if typestr == "<f2" else (numbers.view(np.uint32) >> 16).astype(np.uint16)
    assert ops.norm(Array(held, typestr=typestr)) == ops.norm(numbers)


@each_kind
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("start", [0, 6, 2**40])
def test_noise(card: Card, kind: str, n: int, offset: int, start: int) -> None:
    place = (2**64 - 1, 3, 2**32 - 1, start)
    for op, scalars in {"normal": (0.3,), "add_normal": (0.3,), "langevin": (0.1, 0.3)}.items():
        given = buffers(len(scalars), n, kind, offset)
        wanted = [x.copy() for x in given]
        getattr(ops, op)(*map(Array, given), *scalars, *place)
        getattr(ops, op)(*wanted, *scalars, *place)
        assert [x.tobytes() for x in given] == [x.tobytes() for x in wanted]


def test_a_start_may_be_left_out(card: Card) -> None:
    x, y = np.zeros(9), np.zeros(9)
    ops.normal(Array(x), 1.0, seed=1, stream=2, step=3)
    ops.normal(y, 1.0, seed=1, stream=2, step=3)
    assert x.tobytes() == y.tobytes()


@each_kind
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("many", [1, 8, 13])
def test_replicas(card: Card, kind: str, n: int, offset: int, many: int) -> None:
    given = buffers(many + 1, n, kind, offset)
    wanted = [x.copy() for x in given]
    weights = np.random.default_rng(many).random((many, many)).tolist()
    ops.elastic_all([*map(Array, given[:-1])], Array(given[-1]), 0.3)
    ops.elastic_all(wanted[:-1], wanted[-1], 0.3)
    ops.mix([*map(Array, given[:-1])], weights)
    ops.mix(wanted[:-1], weights)
    assert [x.tobytes() for x in given] == [x.tobytes() for x in wanted]


WEIGHTS = [None, [0.1] * 13, [0.3, 0.0, 1.7, 2, 0, 0, 1, 1, 1, 1e-3, 5, 0.5, 0.0]]


@each_kind
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("weights", WEIGHTS, ids=["none", "equal", "some 0"])
def test_means_and_sums(card: Card, kind: str, n: int, offset: int, weights: list[float] | None) -> None:
    *given, got, want = buffers(15, n, kind, offset)
    ops.mean_of([*map(Array, given)], Array(got), weights)
    ops.mean_of(given, want, weights)
    assert got.tobytes() == want.tobytes()
    if weights:
        ops.weighted_sum([*map(Array, given)], weights, Array(got))
        ops.weighted_sum(given, weights, want)
        assert got.tobytes() == want.tobytes()
    ops.mean_of(given, want)
    ops.mean_of([*map(Array, given)], Array(given[3]))
    assert given[3].tobytes() == want.tobytes()


def two() -> tuple[Array, Array]:
    return Array(np.ones(4, np.float32)), Array(np.ones(4, np.float32))


REFUSED: dict[str, tuple[Any, type[Exception]]] = {
    "norms: starts must not decrease, starts[2] does": (lambda x, y: ops.norms(x, [0, 3, 2]), ValueError),
    "norms: starts[1] must be a whole number from 0 to 4, got 5": (lambda x, y: ops.norms(x, [0, 5]), ValueError),
    "normal: seed must be a whole number from 0 to 18446744073709551615, got -1": (
        lambda x, y: ops.normal(x, 1.0, -1, 0, 0),
        ValueError,
    ),
    "elastic_all: replicas[0] and c must not overlap": (lambda x, y: ops.elastic_all([x], x, 0.1), ValueError),
    "mix: replicas[0] and replicas[1] must not overlap": (
        lambda x, y: ops.mix([x, x], [[1, 0], [0, 1]]),
        ValueError,
    ),
    "mix: weights must be 2 rows of as many": (
        lambda x, y: ops.mix([x, y], [[1, 0]]),
        ValueError,
    ),
    "elastic_all: replicas must hold 1 to 64 arrays on a card, got 0": (
        lambda x, y: ops.elastic_all([], x, 0.1),
        ValueError,
    ),
    "dot: y must be on a card": (lambda x, y: ops.dot(x, y.held), TypeError),
}


@pytest.mark.parametrize("says", REFUSED)
def test_what_is_refused_and_changes_nothing(card: Card, says: str) -> None:
    call, error = REFUSED[says]
    x, y = two()
    with pytest.raises(error) as raised:
        call(x, y)
    assert says in str(raised.value)
    assert (x.held == 1).all()
    assert not card.launches


def test_a_mistake_on_the_card_is_one_sentence(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = two()
    card.refusal = "out of memory"
    with pytest.raises(Exception, match=r"dot<float> could not be started on card 0: out of memory"):
        ops.norm(x)


# --- Hogwild ------------------------------------------------------------------------------------------------


def on_card(*given: Any) -> list[Array]:
    return [Array(np.asarray(each)) for each in given]


def test_a_linear_pass_is_the_kernels(card: Card) -> None:
    problem = Problem()
    rows = hogwild.Rows(
        *on_card(problem.starts, problem.columns, problem.values, problem.targets, problem.importance)
    )
    w = np.zeros(FEATURES + 1, np.float32)
    rate = hogwild.Rate(3.0, "invscaling")
    told = hogwild.linear(Array(w), rows, loss="hinge", rate=rate, steps=9, intercept_step=0.5, warps=1)
    want, losses = sequential(problem, HINGE, 9, 3.0)
    assert w.tobytes() == want.tobytes()
    assert told == pytest.approx(losses, rel=1e-6)
    assert card.launches[-1][:3] == ("linear<Racy>", (1,), (32,))


@pytest.mark.parametrize("biases", [False, True])
def test_a_pass_over_ratings_is_the_kernels(card: Card, biases: bool) -> None:
    mine, theirs = Ratings(24), Ratings(24)
    bias = on_card(*mine.biases) if biases else [None, None]
    users, items = (Shaped(rows) for rows in (mine.p, mine.q))
    sides = [hogwild.Side(x, b, float(l2)) for x, b, l2 in zip([users, items], bias, L2, strict=True)]
    told = hogwild.factors(*sides, Array(mine.ratings.view(np.uint32)), rate=0.1, adds="exact", warps=1)
    assert told == theirs.sequential(biases=biases)
    assert (mine.p.tobytes(), mine.q.tobytes()) == (theirs.p.tobytes(), theirs.q.tobytes())


class Shaped(Array):
    @property
    def shape(self) -> tuple[int, ...]:
        return self.held.shape


def short(problem: Problem, **other: Any) -> hogwild.Rows:
    given = {"starts": problem.starts, "columns": problem.columns, "values": problem.values} | other
    return hogwild.Rows(*on_card(*given.values(), problem.targets))


def test_hogwild_refuses(card: Card) -> None:
    problem, w = Problem(), Array(np.zeros(FEATURES + 1, np.float32))
    with pytest.raises(ValueError, match="hogwild: loss must be one of log_loss, hinge, .*, got 'logistic'"):
        hogwild.linear(w, short(problem), loss="logistic")
    with pytest.raises(ValueError, match="hogwild: values must have"):
        hogwild.linear(w, short(problem, values=problem.values[:-1]))
    with pytest.raises(TypeError, match="hogwild: columns must be a contiguous array of int32, got <i8"):
        hogwild.linear(w, short(problem, columns=problem.columns.astype(np.int64)))
    with pytest.raises(ValueError, match="hogwild: warps must be at least 1, got 0"):
        hogwild.linear(w, short(problem), warps=0)
    assert not card.launches
