"""What the study of links says: seconds are those of `predict`, and only what is comparable is shown."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench.papers import by_link
from bench.papers.studies import links
from bench.papers.types import Contender, Run

import loosestep as ls


@pytest.mark.parametrize(
    "strategy", [ls.AllReduceSGD(), ls.OverlapSGP(links.PEERS, 4), ls.EagerDiLoCo(16), ls.NoLoCo(period=16)]
)
def test_what_repeats_is_priced_as_a_prediction_of_the_whole(strategy: ls.Strategy) -> None:
    for on in (links.FAST, links.SLOW):
        seconds, sent = links.price(strategy, ls.SGD(1.0), on, 160)
        whole = ls.predict(strategy, links.PARAMETERS, on, steps=160)
        assert seconds == pytest.approx(whole.seconds, rel=1e-9)
        assert sent == pytest.approx(whole.bytes_sent, rel=1e-9)


def contender(strategy: ls.Strategy, **options: object) -> Contender:
    small = Contender("label", strategy, ls.SGD(0.1), links.SLOW, steps=64, data="made-up", panel="5 ms", at=10)
    return replace(small, **options)  # type: ignore[arg-type]


def test_only_ends_of_rounds_are_shown_with_seconds_of_the_large_model() -> None:
    seldom, often = contender(ls.LocalSGD(32)), contender(ls.AllReduceSGD())
    run = links.measure(seldom, 100, links.EVERY)
    assert [at["step"] for at in run.points] == [32, 64]
    found = ls.predict(seldom.strategy, links.PARAMETERS, links.SLOW, steps=64)
    assert run.points[-1]["seconds"] == pytest.approx(found.seconds, rel=1e-5)
    assert [at["step"] for at in links.measure(often, 100, links.EVERY).points] == [16, 32, 48, 64]


def test_a_method_whose_losses_go_by_the_link_is_not_priced_as_if_they_did_not() -> None:
    """What no worker waits for comes in another order there: the proof finds it."""
    with pytest.raises(AssertionError, match="EASGD"):
        links.prove(contender(ls.EASGD(16)), 100, links.EVERY)


def test_a_run_without_a_barrier_has_seconds_of_its_own() -> None:
    run = links.measure(contender(ls.EASGD(16)), 100, links.EVERY)
    assert run.points[-1]["seconds"] > 64 * links.STEP
    assert run.points[-1]["bytes"] == pytest.approx(2 * 4 * links.PARAMETERS * 64 / 16, rel=0.2)


def test_the_best_is_first_at_the_target_or_has_come_farthest() -> None:
    early, late, never = (
        [{"seconds": seconds, "test_accuracy": accuracy}] for seconds, accuracy in ((1, 0.9), (2, 0.9), (1, 0.5))
    )
    less = [{"seconds": 1, "test_accuracy": 0.4}]
    assert links.soonest(early) > links.soonest(late) > links.soonest(never) > links.soonest(less)


def test_who_needs_more_of_both_is_behind() -> None:
    assert by_link.front({"a": (1, 3), "b": (2, 2), "c": (2, 3), "d": (3, 1)}) == {"a", "b", "d"}


def test_names_that_would_touch_are_moved_apart_in_their_order() -> None:
    assert by_link.apart([0.1, 0.5, 0.5, 0.9], 0.1) == pytest.approx([0.1, 0.45, 0.55, 0.9])
    assert by_link.apart([0.0, 0.0], 0.1) == pytest.approx([0.02, 0.12])


def test_a_table_has_a_column_for_each_link() -> None:
    name = "LocalSGD"
    found = {
        contender(ls.LocalSGD(16), label=name, at=speed, panel=panel): [
            Run("", seed, [{"seconds": 1000.0 * speed + seed, "test_accuracy": 0.9}]) for seed in range(3)
        ]
        for panel in ("50 ms", "5 ms")
        for speed in (100, 10)
    }
    lines = list(by_link.ByLink("title", by_link.shown(links.SECONDS)).lines(found))
    assert lines[1] == "| method | 10 Mbit/s, 5 ms | 10 Mbit/s, 50 ms | 100 Mbit/s, 5 ms | 100 Mbit/s, 50 ms |"
    assert lines[3] == f"| {name} | 10,000 ± 1 | 10,000 ± 1 | 100,000 ± 1 | 100,000 ± 1 |"
    assert list(by_link.ByLink("title", links.chosen).lines(found))[3].startswith(f"| {name} | 16, 0.1 |")
