"""What every strategy promises of a run that was killed, or that goes on with another number of workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.contract.parametrize import (
    ALL,
    MANY,
    REAL,
    VIRTUAL,
    every_strategy,
    every_synchronous,
    every_virtual,
    go,
)
from tests.contract.problem import Quadratic, facts

import loosestep as ls
from loosestep.foundation.errors import CheckpointError, WorkerFailed
from loosestep.strategies.base import Strategy
from loosestep.transports.base import Transport
from loosestep.transports.failing import InjectedFailure


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk is tested with checkpoints; here it would only take time."""
    monkeypatch.setattr("os.fsync", lambda file: None)


# --- the same number of workers ----------------------------------------------------------------------------

CRASHES = [3, 8, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 41, 60]
"""Requests of one worker at which it dies: many in a row, so that some are just before or after a checkpoint."""
STRATEGIES = [case.values[0] for case in ALL]


def some_crashes(strategy: Strategy, kind: type[Transport], every: int | None) -> list[int]:
    """Return a seventh; strategies, transports and evaluations take turns, so that none is left out."""
    place = 2 * (STRATEGIES.index(strategy) + MANY.index(kind)) + (every is not None)
    return CRASHES[place % 7 :: 7]


def crashed_and_resumed(
    strategy: Strategy, on: Transport, where: int, folder: Path, **options: Any
) -> ls.Result | None:
    data = Quadratic([17, 14, 17], [2, 1, 3], noise=1.0)
    options = {"checkpoint_every": 3, "optimizer": ls.Nesterov(0.05), "checkpoint": folder, **options}
    if where:
        try:
            go(strategy, data, ls.Failing(on, rank=where % 3, at_request=where), **options)
        except WorkerFailed as error:
            if not isinstance(error.__cause__, InjectedFailure):
                raise
        else:
            return None
        options["resume"] = True
    return go(strategy, data, on, **options)


def check_crashes(
    strategy: Strategy, on: Transport, tmp_path: Path, crashes: list[int], least: int = 3, **options: Any
) -> None:
    whole = crashed_and_resumed(strategy, on, 0, tmp_path / "whole", **options)
    assert whole is not None
    crashed = 0
    for where in crashes:
        again = crashed_and_resumed(strategy, on, where, tmp_path / str(where), **options)
        if again is None:
            continue
        crashed += 1
        assert facts(again) == facts(whole), f"killed at request {where}"
        if on.virtual:
            assert again.seconds == whole.seconds
            assert [seen.seconds for seen in again.history] == [seen.seconds for seen in whole.history]
    assert crashed >= least


@every_synchronous
@pytest.mark.parametrize("real", REAL)
@pytest.mark.parametrize("every", [None, 4])
def test_killed_and_resumed_is_as_never_killed(
    strategy: Strategy, real: type[Transport], every: int | None, tmp_path: Path
) -> None:
    check_crashes(strategy, real(3), tmp_path, some_crashes(strategy, real, every), least=1, every=every)


@every_strategy
@every_virtual
@pytest.mark.parametrize("every", [None, 4])
def test_killed_and_resumed_is_as_never_killed_in_virtual_time(
    strategy: Strategy, virtual: type[Transport], every: int | None, tmp_path: Path
) -> None:
    on = virtual(3, stragglers=ls.stragglers.LogNormal(0.5), center_bandwidth=2e5, latency=2e-4)
    check_crashes(strategy, on, tmp_path, some_crashes(strategy, virtual, every), least=1, every=every, seed=5)


@pytest.mark.slow  # the places that the two tests above leave out
@every_strategy
@pytest.mark.parametrize("kind", MANY)
def test_killed_anywhere_and_resumed_is_as_never_killed(
    strategy: Strategy, kind: type[Transport], tmp_path: Path
) -> None:
    if not (strategy.synchronous or kind.virtual):
        pytest.skip("two runs of it need not agree")
    check_crashes(strategy, kind(3), tmp_path, CRASHES, least=9)


@every_strategy
@every_virtual
def test_a_stop_outlives_a_crash(strategy: Strategy, virtual: type[Transport], tmp_path: Path) -> None:
    """Worker 0 is slow: when it has seen enough, the others are ahead, and checkpoint until there."""
    on = virtual(3, stragglers=ls.stragglers.SlowWorker(0, 4.0))
    options = {"every": 3, "stop": lambda seen: seen.step >= 6}
    crashes = range(16 + 2 * VIRTUAL.index(virtual), 31, 2 * len(VIRTUAL))
    check_crashes(strategy, on, tmp_path, list(crashes), least=1, **options)


@every_strategy
def test_a_finished_run_resumes_to_itself(strategy: Strategy, tmp_path: Path) -> None:
    data = Quadratic([7, 9])
    options: dict[str, Any] = {"checkpoint": tmp_path, "every": 3}
    first = go(strategy, data, ls.Simulated(2), **options)
    again = go(strategy, data, ls.Simulated(2), resume=True, **options)
    assert facts(again) == facts(first)
    assert again.seconds == first.seconds


# --- another number of workers -----------------------------------------------------------------------------


def saved_by_four(strategy: Strategy, kind: type[Transport], folder: Path) -> ls.Result:
    """Ten steps, which end inside a round of most strategies; every worker's data lasts for a hundred."""
    data = Quadratic([100] * 4, [2, 1, 3, 2], noise=1.0)
    return go(strategy, data, kind(4), optimizer=ls.Nesterov(0.05), checkpoint=folder, steps=10)


@every_strategy
@pytest.mark.parametrize(("kind", "n"), [(MANY[place % len(MANY)], n) for place, n in enumerate((1, 2, 5, 3))])
def test_other_workers_begin_at_the_consensus(
    strategy: Strategy, kind: type[Transport], n: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = saved_by_four(strategy, kind, tmp_path)
    data, options = Quadratic([100] * n), {"optimizer": ls.Nesterov(0.05), "checkpoint": tmp_path, "resume": True}
    at_once = go(strategy, data, kind(n), steps=10, **options)  # it has made its steps
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"was written by 4 workers and goes on with {n}: all begin at " in told
    np.testing.assert_allclose(at_once.params, before.params, rtol=0, atol=1e-14)
    for worker in at_once.workers:
        np.testing.assert_allclose(worker.params, before.params, rtol=0, atol=1e-14)
    assert (at_once.samples, at_once.steps) == (before.samples, 10)
    after = go(strategy, data, kind(n), steps=16, **options)
    assert capsys.readouterr().err == "", "written by this number of workers by now"
    assert [worker.steps for worker in after.workers] == [16] * n
    assert after.history[-1].step == 16
    assert np.isfinite(after.params).all()
    moved = [(worker.params != before.params).any() for worker in after.workers]
    assert all(moved) if strategy.synchronous or kind.virtual else any(moved), (
        "alone, some methods wait for others"
    )


@every_synchronous
@every_virtual
@pytest.mark.parametrize("step", [1, 3])
def test_others_begin_at_the_consensus_of_a_round_that_was_left_in_its_middle(
    strategy: Strategy, virtual: type[Transport], step: int, tmp_path: Path
) -> None:
    """Weighted by samples, as it was evaluated."""
    data, options = Quadratic([100] * 4, [2, 1, 3, 9], noise=1.0), {"checkpoint": tmp_path}
    before = go(strategy, data, virtual(4), every=1, stop=lambda seen: seen.step >= step, **options)
    after = go(strategy, Quadratic([100] * 2), virtual(2), steps=before.steps, resume=True, **options)
    np.testing.assert_allclose(after.params, before.params, rtol=0, atol=1e-14)


@every_strategy
@every_virtual
def test_from_one_worker_to_four_and_the_data_goes_on(
    strategy: Strategy, virtual: type[Transport], tmp_path: Path
) -> None:
    """A hundred batches in all: forty used by one worker leave fifteen for each of four."""
    options: dict[str, Any] = {"checkpoint": tmp_path, "optimizer": ls.Adam(0.01)}
    go(strategy, Quadratic([100]), virtual(1), steps=40, **options)
    result = go(strategy, Quadratic([25] * 4), virtual(4), resume=True, **options)
    assert [worker.steps for worker in result.workers] == [40 + 15] * 4
    assert result.samples == 2 * 100


@every_strategy
def test_a_damaged_part_is_refused_also_by_others(strategy: Strategy, tmp_path: Path) -> None:
    saved_by_four(strategy, ls.Simulated, tmp_path)
    manifest = (tmp_path / "manifest.json").read_bytes()
    part = tmp_path / json.loads(manifest)["folder"] / "rank-00003.safetensors"
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"rank-00003.safetensors cannot be read as a checkpoint"):
        go(
            strategy,
            Quadratic([100] * 2),
            ls.Simulated(2),
            checkpoint=tmp_path,
            resume=True,
            optimizer=ls.Nesterov(0.05),
        )
    assert (tmp_path / "manifest.json").read_bytes() == manifest
