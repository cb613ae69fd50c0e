"""The share of their time that workers wait: from 0 to 1, whatever happens at synchronization points."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.contract.parametrize import EXAMPLES, MANY, VIRTUAL, every_strategy, go
from tests.contract.problem import Quadratic

import loosestep as ls
from loosestep.runtime.checkpoint.folder import Folder
from loosestep.strategies.base import Strategy
from loosestep.transports.base import Transport
from loosestep.transports.stopwatch import Stopwatch


@pytest.fixture(autouse=True)
def slow_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 alone writes the manifest; meanwhile nobody else may count as waiting."""
    commit = Folder.commit

    def slow(*arguments: Any) -> None:
        time.sleep(0.01)
        commit(*arguments)

    monkeypatch.setattr(Folder, "commit", slow)
    monkeypatch.setattr("os.fsync", lambda file: None)


def shares(result: ls.Result) -> list[float]:
    return [*(seen.waiting_share for seen in result.history), result.waiting_share]


@every_strategy
@pytest.mark.parametrize("kind", MANY)
def test_the_share_of_waiting_is_a_share(strategy: Strategy, kind: type[Transport], tmp_path: Path) -> None:
    data = Quadratic([16, 9, 12], noise=1.0)
    options = {"checkpoint": tmp_path, "checkpoint_every": 4, "every": 2, "evaluate": lambda x: float(x.sum())}
    result = go(strategy, data, kind(3), **options)
    assert len(result.history) > 1
    assert all(0 <= share <= 1 for share in shares(result)), shares(result)
    assert all(0 <= worker.waiting <= result.seconds for worker in result.workers)


@pytest.mark.parametrize("strategy", EXAMPLES, ids=repr)
@pytest.mark.parametrize("virtual", VIRTUAL)
@pytest.mark.parametrize("then", [1, 2, 6])
def test_it_is_one_with_another_number_of_workers(
    strategy: Strategy, virtual: Any, then: int, tmp_path: Path
) -> None:
    """One worker is slow, so that the others wait for most of the time, and those who go on have it all."""
    slow, data = ls.stragglers.SlowWorker(3, 30.0), Quadratic([100] * 6)
    first = go(strategy, data, virtual(4, stragglers=slow), steps=12, checkpoint=tmp_path)
    assert all(0 <= share <= 1 for share in shares(first))
    later = go(strategy, data, virtual(then), steps=20, checkpoint=tmp_path, resume=True)
    assert all(0 <= share <= 1 for share in shares(later)), shares(later)


def test_a_clock_stands_still_for_its_own_worker_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    at = [100.0]
    monkeypatch.setattr("loosestep.transports.stopwatch.perf_counter", lambda: at[0])
    watch = Stopwatch()
    watch.resume(1, 5.0)
    watch.begin()
    at[0] += 2
    watch.pause(0)
    at[0] += 3
    assert [watch.now(rank) for rank in range(3)] == [2, 10, 5]
    watch.proceed(0)
    watch.proceed(2)  # was not paused
    at[0] += 1
    assert [watch.now(rank) for rank in range(3)] == [3, 11, 6]


def test_what_others_wait_while_rank_0_saves_is_not_counted(tmp_path: Path) -> None:
    """Five commits of 10 ms in a run whose steps take next to nothing."""
    data = Quadratic([20] * 4)
    result = go(ls.AllReduceSGD(), data, ls.Threads(4), checkpoint=tmp_path, checkpoint_every=4)
    assert np.median([worker.waiting for worker in result.workers]) <= result.seconds
