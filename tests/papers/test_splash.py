"""Splash: one worker is the sequential program; workers merge by its rule; counts are exact; degrees are found."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import loosestep as ls
from loosestep import splash
from loosestep.foundation.errors import Diverged, WorkerFailed
from loosestep.splash.part import order

sys.path.append(str(Path(__file__).parents[2] / "examples" / "splash"))

from topics import LDA, Token, corpus, document_of

Array = NDArray[Any]
RATE = 0.05
ROWS = np.random.default_rng(0).normal(2.0, 1.0, (48, 3))


def descend(row: Array, weight: float, shared: splash.Variables, local: dict[Any, Any]) -> None:
    shared.add("w", -RATE * weight * (shared["w"] - row))


def squared(row: Array, shared: splash.Values, local: dict[Any, Any]) -> float:
    return float(((shared["w"] - row) ** 2).sum()) / 2


def count(word: int, weight: float, shared: splash.Variables, local: dict[Any, Any]) -> None:
    shared.add("counts", weight, at=word)
    shared.add("total", weight)


def recount(word: int, weight: float, shared: splash.Variables, local: dict[Any, Any]) -> None:
    """Count, and take it back when the word comes again."""
    count(word, weight, shared, local)
    shared.delayed_add("counts", -weight, at=word)
    shared.delayed_add("total", [-weight])


def broken(row: Array, weight: float, shared: splash.Variables, local: dict[Any, Any]) -> None:
    if row is ROWS or (row == ROWS[5]).all():
        shared.add("v", 1.0)


def descents(size: int, **options: Any) -> Array:
    on = ls.Simulated(size)
    return splash.run(descend, ROWS, {"w": np.zeros(3)}, on=on, **options).variables["w"]


# --- one worker ----------------------------------------------------------------------------------------------


def test_one_worker_is_the_sequential_program_bit_for_bit() -> None:
    """Additions, late additions, factors, drawn numbers and local variables, in the documented order."""

    def process(row: Array, weight: float, shared: splash.Variables, local: dict[str, Any]) -> None:
        local["visits"] = local.get("visits", 0) + 1
        shared.multiply("w", 1 - 0.01 * weight)
        shared.add("w", -RATE * weight * (shared["w"] - row) + 0.1 * shared.random.normal(size=3))
        shared.add("b", weight * row[0] * local["visits"])
        shared.delayed_add("b", -weight * row[0])
        shared.multiply("w", [0.5, 0.25], at=slice(1, 3))

    for rounds in (1, 4):
        result = splash.run(process, ROWS, {"w": np.ones(3), "b": 1.5}, passes=3, rounds=rounds, seed=7)
        w, b = np.ones(3), 1.5
        late = dict[int, float]()
        for pass_ in range(3):
            for number, row in enumerate(order(7, 0, pass_, 48)):
                if number % (48 // rounds) == 0:
                    draw = np.random.default_rng((7, 0, rounds * pass_ + number * rounds // 48, 4))
                b += late.get(row, 0.0)
                w *= 1 - 0.01
                w += -RATE * (w - ROWS[row]) + 0.1 * draw.normal(size=3)
                b += ROWS[row][0] * (pass_ + 1)
                late[row] = -ROWS[row][0]
                w[1:] *= [0.5, 0.25]
        assert (result.variables["w"] == w).all()
        assert result.variables["b"] == b
        assert {each["visits"] for each in result.local.values()} == {3}
        assert result.degrees == (1,) * 3 * rounds


def sequential_topics(model: LDA, tokens: Sequence[Token], passes: int, seed: int) -> Array:
    """Collapsed Gibbs sampling as textbooks have it: remove a token, draw its topic, count it."""
    words, topics = np.zeros((model.words, model.topics)), np.zeros(model.topics)
    documents = np.zeros((max(token.document for token in tokens) + 1, model.topics))
    chosen = dict[int, int]()
    for pass_ in range(passes):
        draw = np.random.default_rng((seed, 0, pass_, 4))
        for number in order(seed, 0, pass_, len(tokens)):
            at = tokens[number]
            if number in chosen:
                for counts in (words[at.word], topics, documents[at.document]):
                    counts[chosen[number]] -= 1
            likely = words[at.word] + model.beta
            likely *= (documents[at.document] + model.alpha) / (topics + model.beta * model.words)
            sums = likely.cumsum()
            chosen[number] = int(sums.searchsorted(draw.random() * sums[-1]))
            for counts in (words[at.word], topics, documents[at.document]):
                counts[chosen[number]] += 1
    return words


TOKENS = corpus(24, 30, 3, 60, seed=3)
TOPICS = LDA(3, 60)


def sampled(on: ls.Transport | None, passes: int, seed: int, **options: Any) -> splash.SplashResult:
    return splash.run(
        TOPICS.process, TOKENS, TOPICS.variables(), passes=passes, group=document_of, on=on, seed=seed, **options
    )


def test_one_worker_draws_the_topics_of_the_sequential_sampler() -> None:
    result = sampled(None, 2, 5)
    assert (result.variables["words"] == sequential_topics(TOPICS, TOKENS, 2, 5)).all()


def test_the_perplexity_of_four_workers_is_within_1_percent_of_the_sequential_samplers() -> None:
    logarithms = []
    for on in (None, ls.Simulated(4)):
        runs = [sampled(on, 40, seed, loss=TOPICS.loss, every=8) for seed in (0, 1)]
        for result in runs:
            assert result.variables["topics"].tolist() == result.variables["words"].sum(axis=0).tolist()
            assert result.variables["topics"].sum() == len(TOKENS)
        logarithms.append(np.mean([[at.metrics["loss"] for at in result.history[-2:]] for result in runs]))
    alone = np.bincount([token.word for token in TOKENS])
    entropy = -np.sum(alone[alone > 0] / len(TOKENS) * np.log(alone[alone > 0] / len(TOKENS)))
    assert logarithms[0] < entropy - 0.5, "it has found topics"
    assert abs(np.exp(logarithms[1] - logarithms[0]) - 1) < 0.01


# --- merging -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("process", [count, recount])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_counts_are_exact_for_any_number_of_workers(size: int, process: Callable[..., None]) -> None:
    words = np.random.default_rng(size).integers(0, 5, 100).tolist()
    passes = 3
    result = splash.run(
        process, words, {"counts": np.zeros(5), "total": [0]}, on=ls.Simulated(size), passes=passes, rounds=2
    )
    times = 1 if process is recount else passes
    assert result.variables["counts"].tolist() == [times * words.count(word) for word in range(5)]
    assert result.variables["total"] == times * 100


def test_counts_are_exact_between_hosts() -> None:
    words, on = [0, 1, 1] * 20, ls.Simulated(5, hosts=[3, 2])
    result = splash.run(recount, words, {"counts": [0, 0], "total": [0]}, on=on, passes=3)
    assert result.variables["counts"].tolist() == [20, 40]


def test_what_is_taken_back_fits_the_weight_that_it_was_added_with() -> None:
    """Three of four workers in a round, the fourth alone in the last: counts stay."""
    words = [0, 1] * 20
    begun = {"counts": [0.0, 0.0], "total": [0.0]}
    result = splash.run(recount, words, begun, on=ls.Simulated(4), passes=4, degree=3)
    assert result.degrees == (3, 3, 3, 3, 3, 1)
    assert result.variables["counts"].tolist() == [20, 20]


@pytest.mark.parametrize("size", [2, 4])
def test_additions_alone_are_local_sgd_at_the_rate_times_the_workers(size: int) -> None:
    def rows(rank: int, size: int) -> Iterator[Array]:
        mine = range(rank, 48, size)
        return iter([ROWS[mine[place]] for p in range(2) for place in order(0, rank, p, len(mine))])

    period = 48 // size // 3
    local = ls.run(
        ls.LocalSGD(period), lambda x, row: x - row, np.zeros(3), rows, optimizer=ls.SGD(size * RATE),
        on=ls.Simulated(size),
    )  # fmt: skip
    assert np.abs(descents(size, passes=2, rounds=3) - local.params).max() < 1e-14


def test_workers_merge_by_the_rule() -> None:
    """v <- mean(Gamma_i v + D_i) + sum T_i, with factors of each worker's own, one of them 0."""
    factors, adds, late = [0.5, 0.0, 2.0], [1.0, 2.0, 3.0], [10.0, 20.0, 30.0]

    def process(number: int, weight: float, shared: splash.Variables, local: dict[str, Any]) -> None:
        assert weight == 3
        if not local:
            local["seen"] = True
            shared.delayed_add("v", weight * late[number])
            return
        shared.multiply("v", factors[number])
        shared.add("v", adds[number])

    result = splash.run(process, range(3), {"v": 8.0}, on=ls.Simulated(3), passes=2)
    gammas = [factor * 8 + add for factor, add in zip(factors, adds, strict=True)]
    scaled = [factor * each for factor, each in zip(factors, late, strict=True)]  # it came before the factor
    assert result.variables["v"] == pytest.approx(np.mean(gammas) + sum(scaled), abs=1e-12)


def test_all_transports_give_the_same_bits() -> None:
    found = [descents(4, passes=2, rounds=3, seed=3)]
    for on in (ls.Threads(4), ls.Delayed(ls.Threads(4))):
        result = splash.run(descend, ROWS, {"w": np.zeros(3)}, on=on, passes=2, rounds=3, seed=3)
        found.append(result.variables["w"])
    assert all((each == found[0]).all() for each in found)
    assert (descents(4, passes=2, rounds=3, seed=4) != found[0]).any()


def test_without_shuffling_samples_keep_their_order() -> None:
    seen: dict[int, list[int]] = {}

    def process(number: int, weight: float, shared: splash.Variables, local: dict[Any, Any]) -> None:
        seen.setdefault(number % 2, []).append(number)

    splash.run(process, range(10), {"v": 0}, on=ls.Simulated(2), passes=2, rounds=5, shuffle=False)
    assert seen == {0: [0, 2, 4, 6, 8] * 2, 1: [1, 3, 5, 7, 9] * 2}


# --- degrees -------------------------------------------------------------------------------------------------


def test_of_a_degree_below_the_workers_they_take_turns() -> None:
    result = splash.run(count, [0] * 12, {"counts": [0], "total": [0]}, on=ls.Simulated(3), degree=1, rounds=2)
    assert result.degrees == (1,) * 6
    assert result.variables["total"] == 12


def test_a_degree_that_helps_is_chosen_and_one_that_harms_is_not() -> None:
    """At a small rate many workers go farther in a round; at a rate near 2/8 those of weight 8 diverge."""

    def chosen(rate: float) -> splash.SplashResult:
        def process(row: Array, weight: float, shared: splash.Variables, local: dict[Any, Any]) -> None:
            shared.add("w", -rate * weight * (shared["w"] - row))

        rows = np.random.default_rng(1).normal(2.0, 0.1, (320, 3))
        return splash.run(
            process, rows, {"w": np.zeros(3)}, on=ls.Simulated(8), rounds=20, degree="tune", loss=squared
        )

    slow, fast = chosen(2e-3), chosen(0.3)
    assert slow.degrees[0] == 7
    assert slow.degrees[:7] == (7, 8, 7, 8, 8, 7, 8), "what stays is tried after 1 round, then 2, then 4"
    assert set(fast.degrees) == {1}
    assert fast.metrics["loss"] < slow.metrics["loss"]


def test_degrees_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(Diverged, match="the losses after every degree that was tried of worker 0 are not finite"):
        splash.run(descend, ROWS, {"w": np.zeros(3)}, on=ls.Simulated(4), degree="tune", loss=lambda *_: np.inf)


def test_what_is_tried_names_the_sample_whose_variables_cannot_be_kept() -> None:
    def process(row: Array, weight: float, shared: splash.Variables, local: dict[Any, Any]) -> None:
        local["lock"] = Lock()

    def run() -> None:
        splash.run(
            process, ROWS, {"w": np.zeros(3)}, on=ls.Simulated(4), passes=2, degree="tune", loss=lambda *_: 1.0
        )

    with pytest.raises(WorkerFailed, match=r"at sample \d+: TypeError: cannot"):
        run()


def test_what_is_undone_leaves_nothing() -> None:
    """Counts, which late additions take back, are those of the samples processed, whatever was tried."""
    tried = []

    def process(word: int, weight: float, shared: splash.Variables, local: dict[str, Any]) -> None:
        recount(word, weight, shared, local)
        local["visits"] = local.get("visits", 0) + 1
        tried.append(word)

    def loss(word: int, shared: splash.Values, local: dict[str, Any]) -> float:
        return float(shared["total"][0])  # the fewer counts, the better: the group of one

    words = [0, 1, 2] * 32
    begun = {"counts": np.zeros(3), "total": [0.0]}
    result = splash.run(process, words, begun, on=ls.Simulated(4), passes=3, rounds=4, degree="tune", loss=loss)
    visits = {number: each["visits"] for number, each in result.local.items()}
    assert visits == dict.fromkeys(range(96), 3), "each sample was met in each pass"
    assert len(tried) > 3 * 96
    assert result.variables["counts"].sum() == len(visits)
    assert result.variables["counts"].tolist() == [
        sum(words[number] == word for number in visits) for word in range(3)
    ]


# --- AdaGrad -------------------------------------------------------------------------------------------------


def test_adagrad_is_its_formula_and_touches_the_places_of_a_sample_alone() -> None:
    def gradient(w: Array, sample: tuple[Array, float]) -> tuple[float, Array]:
        gap = w.sum() - sample[1]
        return gap * gap / 2, np.full(w.shape, gap)

    samples = [(np.array([0, 2]), 1.0), (np.array([2, 1]), -1.0), (np.array([0, 1]), 0.5)]
    model = splash.AdaGrad(gradient, 0.3, places=lambda sample: sample[0])
    result = splash.run(model, samples, model.variables(np.zeros(4)), passes=2, loss=model.loss)
    w, s = np.zeros(4), np.zeros(4)
    for pass_ in range(2):
        for number in order(0, 0, pass_, 3):
            at, target = samples[number]
            gap = w[at].sum() - target
            s[at] += gap * gap
            w[at] -= 0.3 * gap / np.sqrt(s[at] + 1e-16)
    np.testing.assert_allclose(result.variables["w"], w, rtol=1e-12)
    np.testing.assert_allclose(result.variables["squares of w"], s, rtol=1e-12)
    assert result.metrics["loss"] == pytest.approx(np.mean([(w[at].sum() - t) ** 2 / 2 for at, t in samples]))
    assert result.variables["w"][3] == 0


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (np.ones(2), r"gradient must return .loss, g., got array\(\[1., 1.\]\)"),
        ((0.5, 1.0), r"gradient must return g of shape \(2,\), as w has, got \(\)"),
        ((0.5, np.ones((2, 1))), r"gradient must return g of shape \(2,\), as w has, got \(2, 1\)"),
    ],
)
def test_adagrad_refuses_what_would_be_read_as_another_gradient(answer: Any, words: str) -> None:
    model = splash.AdaGrad(lambda w, sample: answer)
    with pytest.raises(WorkerFailed, match=words):
        splash.run(model, range(3), model.variables([0.0, 0.0]))


def test_adagrad_takes_a_list_as_a_gradient() -> None:
    model = splash.AdaGrad(lambda w, sample: (0.5, [1.0, 2.0]), rate=0.5)
    result = splash.run(model, range(1), model.variables([0.0, 0.0]))
    np.testing.assert_allclose(result.variables["w"], [-0.5, -0.5])
    assert result.variables["squares of w"].tolist() == [1, 4]


def test_adagrad_refuses_a_rate_that_is_none() -> None:
    with pytest.raises(ValueError, match="rate must be above 0 and finite, got 0"):
        splash.AdaGrad(lambda w, s: (0.0, w), rate=0)
