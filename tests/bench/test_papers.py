"""The machinery of paper experiments: what is run, what is remembered, what a page says."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from bench.papers import __main__ as command
from bench.papers.drawing import Curves, Dots, Ends, leftmost
from bench.papers.page import carry_out
from bench.papers.rows import rows_of
from bench.papers.study import Study, train
from bench.papers.tables import ACCURACY, SENT, Across, Column, Plain, cell, first_at
from bench.papers.types import Contender, Run

import loosestep as ls

pytest.importorskip("matplotlib")
from matplotlib.figure import Figure


class Measure:
    """Curves by formula: accuracy rises with the step, and by a hundredth from seed to seed."""

    def __init__(self, diverging: int | None = None) -> None:
        self.ran: list[tuple[str, int]] = []
        self.diverging = diverging

    def __call__(self, contender: Contender, seed: int, every: int) -> Run:
        self.ran.append((contender.label, seed))
        points = [at(step, (step + seed) / 100) for step in range(every, contender.steps + 1, every)]
        return Run(contender.setting, seed, points, diverged=seed == self.diverging)


def at(step: int, accuracy: float) -> dict[str, float]:
    amounts = {"step": step, "bytes": 1e6 * step, "seconds": 0.5 * step, "samples": 32.0 * step}
    return {**amounts, "test_accuracy": accuracy}


def study(measure: Any, *labels: str, **options: Any) -> ModuleType:
    """A module that declares one contender a label, a period apart."""
    module = ModuleType("made")
    module.__doc__ = "A title.\n\nWhat is asked."
    contenders = tuple(
        Contender(label, ls.LocalSGD(2**number), steps=50, at=2**number) for number, label in enumerate(labels)
    )
    options = {"pictures": (Curves((("samples", "test_accuracy"),)),), "evaluations": 5, **options}
    module.STUDY, module.FINDINGS = Study(contenders, measure=measure, **options), "What was found."  # type: ignore[attr-defined]
    return module


def made(module: ModuleType, out: Path, again: str | None = None) -> str:
    carry_out("made", module, out, smoke=False, again=again)
    assert (out / "made.png").read_bytes().startswith(b"\x89PNG")
    return (out / "made.md").read_text()


def test_a_page_has_what_was_asked_mean_and_spread_findings_and_the_command(tmp_path: Path) -> None:
    page = made(study(Measure(), "one", "two"), tmp_path)
    assert page.startswith("# A title\n\nWhat is asked.\n")
    assert "| one | 51.00 ± 1 |" in page
    assert "What was found." in page
    assert "`python -m bench.papers made`" in page
    assert "`strategy=LocalSGD(period=2), steps=50`" in page


def test_what_was_run_is_not_run_again_unless_asked(tmp_path: Path) -> None:
    first, second, third = Measure(), Measure(), Measure()
    page = made(study(first, "one", "two"), tmp_path)
    assert len(first.ran) == 6
    assert made(study(second, "one", "two"), tmp_path) == page
    assert second.ran == []
    made(study(third, "one", "two", "three"), tmp_path, again="two")
    assert third.ran == [("two", 0), ("two", 1), ("two", 2), ("three", 0), ("three", 1), ("three", 2)]


def test_a_label_is_no_setting_and_what_is_not_shown_is_forgotten(tmp_path: Path) -> None:
    made(study(Measure(), "one", "two"), tmp_path)
    renamed = Measure()
    assert "| eins | 51.00" in made(study(renamed, "eins"), tmp_path)
    assert renamed.ran == []
    assert (tmp_path / "made.json").read_text().count("setting") == 3


def test_more_seeds_add_runs(tmp_path: Path) -> None:
    made(study(Measure(), "one"), tmp_path)
    more = Measure()
    made(study(more, "one", seeds=(0, 1, 2, 3, 4)), tmp_path)
    assert more.ran == [("one", 3), ("one", 4)]


def test_a_run_that_diverged_is_told_and_has_no_mean(tmp_path: Path) -> None:
    page = made(study(Measure(diverging=1), "one"), tmp_path)
    assert "| one | 1 of 3 diverged |" in page
    again = Measure()
    assert made(study(again, "one"), tmp_path) == page
    assert again.ran == []


def test_all_pictures_and_tables_can_be_made(tmp_path: Path) -> None:
    pictures = (Curves(), Ends("period"), Dots((ACCURACY, SENT), logarithmic=(SENT.title,)))
    module = study(Measure(diverging=2), "one", "two", pictures=pictures, tables=(Plain(), Across("period", SENT)))
    page = made(module, tmp_path)
    assert "| panel | method | period 1 | period 2 |" in page
    assert "|  | one | 1 of 3 diverged | - |" in page


def test_a_table_says_whose_numbers_are_anothers_and_at_which_rate(tmp_path: Path) -> None:
    page = made(study(Measure(), "one", "two", tables=(Plain((ACCURACY,), rates=True, copies=True),)), tmp_path)
    assert "| one | 0.1 | 51.00 ± 1 |   |" in page
    assert "| two | 0.1 | 51.00 ± 1 | one |" in page


def test_nothing_at_all_has_a_place_on_a_logarithmic_axis() -> None:
    figure, found = Figure(), {}
    for label, sent in (("one", 0.0), ("two", 3e6), ("three", 6e6)):
        contender = Contender(label, ls.LocalSGD(), steps=50)
        found[contender] = [Run("", seed, [{**at(50, 0.5), "bytes": sent}]) for seed in range(3)]
    place = figure.subplots()
    Dots((SENT,), logarithmic=(SENT.title,)).draw([place], found)
    marks = {
        line.get_marker(): line.get_xdata()[0] for line in place.lines if line.get_marker() not in ("None", "")
    }
    assert marks["<"] == 2.0  # left of 3, the least
    assert leftmost([[0.0], []]) > 0


def test_what_is_never_reached_is_no_number() -> None:
    runs = [Measure()(Contender("one", ls.LocalSGD(), steps=50), seed, 10) for seed in range(3)]
    reached = Column("seconds to 51%", first_at("seconds", 0.51))
    assert cell(reached, runs) == "- (1 of 3 never)"
    assert cell(Column("seconds to 45%", first_at("seconds", 0.45)), runs) == "25"
    assert cell(Column("seconds to 90%", first_at("seconds", 0.9)), runs) == "-"


def test_three_seeds_at_least() -> None:
    with pytest.raises(ValueError, match=r"a study needs at least 3 seeds for a spread, got \(0, 1\)"):
        Study((), seeds=(0, 1)).check()


def test_what_is_shown_leaves_out_defaults_and_words() -> None:
    assert Contender("label", ls.LocalSGD(), panel="panel", at=3.0).shown == "strategy=LocalSGD()"


def test_a_setting_has_every_field_so_that_another_default_is_another_run() -> None:
    one = Contender("label", ls.Stages((ls.BMUF(), 1), (ls.CDSGD(), None)), panel="panel", at=3.0).setting
    assert one.startswith(
        "strategy=Stages(parts=((BMUF(period=16, block_momentum=None, rate=1.0, form='classical'), 1), "
        "(CDSGD(topology=Ring(), rounds=1, trade_off=None, momentum=0.0), None))), "
        "optimizer=SGD(rate=0.1, weight_decay=0.0), on=Simulated(n=4, "
    )
    assert "panel" not in one
    assert one.endswith("data='fashion-mnist', rows=None, fraction=None, by_label=False")


def test_a_run_with_an_old_default_is_run_again(tmp_path: Path) -> None:
    made(study(Measure(), "one"), tmp_path)
    saved = tmp_path / "made.json"
    saved.write_text(saved.read_text().replace("momentum='keep'", "momentum='reset'"))
    again = Measure()
    made(study(again, "one"), tmp_path)
    assert again.ran == [("one", 0), ("one", 1), ("one", 2)]


def test_training_gives_points_and_a_divergence_ends_them() -> None:
    plain = Contender("plain", ls.AllReduceSGD(), ls.SGD(0.05), steps=20, data="made-up")
    run = train(plain, 0, 5)
    assert not run.diverged
    assert [at["step"] for at in run.points] == [5, 10, 15, 20]
    assert run.points[-1]["samples"] == 20 * 4 * 32 - missing(20)
    wild = train(Contender("wild", ls.AllReduceSGD(), ls.SGD(1e9), steps=50, data="made-up"), 0, 5)
    assert wild.diverged


def missing(steps: int) -> int:
    """400 made-up rows over 4 workers in batches of 32: every fourth batch of a worker has 4 rows."""
    return 4 * (steps // 4) * (32 - len(rows_of("made-up").y_train) // 4 % 32)


@pytest.mark.parametrize("name", command.names())
def test_every_experiment_declares_a_study_with_a_title(name: str) -> None:
    module = importlib.import_module(f"bench.papers.studies.{name}")
    assert isinstance(module.STUDY, Study)
    assert isinstance(module.FINDINGS, str)
    title, blank, *_ = (module.__doc__ or "").splitlines()
    assert title
    assert not blank
    settings = [(each.setting, each.panel, each.label) for each in module.STUDY.contenders]
    assert len(settings) == len(set(settings))


def by_rate(contender: Contender, seed: int, every: int) -> Run:
    """A run whose accuracy is its rate; above a half it diverges."""
    rate = contender.optimizer.rate
    return Run(contender.setting, seed, [at(50, rate)], diverged=rate > 0.5)


def test_a_tuned_contender_is_shown_with_the_best_of_its_tries(tmp_path: Path) -> None:
    module = study(by_rate, "one")
    tried = tuple((ls.LocalSGD(1), ls.SGD(rate)) for rate in (0.2, 0.4, 0.9))
    plain = module.STUDY.contenders[0]
    module.STUDY = Study((replace(plain, tried=tried),), measure=by_rate, pictures=(Curves(),))
    page = made(module, tmp_path)
    assert "| one | 40.00 |" in page
    assert "| one | 3 | `SGD()` at rates 0.2, 0.4, 0.9 |" in page
    assert "The 6 runs took 0.0 minutes together" in page
    kept = json.loads((tmp_path / "made.json").read_text())
    assert [(run["seed"], run["diverged"]) for run in kept[:3]] == [(0, False), (1, False), (2, False)]
    assert [(run["seed"], run["diverged"]) for run in kept[3:]] == [(100, False), (100, False), (100, True)]
    module.STUDY = replace(module.STUDY, measure=Measure())
    assert made(module, tmp_path) == page  # nothing was run again


def test_what_is_tried_must_not_be_compared_on_a_seed_that_is_shown() -> None:
    with pytest.raises(ValueError, match="a seed that is not shown, got 2"):
        Study((), tuning_seed=2).check()
