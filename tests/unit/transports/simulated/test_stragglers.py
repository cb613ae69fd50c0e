"""Durations of imaginary steps: by seed, rank and step alone, with the mean that each distribution says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.values import drawn

from loosestep.transports.simulated import stragglers
from loosestep.transports.simulated.stragglers import BLOCK, Speed, Stragglers


def kinds() -> dict[str, Any]:
    return {
        name: kind
        for name, kind in vars(stragglers).items()
        if isinstance(kind, type) and issubclass(kind, Stragglers) and kind is not Stragglers
    }


def durations(kind: Stragglers, count: int, rank: int = 0, seed: int = 1) -> list[float]:
    speed = Speed(kind, rank, seed)
    return [speed.duration(step, 2.0) for step in range(count)]


@pytest.mark.parametrize("name", sorted(kinds()))
@drawn
@given(st.integers(0, 3 * BLOCK), st.integers(0, 5))
def test_a_step_takes_the_same_whenever_it_is_asked_for(name: str, step: int, rank: int) -> None:
    """A resumed run, or one that asks out of order, meets the same durations."""
    kind = kinds()[name].example()
    straight = durations(kind, step + 1, rank)
    assert Speed(kind, rank, 1).duration(step, 2.0) == straight[step]
    assert all(each >= 0 for each in straight)


@pytest.mark.parametrize("name", sorted(kinds()))
def test_another_length_of_a_step_scales_what_is_drawn(name: str) -> None:
    kind = kinds()[name].example()
    speed = Speed(kind, 1, 3)
    one, other = speed.duration(5, 1.0), speed.duration(5, 2.0)
    assert speed.duration(5, 1.0) == one
    assert other > one


def test_log_normal_durations_have_the_mean_of_the_step() -> None:
    kind = kinds()["LogNormal"](0.5)
    drawn_ = durations(kind, 20_000)
    assert np.mean(drawn_) == pytest.approx(2.0, rel=0.02)
    assert np.std(np.log(drawn_)) == pytest.approx(0.5, rel=0.02)
    assert durations(kind, 9, rank=1) != durations(kind, 9, rank=2)
    assert durations(kind, 9, seed=1) != durations(kind, 9, seed=2)
