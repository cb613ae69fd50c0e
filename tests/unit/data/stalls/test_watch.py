"""A measurement by a clock that a test sets finds what was put in; what is wrong is said in sentences."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.clock import Clock
from tests.unit.data.stalls.loaders import Timed, measured

from loosestep.data import stalls

TIMES = [(a, b, f) for a in (0.02, 0.05) for b in (0.01, 0.05, 0.08) for f in (0.005, 0.03, 0.2)]


@pytest.mark.parametrize(("compute", "prep", "fetch"), TIMES)
def test_a_serial_loader_gives_back_compute_prep_and_fetch(compute: float, prep: float, fetch: float) -> None:
    report = measured(Timed(Clock(), fetch, prep), compute)
    assert report.pipeline == "serial"
    assert (report.compute, report.prep, report.fetch) == pytest.approx((compute, prep, fetch))
    assert report.cold is not None
    assert report.cold.each == pytest.approx(compute + prep + fetch)
    assert report.prep_stall == pytest.approx(prep / (compute + prep + fetch))
    assert report.fetch_stall == pytest.approx(fetch / (compute + prep + fetch))
    assert report.samples == 8


@pytest.mark.parametrize(("compute", "prep", "fetch"), TIMES)
def test_a_loader_that_works_ahead_gives_them_back_too(compute: float, prep: float, fetch: float) -> None:
    report = measured(Timed(Clock(), fetch, prep, ahead=4), compute)
    assert report.pipeline == "prefetch"
    assert (report.compute, report.prep, report.fetch) == pytest.approx((compute, prep, fetch))
    assert report.cold is not None
    assert report.cached.each == pytest.approx(max(compute, prep), rel=0.02)  # T3
    assert report.cold.each == pytest.approx(max(compute, prep + fetch), rel=0.02)  # T2


@pytest.mark.parametrize(("compute", "prep", "fetch"), TIMES)
def test_stages_side_by_side_have_the_maxima_of_the_paper(compute: float, prep: float, fetch: float) -> None:
    report = measured(Timed(Clock(), fetch, prep, ahead=4, staged=True), compute, pipeline="staged")
    assert report.cold is not None
    assert report.synthetic.each == pytest.approx(compute)
    assert report.cached.each == pytest.approx(max(compute, prep), rel=0.05)
    assert report.cold.each == pytest.approx(max(compute, prep, fetch), rel=0.05)
    if fetch > prep * 1.1:
        assert report.fetch == pytest.approx(fetch, rel=0.05)
    else:
        assert report.fetch is None  # hidden: only a bound is known


@pytest.mark.parametrize("ahead", [0, 4])
def test_the_predictions_are_what_is_then_measured(ahead: int) -> None:
    report = measured(Timed(Clock(), 0.08, 0.03, ahead=ahead), 0.05)
    faster = measured(Timed(Clock(), 0.02, 0.03, ahead=ahead), 0.05)
    assert faster.cold is not None
    assert 8 / report.rates.throughput(disk=4.0) == pytest.approx(faster.cold.each, rel=0.02)
    more = measured(Timed(Clock(), 0.08, 0.01, ahead=ahead), 0.05)
    assert more.cold is not None
    assert 8 / report.rates.throughput(cores=3) == pytest.approx(more.cold.each, rel=0.02)
    assert 8 / report.rates.throughput(cache=1.0) == pytest.approx(report.cached.each, rel=0.02)


def test_the_time_in_the_loader_is_told_from_the_step() -> None:
    report = measured(Timed(Clock(), 0.0, 0.03), 0.01, batches=10)
    assert report.cached.waited == pytest.approx(0.3)
    assert report.cached.seconds == pytest.approx(0.4)


def test_a_short_loader_is_measured_as_far_as_it_goes() -> None:
    report = measured(Timed(Clock(), 0.01, 0.02, length=9), 0.01)
    assert report.cached.count == report.loader_cached.count == 4
    assert report.prep == pytest.approx(0.02)


@pytest.mark.parametrize("length", [3, 5])
def test_a_loader_shorter_than_the_warmup_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"ended after {length} batches, of which warmup=5 are not timed"):
        measured(Timed(Clock(), 0.01, 0.02, length=length), 0.01)


def test_the_warmup_covers_what_workers_prefetch() -> None:
    class Loader(list[Any]):
        num_workers, prefetch_factor = 4, 3

    assert stalls.watch(Loader([[0]])).warmup == 12
    assert stalls.watch([[0]]).warmup == 5
    assert stalls.watch(Loader([[0]]), warmup=1).warmup == 1


def test_an_empty_loader_is_refused() -> None:
    with pytest.raises(ValueError, match="the loader is empty"):
        stalls.measure([], print)


def test_an_iterator_is_refused_since_it_ends_once() -> None:
    with pytest.raises(TypeError, match="give a function that returns a new one"):
        stalls.measure(iter([1]), print)
    with pytest.raises(TypeError, match="must be an iterable, or a function"):
        stalls.measure(3, print)  # type: ignore[arg-type]


def test_a_function_that_opens_the_loader_may_return_generators() -> None:
    def opened() -> Iterator[Any]:
        yield from ([0.0] * size for size in range(4, 30))  # rows of different numbers, and no length

    report = stalls.measure(opened, sum, batches=4, warmup=2)
    assert report.samples == (6 + 7 + 8 + 9) / 4
    assert report.fetch is None
    assert report.fetch_stall is None
    assert "Nothing was read cold" in str(report)


def test_a_step_that_raises_ends_it_and_says_where() -> None:
    def step(batch: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        stalls.measure([[0]] * 20, step)
    assert caught.value.__notes__ == ["while loosestep.data.stalls measured: the run synthetic"]


def test_a_loader_that_gives_less_than_before_is_an_error() -> None:
    lengths = iter([20, 7])
    with pytest.raises(RuntimeError, match="fewer batches than in the rehearsal"):
        stalls.measure(lambda: iter([[0]] * next(lengths)), print, batches=10)


def test_a_report_before_the_end_is_an_error() -> None:
    with stalls.watch([[0]] * 20, batches=10) as batches:
        for _ in batches:
            break
    with pytest.raises(RuntimeError, match="the loop was left during the run synthetic"):
        _ = batches.report


def test_epochs_of_a_loop_go_on_where_it_stood_and_what_is_between_them_is_not_counted() -> None:
    """A loop that takes 10 batches an epoch and then evaluates for a minute."""
    clock = Clock()
    loader = Timed(clock, 0.1, 0.02)
    watched = stalls.watch(loader, cold=loader.drop, cached=loader.fill, clock=clock, batches=20)
    epochs = 0
    with watched:
        while not watched.done:
            epochs += 1
            for _, _ in zip(range(10), watched, strict=False):
                clock.now += 0.05
            clock.now += 60
    assert epochs > 3
    report = watched.report
    assert (report.compute, report.prep, report.fetch) == pytest.approx((0.05, 0.02, 0.1))
    assert report.cold is not None
    assert report.cold.each == pytest.approx(0.17)


def test_every_run_draws_the_same_samples() -> None:
    seen: list[list[float]] = []

    def opened() -> Iterator[Any]:
        seen.append([])
        while True:
            seen[-1].append(random.random() + np.random.random())
            yield [0]

    stalls.measure(opened, print_nothing, batches=3, warmup=1, cold=print_nothing)
    assert len(seen) == 5
    assert all(run[:4] == seen[0][:4] for run in seen)


def print_nothing(*args: Any) -> None:
    pass


def test_a_generator_of_the_loader_is_put_back_too() -> None:
    class Generator:
        state = 0

        def get_state(self) -> int:
            return self.state

        def set_state(self, state: int) -> None:
            self.state = state

    class Loader(list[Any]):
        generator = Generator()

        def __iter__(self) -> Iterator[Any]:
            self.generator.state += 1
            states.append(self.generator.state)
            return super().__iter__()

    states: list[int] = []
    stalls.measure(Loader([[0]] * 20), print_nothing, batches=3)
    assert states == [1, 1, 1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batches": 0}, "batches must be at least 1"),
        ({"warmup": -1}, "warmup must be at least 0"),
        ({"pipeline": "magic"}, "pipeline must be one of 'serial', 'prefetch', 'staged'"),
        ({"cached": print}, "give both, or files="),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        stalls.measure([[0]] * 9, print, **options)


def test_files_that_are_not_there_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file or folder to be dropped"):
        stalls.watch([[0]], files=tmp_path / "none")


def test_rows_are_counted_in_what_batches_usually_are() -> None:
    from loosestep.data.stalls.source import samples_of

    rows = np.zeros((6, 2))
    assert [samples_of(each) for each in (rows, (rows, rows), {"x": rows}, ["a", "b"], np.zeros(()), 5, [])] == [
        6, 6, 6, 2, 1, 1, 0,
    ]  # fmt: skip


def test_the_step_waits_for_the_device_before_each_look_at_the_clock() -> None:
    clock = Clock()
    queued = [0.0]

    def step(batch: Any) -> None:
        queued[0] += 0.01  # seconds of work that a GPU has still to do

    def sync() -> None:
        clock.now += queued[0]
        queued[0] = 0.0

    report = stalls.measure([[0]] * 30, step, batches=20, clock=clock, sync=sync)
    assert report.compute == pytest.approx(0.01)
