"""The formulas of the predictions, and that what they say is needed is just enough."""

from __future__ import annotations

from itertools import product
from math import inf

import pytest

from loosestep.data.stalls import Rates
from loosestep.data.stalls.rates import Pipeline

SPEEDS = [(1000.0, 3000.0, 400.0), (1000.0, 800.0, 400.0), (500.0, 2000.0, 1500.0), (100.0, 2000.0, 1500.0)]
PIPELINES: tuple[Pipeline, ...] = ("serial", "prefetch", "staged")


def test_the_store_is_the_harmonic_mean_of_memory_and_disk() -> None:
    rates = Rates(compute=inf, prep=inf, fetch=100, memory=400, pipeline="staged")
    assert rates.throughput(cache=0.5) == 1 / (0.5 / 400 + 0.5 / 100)
    assert rates.throughput(cache=1.0) == 400
    assert rates.throughput() == 100


def test_staged_is_the_least_of_three_rates() -> None:
    for rates in product((100.0, 200.0), (150.0, 300.0), (120.0, 250.0)):
        assert Rates(*rates, pipeline="staged").throughput() == pytest.approx(min(rates))


def test_serial_and_prefetch_add_what_takes_turns() -> None:
    assert Rates(100, 200, 400, pipeline="serial").seconds() == pytest.approx(1 / 100 + 1 / 200 + 1 / 400)
    assert Rates(100, 200, 400, pipeline="prefetch").seconds() == pytest.approx(1 / 100)
    assert Rates(300, 200, 400, pipeline="prefetch").seconds() == pytest.approx(1 / 200 + 1 / 400)


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("speeds", SPEEDS)
def test_what_is_needed_is_just_enough(pipeline: Pipeline, speeds: tuple[float, float, float]) -> None:
    rates = Rates(*speeds, cores=2, pipeline=pipeline)
    cache, disk, cores = rates.cache_needed(), rates.disk_needed(), rates.cores_needed()
    best = rates.throughput(cache=1.0)
    if cache:
        assert rates.throughput(cache=cache) == pytest.approx(best)
        assert rates.throughput(cache=cache * 0.95) < best
    if disk and disk > 1:
        assert rates.throughput(disk=disk) == pytest.approx(best)
        assert rates.throughput(disk=disk * 0.95) < best
    if cores is not None:
        assert rates.throughput(cache=1.0, cores=cores) == pytest.approx(rates.compute)
        assert cores == 1 or rates.throughput(cache=1.0, cores=cores - 1) < rates.compute
    if pipeline == "serial":
        assert cores is None
        assert disk is None


def test_no_cache_helps_where_memory_is_too_slow_or_preparing_takes_all() -> None:
    assert Rates(1000, 2000, 100, memory=500, pipeline="staged").cache_needed() is None
    assert Rates(1000, 500, 100).cache_needed() is None
    assert Rates(1000, 500, 100).disk_needed() is None


def test_the_longest_stage_is_named() -> None:
    assert Rates(100, 200, 300, pipeline="staged").limit() == "compute"
    assert Rates(400, 200, 300, pipeline="staged").limit() == "prep"
    assert Rates(400, 350, 300).limit() == "fetch"
    assert Rates(400, 350, 300).limit(cache=1.0) == "prep"
    assert Rates(400, 350, 300).limit(device=2.0, disk=9.0) == "prep"


def test_values_that_are_no_rates_are_refused() -> None:
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="prep must be above 0"):
            Rates(1.0, wrong)
    with pytest.raises(ValueError, match="cache must be at most 1"):
        Rates(1.0, 1.0, 1.0).throughput(cache=2)
    with pytest.raises(ValueError, match="cores must be at least 1"):
        Rates(1.0, 1.0, 1.0).throughput(cores=0)


def test_infinite_rates_are_none_in_json() -> None:
    assert Rates(1.0, 2.0).as_dict() == {
        "compute": 1.0, "prep": 2.0, "fetch": None, "memory": None, "cores": 1, "pipeline": "prefetch",
    }  # fmt: skip
