"""DBS: shares from measured speeds, rounding, the gradient of the union, no row lost; batches that grow."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

import numpy as np
import pytest
from tests.papers.problems import EQUAL, Array, difference

import loosestep as ls
from loosestep.data import GrowingBatch, global_batches, shards
from loosestep.data.apportion import apportion
from loosestep.foundation.errors import WorkerFailed

RNG = np.random.default_rng(11)
ROWS = RNG.normal(size=(240, 5)), np.arange(240)
FAST = ls.stragglers.SlowWorker(rank=3, factor=1 / 3)  # speeds 1, 1, 1, 3


def on(stragglers: Any = FAST, **options: Any) -> ls.Simulated:
    """A sample takes a millisecond of a worker of speed 1, and nothing else takes time."""
    options = {"latency": 0.0, "bandwidth": 1e30, **options}
    return ls.Simulated(4, step_time=0.0, sample_time=1e-3, stragglers=stragglers, **options)


class Seen:
    """A gradient function that notes which rows came together."""

    def __init__(self) -> None:
        self.steps: list[list[int]] = []

    def __call__(self, x: Array, batch: tuple[Array, Array]) -> Array:
        rows, labels = batch
        self.steps.append(labels.tolist())
        return (rows * (rows @ x - 1)[:, None]).mean(axis=0)


def run(strategy: ls.Strategy, transport: Any, epochs: int = 4, seen: Any = None, batch: int = 24) -> ls.Result:
    batches = global_batches(ROWS, batch, epochs, seed=3)
    return ls.run(strategy, seen or Seen(), np.zeros(5), batches, optimizer=ls.SGD(0.1), on=transport)


# --- rounding -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_parts_are_at_least_1_and_sum_up_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    workers = int(rng.integers(1, 12))
    total, shares = int(rng.integers(workers, 300)), rng.lognormal(0, 2, workers)
    parts = apportion(total, list(shares))
    assert sum(parts) == total
    assert min(parts) >= 1
    exact = total * shares / shares.sum()
    if exact.min() >= 1:
        assert np.abs(parts - exact).max() < 1, "no further than rounding"


def test_largest_remainders_get_what_is_left() -> None:
    assert apportion(10, [0.26, 0.25, 0.24, 0.25]) == [3, 3, 2, 2], "of equal ones the lowest rank"
    assert apportion(128, [0.25] * 4) == [32] * 4
    assert apportion(4, [1e-9, 1.0, 1e-9, 1.0]) == [1, 1, 1, 1]
    with pytest.raises(ValueError, match="3 cannot be shared out among 4 workers: each needs at least 1"):
        apportion(3, [0.25] * 4)


# --- from speeds to shares ------------------------------------------------------------------------------------


def test_after_one_measurement_shares_are_the_speeds_and_times_are_equal() -> None:
    """24 rows: 6 each, then 4, 4, 4, 12, for ever."""
    result = run(ls.DBS(every=10), on(), epochs=4)
    assert [worker.samples for worker in result.workers] == [60 + 120, 60 + 120, 60 + 120, 60 + 360]
    waits = [worker.waiting for worker in result.workers]
    assert waits == pytest.approx([0, 0, 0, 10 * 4e-3], abs=1e-9), "only in the first ten steps"


def test_an_epoch_takes_n_by_the_sum_of_speeds() -> None:
    """0.25 n becomes 0.167 n."""
    plain = run(ls.AllReduceSGD(), on(), epochs=3).seconds
    assert plain == pytest.approx(3 * 240 / 4 * 1e-3, rel=1e-9)
    assert run(ls.DBS(every=10), on(), epochs=3).seconds == pytest.approx((240 / 4 + 2 * 240 / 6) * 1e-3, rel=1e-9)


def test_waiting_is_no_computing() -> None:
    """Were it counted, all would seem equally fast."""
    slow_links = on(latency=0.5)
    result = run(ls.DBS(every=10), slow_links, epochs=2)
    assert [worker.samples for worker in result.workers] == [100, 100, 100, 180]


def shares_after(strategy: ls.DBS, speeds: list[list[float]]) -> list[list[float]]:
    """Measurement after measurement."""
    shares, known, seen = [0.25] * 4, [0.0] * 4, []
    for measured in speeds:
        known = [strategy.smoothed(*pair) for pair in zip(known, measured, strict=True)]
        shares = strategy.shared_anew(shares, known)
        seen.append(shares)
    return seen


def test_a_change_of_speed_is_followed_within_one_measurement() -> None:
    one, two = shares_after(ls.DBS(), [[1, 1, 1, 3], [1, 1, 1, 1]])
    assert one == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])
    assert two == pytest.approx([1 / 4] * 4)


def test_smoothing_is_of_speeds() -> None:
    _, two = shares_after(ls.DBS(smoothing=0.75), [[1, 1, 1, 3], [1, 1, 1, 1]])
    assert two == pytest.approx(np.array([1, 1, 1, 2.5]) / 5.5)


def test_a_share_changes_at_most_so_much_at_once() -> None:
    (one,) = shares_after(ls.DBS(most=1.2), [[1, 1, 1, 9]])
    assert one == pytest.approx(np.array([1 / 1.2] * 3 + [1.2]) / (3 / 1.2 + 1.2))


def test_who_computed_nothing_keeps_its_speed() -> None:
    one, two = shares_after(ls.DBS(), [[2, 2, 2, 0], [2, 2, 2, 6]])
    assert one == [0.25] * 4
    assert two == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])


# --- what does not change -------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [ls.DBS(every=3), ls.DBS(ls.LocalSGD(2), every=2)], ids=repr)
@pytest.mark.parametrize("transport", [on(), ls.Threads(4)], ids=["virtual", "threads"])
def test_every_row_is_used_once_an_epoch(strategy: ls.Strategy, transport: Any) -> None:
    seen = Seen()
    result = run(strategy, transport, epochs=3, seen=seen, batch=23)
    assert result.samples == 3 * 240
    assert set(Counter(label for step in seen.steps for label in step).values()) == {3}
    assert all(seen.steps), "nobody without a row"


def test_whatever_the_shares_it_is_sgd_on_the_union() -> None:
    batches = [step.part(0) for step in global_batches(ROWS, 24, 5, seed=3)(0, 1)]
    x = np.zeros(5)
    for batch in batches:
        x = x - 0.1 * Seen()(x, batch)
    for stragglers in (FAST, ls.stragglers.LogNormal(0.8)):
        assert difference(np.asarray(run(ls.DBS(every=3), on(stragglers), epochs=5).params), x) < EQUAL


def test_with_equal_times_it_is_s_sgd_bit_for_bit() -> None:
    both = ls.AllReduceSGD(), ls.DBS(every=3)
    plain, found = (run(strategy, on(ls.stragglers.Constant()), epochs=5) for strategy in both)
    assert found.params.tobytes() == plain.params.tobytes()
    assert [worker.samples for worker in found.workers] == [300] * 4


def test_the_mean_of_local_sgd_is_weighted_too() -> None:
    result = run(ls.DBS(ls.LocalSGD(2), every=5), on(), epochs=2)
    assert [worker.samples for worker in result.workers] == [100, 100, 100, 180]


# --- what is refused ------------------------------------------------------------------------------------------


def test_batches_of_one_worker_cannot_be_shared_out() -> None:
    with pytest.raises(
        WorkerFailed, match="need batches of all workers together, as data.global_batches makes them"
    ):
        ls.run(ls.DBS(), Seen(), np.zeros(5), shards(ROWS, 6, 1), on=on())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"strategy": ls.EASGD()}, r"strategy must be a synchronous one .*, got EASGD\(\)"),
        ({"smoothing": 1.0}, "smoothing must be below 1, got 1.0"),
        ({"most": 1.0}, "most must be above 1, got 1.0"),
    ],
)
def test_bad_options_are_refused(options: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ls.DBS(**options)


# --- batches that grow ----------------------------------------------------------------------------------------


def test_a_batch_that_grows_makes_fewer_steps_of_all_rows() -> None:
    steps = list(global_batches(ROWS, GrowingBatch(24, at=(1, 2), factor=5), 3)(0, 4))
    assert [len(step.rows) for step in steps] == [24] * 10 + [120] * 2 + [240]
    for epoch in (steps[:10], steps[10:12], steps[12:]):
        assert sorted(np.concatenate([step.rows for step in epoch])) == list(range(240))


def test_what_is_left_of_an_epoch_is_a_batch_or_joins_the_one_before() -> None:
    lengths = [
        [len(step.rows) for step in global_batches(ROWS, batch, 1)(0, 4)] for batch in (119, 100, 240, 1000)
    ]
    assert lengths == [[119, 121], [100, 100, 40], [240], [240]]
    with pytest.raises(ValueError, match="at least a row for each of 4 workers, got 3"):
        next(global_batches(ROWS, 3, 1)(0, 4))


def test_all_workers_see_one_order_and_rank_order_within_a_step() -> None:
    for one, two in islice(
        zip(global_batches(ROWS, 24, 2)(0, 4), global_batches(ROWS, 24, 2)(2, 4), strict=True), 12
    ):
        assert (one.rows == two.rows).all()
        parts = [one.part(rank, (1, 2, 3, 4))[1] for rank in range(4)]
        assert (np.concatenate(parts) == one.rows).all()
