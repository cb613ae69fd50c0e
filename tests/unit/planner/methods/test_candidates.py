"""What a step costs in the course of a long run, against the prices of the cluster."""

from __future__ import annotations

from typing import Any

import pytest

import loosestep as ls
from loosestep.planner.methods import Candidate, Tariff
from loosestep.planner.methods.candidates import priced, values

CLUSTER = ls.Simulated(4, step_time=0.1, latency=0.01, bandwidth=1.25e7)
D = 250_000
AVERAGE = 2 * 0.01 + 2 * 3 / 4 * 4 * D / 1.25e7  # seconds


def test_a_step_and_its_share_of_a_round() -> None:
    for period in (1, 4, 32):
        found = priced(ls.LocalSGD(period), D, CLUSTER)
        assert found.step_seconds == pytest.approx(0.1 + AVERAGE / period)
        assert found.waiting_share == pytest.approx(AVERAGE / (AVERAGE + 0.1 * period))
        assert found.bytes_a_step == pytest.approx(2 * 3 / 4 * 4 * D / period)
        assert found.messages_a_step == pytest.approx(6 / period)
        assert found.beginning == pytest.approx(0, abs=1e-9)


def test_a_beginning_that_waits_for_nothing_is_no_part_of_a_step() -> None:
    """An average of 0.14 s is under way while a round of 0.1 s is computed; the first round waits for none."""
    found = priced(ls.CoCoDSGD(1), D, CLUSTER)
    whole = ls.predict(ls.CoCoDSGD(1), D, CLUSTER, steps=1000)
    assert found.step_seconds == pytest.approx(AVERAGE)
    assert found.to_loss(1000).seconds == pytest.approx(whole.seconds, rel=1e-3)


def test_what_a_center_sends_is_counted() -> None:
    found = priced(ls.EASGD(4), D, CLUSTER)
    assert found.bytes_a_step == pytest.approx(2 * 4 * D / 4)


def test_all_levels_of_a_hierarchy_are_in_a_step() -> None:
    found = priced(ls.HierarchicalLocalSGD(((2, 2), (64, None))), D, CLUSTER)
    pairs, all_ = 4 * D, 2 * 3 / 4 * 4 * D
    assert found.bytes_a_step == pytest.approx((31 * pairs + all_) / 64)


def test_a_codec_sends_its_bits() -> None:
    found = priced(ls.StreamingDiLoCo(period=8, codec=ls.E3M0()), 10_000_000, CLUSTER)
    assert found.bytes_a_step == pytest.approx(3 * 10_000_000 / 4 * (4 + 16 / 64) / 8 / 8, rel=0.01)


def test_a_run_to_a_loss_ends_with_a_round() -> None:
    found = priced(ls.LocalSGD(8), D, CLUSTER, tariff=Tariff(3.6, 1.0)).to_loss(33)
    assert found.steps == 40
    assert found.seconds == pytest.approx(40 * 0.1 + 5 * AVERAGE)
    assert found.bytes == pytest.approx(5 * 1.5 * 4 * D)
    assert found.money == pytest.approx(4 * (found.seconds * 1e-3 + found.bytes * 1e-9))
    costs: tuple[Any, ...] = ("seconds", "bytes", "money")
    assert [found.cost(what) for what in costs] == [found.seconds, found.bytes, found.money]


def test_without_steps_costs_are_of_a_step() -> None:
    made = Candidate(ls.LocalSGD(), 2, 0.5, 0.1, 8e9, 1.0, tariff=Tariff(3600.0, 0.25))
    assert (made.seconds, made.bytes, made.money) == (0.5, 8e9, 2 * (0.5 + 2))


def test_uneven_workers_are_watched_for_longer() -> None:
    uneven = ls.Simulated(4, 0.1, stragglers=ls.stragglers.LogNormal(0.5), seed=1)
    long = ls.predict(ls.LocalSGD(1), 100, uneven, steps=2000).step_seconds
    assert priced(ls.LocalSGD(1), 100, uneven).step_seconds == pytest.approx(long, rel=0.1)


def test_a_strategy_that_sends_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"OneShotAveraging\(\) sends nothing in 8 steps"):
        priced(ls.OneShotAveraging(), 100, CLUSTER)
    assert priced(ls.OneShotAveraging(), 100, ls.Simulated(1, 0.1)).step_seconds == pytest.approx(0.1)


def test_a_bucket_has_values_enough_to_be_one() -> None:
    mib = 1 << 20
    assert values(ls.LocalSGD(), 400 * mib) == 1 << 12
    assert values(ls.AllReduceSGD(bucket_bytes=mib), 400 * mib) == 32 * 400
    few = priced(ls.AllReduceSGD(bucket_bytes=4 * mib), 100_000_000, CLUSTER)
    assert few.bytes_a_step == pytest.approx(1.5 * 4e8, rel=1e-3)


def test_bad_prices_are_refused() -> None:
    with pytest.raises(ValueError, match="worker_hour must be at least 0"):
        Tariff(-1.0)
