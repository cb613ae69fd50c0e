"""The contrast of the EASGD paper at toy scale: at one rate, long periods break Downpour and not EASGD."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("sklearn")

SCRIPT = Path(__file__).parents[2] / "examples" / "easgd_against_downpour.py"
RATE = 0.2  # the best of its grid for Downpour at period 1 with 4 workers


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def end(example: ModuleType, method: str, period: int) -> tuple[float, float]:
    """(training loss, test accuracy) of the center after 512 steps of each of 4 workers."""
    _, loss, accuracy = example.curve(example.load("digits"), method, 4, period, RATE, 0, steps=512)[-1]
    return loss, accuracy


def test_at_period_1_all_three_converge(example: ModuleType) -> None:
    for method in ("Downpour", "EASGD", "EAMSGD"):
        loss, accuracy = end(example, method, 1)
        assert loss < 0.1
        assert accuracy > 0.93


@pytest.mark.parametrize("period", [16, 64])
def test_at_long_periods_elastic_averaging_converges_and_downpour_does_not(
    example: ModuleType, period: int
) -> None:
    for method in ("EASGD", "EAMSGD"):
        loss, accuracy = end(example, method, period)
        assert loss < 0.1
        assert accuracy > 0.93
    loss, accuracy = end(example, "Downpour", period)
    assert loss > 0.9  # untrained: 2.3
    assert accuracy < 0.75
