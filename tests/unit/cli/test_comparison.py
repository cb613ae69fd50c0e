"""What a comparison concludes from runs, without any: spreads, stars, copies, rates, and how the table fits."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

import loosestep as ls
from loosestep.cli.compared_methods import (
    STORY,
    Contender,
    at_rates,
    rate_column,
    slow_link,
    with_one_optimizer,
    with_the_rest,
)
from loosestep.cli.comparison import Comparison, best_of
from loosestep.cli.experiment import Experiment
from loosestep.cli.report.progress import in_words, short
from loosestep.cli.report.ranking import leader
from loosestep.cli.report.run_record import Outcome
from loosestep.cli.report.summary import Number, Summary, copies, target_of
from loosestep.cli.report.table import Comparing, notes, table
from loosestep.data import Dataset, models
from loosestep.foundation.errors import Diverged
from loosestep.optimizers.schedules import Warmup
from loosestep.optimizers.sgd import SGD, Nesterov
from loosestep.runtime.result import Interrupted, Progress, Result

ROWS = 359  # of the test data; one more or less makes .0028


def outcome(accuracy: float, seed: int = 0, *, params: Sequence[float] = (), **changes: float) -> Outcome:
    """A run that nobody made."""
    numbers: dict[str, float] = {"seconds": 2.0, "bytes_sent": 1000, "waiting_share": 0.5} | changes
    metrics = {"test_accuracy": accuracy, "loss": 1 - accuracy}
    at: dict[str, object] = {"steps": 10, "samples": 80, "messages": 5, "virtual": True, "workers": ()}
    at |= {"consensus_distance": 0.0}
    halfway = Progress(
        step=5, seconds=numbers["seconds"] / 2, samples=40, loss=0.5, bytes_sent=500, waiting_share=0.5,
        metrics={"test_accuracy": accuracy / 2, "loss": 0.9}, virtual=True,
    )  # fmt: skip
    end = replace(halfway, step=10, seconds=numbers["seconds"], metrics=metrics)
    at |= numbers | {"params": np.array(params or (accuracy,)), "metrics": metrics, "history": (halfway, end)}
    found = Result(loss=0.5, **at)  # type: ignore[arg-type]
    return Outcome("X()", True, found, found.history, None, seed)


def summary(name: str, *outcomes: Outcome, **changes: object) -> Summary:
    return Summary(name, name, outcomes, **changes)  # type: ignore[arg-type]


def printed(rows: Sequence[Summary], width: int = 200, **changes: object) -> str:
    how = Comparing(ROWS, width=width, **changes)  # type: ignore[arg-type]
    shown, left_out = table(rows, how)
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(shown)
    console.print("\n".join(notes(rows, how, left_out)), soft_wrap=True)
    return console.file.getvalue()  # type: ignore[attr-defined]


# --- means, spreads and stars --------------------------------------------------------------------------------


def test_a_number_is_a_mean_with_the_standard_deviation_of_the_seeds() -> None:
    assert Number.of([1.0, 2.0, 6.0]) == Number(3.0, pytest.approx(7**0.5))
    assert Number.of([2.5]) == Number(2.5, None)
    assert Number.of([1.0, None, 3.0]) is None
    assert Number.of([]) is None


@pytest.mark.parametrize(
    ("numbers", "unit", "place"),
    [
        ([(0.95, 0.001), (0.96, 0.002)], 0.0028, 1),
        ([(0.957, 0.001), (0.959, 0.001)], 0.0028, None),  # less than one test row
        ([(0.95, 0.02), (0.96, 0.001)], 0.0028, None),  # less than the spread of the second
        ([(0.95, 0.001), (0.96, 0.02)], 0.0028, None),  # ... and of the first
        ([(0.95, None), (0.96, None)], 0.0028, None),  # one seed
        ([(0.96, 0.0), (0.96, 0.0)], 0.0, None),
        ([(0.96, 0.0)], 0.0, None),  # nobody to lead
        ([None, (0.9, 0.0), (0.96, 0.0)], 0.0, 2),
    ],
)
def test_only_what_leads_by_more_than_chance_is_best(
    numbers: list[tuple[float, float] | None], unit: float, place: int | None
) -> None:
    given = [None if each is None else Number(*each) for each in numbers]
    assert leader(given, most=True, unit=unit) == place


def test_the_least_may_be_best() -> None:
    assert leader([Number(1.0, 0.1), Number(0.5, 0.1), Number(3.0, 0.1)], most=False) == 1


def test_a_table_stars_what_leads_and_says_by_what() -> None:
    good = summary("Good()", outcome(0.98, 0), outcome(0.97, 1))
    bad = summary("Bad()", outcome(0.91, 0), outcome(0.92, 1))
    text = printed([good, bad])
    assert "0.9750 ±.0071*" in text
    assert "0.9150 ±.0071 " in text
    assert text.count("*") == 3  # accuracy, loss, and the one that explains it
    assert "one test row is .0028" in text
    near = summary("Near()", outcome(0.98, 0), outcome(0.96, 1))
    assert printed([good, near]).count("*") == 1


def test_one_seed_has_no_star_and_the_table_says_why() -> None:
    text = printed([summary("Good()", outcome(0.98)), summary("Bad()", outcome(0.5))])
    assert "*" not in text
    assert "with one seed there is no spread" in text


def test_a_row_alone_says_what_its_spread_is() -> None:
    text = printed([summary("Good()", outcome(0.98, 0), outcome(0.97, 1))])
    assert "0.9750 ±.0071" in text
    assert "mean ±standard deviation over 2 seeds; one test row is .0028" in text
    assert "standard deviation" not in printed([summary("Good()", outcome(0.98))])


def test_who_shares_memory_is_not_ranked_among_links() -> None:
    seeds = range(2)
    shared = summary("Shared()", *(outcome(0.99, seed, params=[3.0]) for seed in seeds), linkless=True)
    good, bad = (
        summary(name, *(outcome(a, s, params=[a]) for s in seeds)) for name, a in (("G()", 0.9), ("B()", 0.8))
    )
    text = printed([shared, good, bad])
    assert "0.9900 ±.0000 " in text
    assert "0.9000 ±.0000*" in text
    assert "Shared(): its workers share one host's memory and send nothing, so it is not ranked" in text


def test_seconds_are_said_to_be_virtual() -> None:
    rows = [summary("A()", outcome(0.9)), summary("B()", outcome(0.8))]
    text = printed(rows, target=0.7)
    assert text.count("virtual s") == 4  # to the target, in all, samples in one, and what that is
    assert "to 0.7" in text
    assert rows[0].row()["virtual"]
    assert repr(outcome(0.9).result).count("virtual=True") == 3  # its own, and those of both evaluations


def test_progress_is_told_in_virtual_seconds_where_they_are() -> None:
    at = outcome(0.9).history[-1]
    assert in_words(at).startswith("2 virtual s  train loss 0.5000")
    assert "20 samples/virtual s" in in_words(at)
    assert "20/virtual s" in short(at)
    real = replace(at, virtual=False)
    assert in_words(real).startswith("2 s  ")
    assert "20/s" in short(real)


# --- targets and failures ------------------------------------------------------------------------------------


def test_the_target_is_one_that_good_methods_reach() -> None:
    rows = [summary("A()", outcome(0.97)), summary("B()", outcome(0.4)), summary("C()")]
    assert target_of(rows) == 0.94
    assert target_of([summary("C()")]) is None
    assert rows[0].seconds_to(0.94) == Number(2.0, None)
    assert rows[0].seconds_to(0.4) == Number(1.0, None)  # half way it was .485
    assert rows[1].seconds_to(0.94) is None


def test_a_seed_that_diverged_leaves_no_mean_of_the_others() -> None:
    bad = Outcome("Bad()", True, None, (), "the loss is nan", 1)
    row = summary("Bad()", outcome(0.99, 0), bad)
    text = printed([row, summary("Good()", outcome(0.9, 0), outcome(0.9, 1))])
    assert "diverged" in text
    assert "0.99" not in text
    assert "Bad(), seed 1: the loss is nan" in text
    told = row.row()
    assert told["test_accuracy"] is None
    assert told["problem"] == "Bad(), seed 1: the loss is nan"
    json.dumps(told, allow_nan=False)


# --- copies --------------------------------------------------------------------------------------------------


def test_who_ends_at_the_same_parameters_with_every_seed_is_a_copy() -> None:
    one = summary("One()", outcome(0.9, 0, params=[1.0, 2.0]), outcome(0.8, 1, params=[3.0, 4.0]))
    rounded = summary("Rounded()", outcome(0.9, 0, params=[1.0 + 1e-6, 2.0]), outcome(0.8, 1, params=[3.0, 4.0]))
    other = summary("Other()", outcome(0.9, 0, params=[1.0, 2.0]), outcome(0.8, 1, params=[3.0, 4.1]))
    assert copies([one, rounded, other]) == {1: 0}
    assert copies([rounded, one, other]) == {1: 0}
    assert copies([rounded, replace(one, familiar=True), other]) == {0: 1}
    assert copies([one, summary("Fewer()", one.outcomes[0])]) == {}
    failed = summary("Failed()", *(Outcome("F()", True, None, (), "nan", seed) for seed in range(2)))
    assert copies([failed, failed]) == {}


def test_a_copy_shows_what_differs_and_is_no_rival() -> None:
    one = summary("One()", *(outcome(0.9, seed, seconds=1.0) for seed in range(2)))
    copy = summary("Copy()", *(outcome(0.9, seed, seconds=1.5) for seed in range(2)))
    third = summary("Third()", *(outcome(0.8, seed, params=[5.0], seconds=4.0) for seed in range(2)))
    lines = printed([one, copy, third]).splitlines()
    (line,) = [line for line in lines if "Copy()" in line]
    assert line.split() == ["Copy()", "as", "One()", "here", "1.5", "53"]  # seconds, samples in one
    (first,) = [line for line in lines if line.startswith(" One()")]
    assert "0.9000 ±.0000*" in first
    assert " 1* " in first


# --- the table fits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 100, 130])
def test_the_table_fits_and_says_what_it_left_out(width: int) -> None:
    rows = [
        summary(str(each), *(outcome(0.9 + seed / 100, seed) for seed in range(3)), rate="SGD 0.003")
        for each in STORY
    ]
    rows = [replace(row, strategy=repr(each.strategy)) for row, each in zip(rows, STORY, strict=True)]
    how = Comparing(ROWS, 0.9, width)
    shown, left_out = table(rows, how)
    console = Console(file=io.StringIO(), width=1000)
    assert console.measure(shown).minimum <= width
    titles = [str(column.header).replace("\n", " ") for column in shown.columns]
    assert titles[:5] == ["method", "rate", "test accuracy", "virtual s to 0.9", "virtual s in all"]
    assert len(titles) + len(left_out) == 10
    assert any(f"no room in {width} columns for" in note for note in notes(rows, how, left_out)) == bool(left_out)


def test_a_terminal_without_the_sign_gets_another() -> None:
    rows = [summary("A()", outcome(0.9, 0), outcome(0.8, 1)), summary("B()", outcome(0.8, 0), outcome(0.8, 1))]
    assert "0.8500 +-.0707" in printed(rows, sign="+-")


# --- contenders and rates ------------------------------------------------------------------------------------


def test_the_story_has_a_slow_link_and_a_slow_worker() -> None:
    on = slow_link(4)
    assert (on.size, on.bandwidth * 8) == (4, 100e6)
    rng = np.random.default_rng
    fast, slow = (on.stragglers.durations(rank, 1e-3, 256, rng(0)) for rank in (0, 3))
    assert np.allclose(slow, 2 * fast)
    assert fast.std() > 1e-4


def test_the_rest_follows_the_story_and_has_no_class_of_it() -> None:
    rest = with_the_rest([ls.EASGD(period=3), ls.Parle(), ls.LocalSGD()])
    assert rest == [*STORY, Contender(ls.Parle())]


def test_with_one_optimizer_each_strategy_is_there_once() -> None:
    kept = with_one_optimizer([Contender(ls.EASGD(), SGD(0.3)), Contender(ls.EASGD()), Contender(ls.CDSGD())])
    assert kept == [Contender(ls.EASGD()), Contender(ls.CDSGD())]


def test_three_rates_can_be_typed_as_they_are_printed() -> None:
    assert at_rates(Nesterov(0.03)) == (Nesterov(0.01), Nesterov(0.03), Nesterov(0.09))
    assert at_rates(SGD(0.1, weight_decay=1e-4))[0] == SGD(0.0333, weight_decay=1e-4)
    changing = at_rates(SGD(Warmup(0.3, 10)))
    assert [each.rate(10) for each in changing] == pytest.approx([0.1, 0.3, 0.9])  # type: ignore[operator]


def test_rates_are_shown_where_they_differ_and_at_an_edge_with_a_sign() -> None:
    common = Nesterov(0.03)
    assert rate_column([Contender(ls.EASGD()), Contender(ls.CDSGD())], common) == []
    own = Contender(ls.EASGD(), SGD(0.3)), Contender(ls.CDSGD(), Nesterov(0.01)), Contender(ls.CDSGD())
    assert rate_column(own, common) == ["SGD 0.3", "0.01", "0.03"]
    tuned = [Contender(ls.CDSGD(), chosen, at_rates(common)) for chosen in at_rates(common)]
    assert rate_column(tuned, common) == ["0.01-", "0.03", "0.09+"]


def test_the_best_rate_is_that_of_most_accuracy_then_of_least_loss() -> None:
    failed = Outcome("X()", True, None, (), "nan")
    tried = at_rates(SGD(0.1))
    assert best_of(tried, [outcome(0.8), outcome(0.9), failed]) == SGD(0.1)
    result = outcome(0.9).result
    assert result is not None
    better = replace(outcome(0.9), result=replace(result, metrics={"test_accuracy": 0.9, "loss": 0.01}))
    assert best_of(tried, [outcome(0.9), outcome(0.9), better]) == SGD(0.3)


# --- the loop, with runs that nobody makes -------------------------------------------------------------------


def experiment() -> Experiment:
    x, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    data = Dataset("rows", x[:30], y[:30], x[30:], y[30:])
    return Experiment(data, models.MLP(4), ls.Simulated(2), SGD(0.1), 3, 2, 0)


def compared(
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[[Experiment, ls.Strategy], Outcome],
    **options: object,
) -> tuple[Comparison, str]:
    """A comparison of two strategies whose runs come from a function."""

    def pretended(self: Experiment, strategy: ls.Strategy, callback: Callable[[Progress], object]) -> Result:
        found = run(self, strategy)
        for at in found.history:
            callback(at)
        assert found.result is not None
        return found.result

    monkeypatch.setattr(Experiment, "run", pretended)
    console = Console(file=io.StringIO(), width=130, highlight=False)
    contenders = [Contender(ls.LocalSGD()), Contender(ls.CDSGD())]
    with Comparison(experiment(), contenders, console, **options) as made:  # type: ignore[arg-type]
        made.compare()
    made.tell()
    return made, console.file.getvalue()  # type: ignore[attr-defined]


def test_every_contender_runs_with_every_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def run(described: Experiment, strategy: ls.Strategy) -> Outcome:
        seen.append((repr(strategy), described.seed))
        return outcome(0.9, params=[len(seen)])

    made, text = compared(monkeypatch, run, seeds=(4, 5))
    assert seen == [("LocalSGD()", 4), ("LocalSGD()", 5), ("CDSGD()", 4), ("CDSGD()", 5)]
    assert [row["seeds"] for row in made.rows()] == [[4, 5], [4, 5]]
    assert [row["target"] for row in made.rows()] == [0.87, 0.87]
    assert "2/2  CDSGD()     test accuracy 0.9000  2 virtual s" in text


def test_ctrl_c_keeps_the_rows_that_are_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(described: Experiment, strategy: ls.Strategy) -> Outcome:
        found = outcome(0.9)
        if strategy == ls.CDSGD() and described.seed == 1:
            assert found.result is not None
            raise Interrupted(found.result)
        return found

    made, text = compared(monkeypatch, run, seeds=(0, 1, 2))
    assert made.interrupted
    assert made.stopped() == "stopped in CDSGD(), seed 1; the rows above were finished"
    assert [row["seeds"] for row in made.rows()] == [[0, 1, 2], [0]]
    assert "CDSGD(): 1 of 3 seeds were finished" in text


def test_ctrl_c_before_anything_is_finished_shows_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(described: Experiment, strategy: ls.Strategy) -> Outcome:
        raise KeyboardInterrupt

    made, text = compared(monkeypatch, run, seeds=(0, 1))
    assert made.stopped() == "stopped in LocalSGD(), seed 0; no row was finished"
    assert "accuracy" not in text
    assert made.rows() == []


def test_rates_are_chosen_on_a_seed_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    best = {ls.LocalSGD(): 0.3, ls.CDSGD(): 0.0333}

    def run(described: Experiment, strategy: ls.Strategy) -> Outcome:
        rate = described.optimizer.rate
        if rate == 0.1:
            raise Diverged(0, 5, np.nan)
        good = (rate == best[strategy]) == (described.seed == 7)  # on those that are shown, the other is better
        return outcome(0.9 if good else 0.5, params=[float(strategy == ls.CDSGD())])

    made, text = compared(monkeypatch, run, seeds=(0, 1), tuning=7)
    assert [row["optimizer"] for row in made.rows()] == ["SGD(rate=0.3)", "SGD(rate=0.0333)"]
    assert [row["test_accuracy"] for row in made.rows()] == [0.5, 0.5]
    assert "0.3+" in text
    assert "0.0333-" in text
    assert "on seed 7, which is not shown" in text


def test_the_same_seed_gives_the_same_bits_and_the_slow_worker_the_same_clock() -> None:
    on = replace(slow_link(3), n=3)
    runs = [replace(experiment(), on=on).varied(None, 2).run(ls.EASGD(2), lambda at: None) for _ in range(2)]
    assert runs[0].params.tobytes() == runs[1].params.tobytes()
    assert runs[0].seconds == runs[1].seconds
    assert runs[0].virtual
