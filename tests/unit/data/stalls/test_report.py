"""What follows from the seconds of runs, and how it is printed."""

from __future__ import annotations

import json

import pytest

from loosestep.data.stalls import Report, Run
from loosestep.data.stalls.report import found_pipeline


def report(**given: object) -> Report:
    runs = {
        "synthetic": Run(10, 0.2), "cached": Run(10, 0.3, 0.1), "cold": Run(10, 0.5, 0.3),
        "loader_cached": Run(10, 0.3, 0.3), "loader_cold": Run(10, 0.5, 0.5),
    }  # fmt: skip
    return Report(**{**runs, "samples": 4.0, "pipeline": "prefetch", **given})  # type: ignore[arg-type]


def test_stalls_are_the_differences_over_the_cold_run() -> None:
    found = report()
    assert (found.compute, found.prep, found.fetch) == pytest.approx((0.02, 0.03, 0.02))
    assert found.prep_stall == pytest.approx((0.03 - 0.02) / 0.05)
    assert found.fetch_stall == pytest.approx((0.05 - 0.03) / 0.05)
    assert found.rates.prep == pytest.approx(4 / 0.03)
    assert found.rates.fetch == pytest.approx(4 / 0.02)


def test_noise_below_zero_is_no_stall() -> None:
    found = report(cold=Run(10, 0.29), cached=Run(10, 0.19), loader_cold=Run(10, 0.29))
    assert found.prep_stall == 0.0
    assert found.fetch == 0.0
    assert found.rates.fetch == float("inf")


def test_the_table_has_a_line_for_each_stage_and_each_question() -> None:
    lines = str(report(notes=("Mind this.",))).splitlines()
    assert lines[1].split() == ["compute", "20", "200", "40%"]
    assert lines[2].split() == ["prep", "30", "133.3", "20%"]
    assert lines[3].split() == ["fetch", "20", "200", "40%"]
    assert "all data in a cache                    133.3    1.67" in lines
    assert "2 cores to prepare                     114.3    1.43" in lines
    assert lines[-1] == "Mind this."


def test_the_table_says_what_hides_the_loader() -> None:
    found = report(loader_cached=Run(10, 0.1), cached=Run(10, 0.2))
    assert "Preparing is hidden by 1 core." in str(found)
    assert "Fetching is hidden by a cache of 75% of the data, or a disk 4 times as fast." in str(found)


def test_times_that_contradict_each_other_are_told() -> None:
    assert "which cannot be" in str(report(cold=Run(10, 0.2)))
    assert "which cannot be" not in str(report())


def test_the_table_without_a_cold_run_asks_nothing_of_disks() -> None:
    text = str(report(cold=None, loader_cold=None))
    assert "unknown" in text
    assert "cache" not in text
    assert "disk" not in text


def test_json_holds_measurements_and_what_follows() -> None:
    found = json.loads(report().json())
    assert found["cold"] == {"count": 10, "seconds": 0.5, "waited": 0.3, "typical": None}
    assert found["fetch_stall"] == pytest.approx(0.4)
    assert found["rates"]["memory"] is None


def test_a_fetch_hidden_behind_prep_is_not_known() -> None:
    assert report(pipeline="staged", loader_cold=Run(10, 0.301)).fetch is None
    assert report(pipeline="staged").fetch == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("compute", "loader", "whole", "workers", "found"),
    [
        (2, 3, 5, None, "serial"),
        (2, 3, 3, None, "prefetch"),
        (2, 3, 5, 4, "prefetch"),  # workers compete with the step for cores
        (2, 3, 3, 0, "prefetch"),  # a step that a GPU carries out meanwhile
        (2, 0.01, 2, 0, "serial"),
        (2, 0.01, 2, None, "prefetch"),
    ],
)
def test_times_tell_whether_a_loader_works_ahead(
    compute: float, loader: float, whole: float, workers: int | None, found: str
) -> None:
    assert found_pipeline(compute, loader, whole, workers) == found
