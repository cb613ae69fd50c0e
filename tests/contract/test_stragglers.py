"""What every distribution of step durations promises."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from tests.contract.discovery import discover

import loosestep as ls
from loosestep.transports.simulated import stragglers
from loosestep.transports.simulated.stragglers import Speed, Stragglers

every_kind = pytest.mark.parametrize("kind", discover(stragglers, Stragglers))


@every_kind
def test_durations_depend_on_seed_rank_and_step_alone(kind: type[Stragglers]) -> None:
    example = kind.example()
    forward = [Speed(example, 2, 5).duration(step, 1e-3) for step in range(600)]
    speed = Speed(example, 2, 5)
    assert [speed.duration(step, 1e-3) for step in reversed(range(600))] == forward[::-1]
    assert min(forward) > 0


@every_kind
def test_what_is_random_differs_by_seed_rank_and_block(kind: type[Stragglers]) -> None:
    def drawn(rank: int, seed: int) -> list[float]:
        return [Speed(kind.example(), rank, seed).duration(step, 1e-3) for step in range(512)]

    first = drawn(1, 0)
    if len(set(first)) > 1:
        assert first != drawn(1, 1)
        assert first != drawn(2, 0)
        assert first[:256] != first[256:]


@every_kind
def test_it_scales_with_the_step_or_adds_to_it(kind: type[Stragglers]) -> None:
    durations = [
        kind.example().durations(0, step_time, 4096, np.random.default_rng(0)) for step_time in (1e-3, 2e-3, 3e-3)
    ]
    assert np.allclose(durations[2] - durations[1], durations[1] - durations[0])
    assert all(len(some) == 4096 for some in durations)


def test_a_lognormal_keeps_the_mean() -> None:
    drawn = ls.stragglers.LogNormal(0.5).durations(0, 1e-3, 200_000, np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(1e-3, rel=0.01)
    assert np.log(drawn).std() == pytest.approx(0.5, rel=0.01)


def test_one_slow_worker_may_be_as_uneven_as_the_others() -> None:
    base = ls.stragglers.LogNormal(0.3)
    slow = ls.stragglers.SlowWorker(rank=2, factor=2.0, base=base)
    for rank, factor in ((1, 1.0), (2, 2.0)):
        plain, changed = (Speed(each, rank, 5).duration(300, 1e-3) for each in (base, slow))
        assert changed == factor * plain
    spell = ls.stragglers.SlowWorker(
        rank=2, factor=2.0, base=ls.stragglers.SlowPeriod(rank=2, factor=3.0, first=0, last=10)
    )
    assert Speed(spell, 2, 0).duration(5, 1e-3) == pytest.approx(6e-3)
    assert Speed(spell, 2, 0).duration(15, 1e-3) == pytest.approx(2e-3)
    with pytest.raises(TypeError, match="base must be"):
        ls.stragglers.SlowWorker(base=2.0)


@every_kind
def test_it_is_a_value(kind: type[Stragglers]) -> None:
    example = kind.example()
    assert eval(repr(example), vars(ls.stragglers).copy()) == example
    assert pickle.loads(pickle.dumps(example)) == example


def test_a_spell_comes_and_goes_for_one_worker() -> None:
    spell = ls.stragglers.SlowPeriod(rank=1, factor=4.0, first=250, last=300)
    slow, other = ([Speed(spell, rank, 0).duration(step, 1e-3) for step in range(600)] for rank in (1, 0))
    assert slow == [4e-3 if 250 <= step < 300 else 1e-3 for step in range(600)]
    assert set(other) == {1e-3}
