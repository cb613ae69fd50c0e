"""Measurements that others have published, against predictions with three calibrated numbers."""

from __future__ import annotations

import pytest

import loosestep as ls

PARAMETERS, WORKERS = 30_800_000, 4
LINE = 2 * (WORKERS - 1) / WORKERS * 4 * PARAMETERS * 8e-6  # Mbit that a ring sends a worker
MEASURED = {50: 1.28, 200: 1.12, 1000: 1.05}
"""Seconds of an outer step of DiLoCo over TCP, by Mbit/s of each worker's link, in those of a ring's line; with
some 0.7 s besides, at every rate."""
EFFICIENCY, FIXED, LATENCY = 1 / 1.19, 0.7, 1e-3  # the three numbers


@pytest.mark.parametrize(("mbit", "factor"), MEASURED.items())
def test_an_outer_step_of_diloco_takes_what_was_measured(mbit: int, factor: float) -> None:
    received = 2 * (WORKERS - 1) / WORKERS * 4 * PARAMETERS  # bytes, whose copies together take 0.7 s
    copies = ls.Prices(copy=FIXED / received)
    on = ls.Simulated(
        WORKERS, step_time=1.0, latency=LATENCY, bandwidth=mbit * 125_000 * EFFICIENCY, prices=copies
    )
    period = 4
    outer = ls.predict(ls.DiLoCo(period=period), PARAMETERS, on, steps=period).seconds - period
    assert outer == pytest.approx(factor * LINE / mbit + FIXED, rel=0.10)
