"""What every strategy promises of evaluations, of `stop` and of the user's functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.contract.parametrize import (
    EXAMPLES,
    MANY,
    every_strategy,
    every_synchronous,
    every_virtual,
    go,
)
from tests.contract.problem import Quadratic, facts

import loosestep as ls
from loosestep.foundation.errors import WorkerFailed
from loosestep.strategies.base import Strategy
from loosestep.transports.base import Transport


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk is tested with checkpoints; here it would only take time."""
    monkeypatch.setattr("os.fsync", lambda file: None)


@every_strategy
@pytest.mark.parametrize("kind", MANY)
def test_evaluations_come_every_so_many_steps_and_at_the_end(strategy: Strategy, kind: type[Transport]) -> None:
    seen: list[ls.Progress] = []
    result = go(
        strategy, Quadratic([20] * 3), kind(3), every=5, evaluate=lambda x: {"first": x[0]}, callback=seen.append
    )
    steps = [progress.step for progress in seen]
    assert tuple(seen) == result.history
    assert steps == sorted(set(steps)), "no step twice"
    assert result.steps == 20 <= steps[-1], "a synchronous round goes on without data"
    assert len(steps) >= 2
    assert all(set(progress.metrics) == {"first"} for progress in seen)
    assert result.metrics == {"first": result.params[0]}
    assert np.isfinite([progress.loss for progress in seen]).all()


@every_strategy
@pytest.mark.parametrize("kind", MANY)
def test_evaluating_changes_nothing(strategy: Strategy, kind: type[Transport]) -> None:
    if not strategy.synchronous and not kind.virtual:
        pytest.skip("asynchronous in real time: no two runs are alike")
    data = Quadratic([20, 14, 17], noise=1.0)
    plain = go(strategy, data, kind(3))
    watched = go(strategy, data, kind(3), every=3, evaluate=lambda x: 0.0)
    assert watched.params.tobytes() == plain.params.tobytes()
    assert watched.bytes_sent == plain.bytes_sent


@every_synchronous
@every_virtual
def test_checkpoints_take_no_virtual_time(strategy: Strategy, virtual: type[Transport], tmp_path: Path) -> None:
    """An asynchronous method with a center must wait until all has arrived there."""
    on = virtual(4, stragglers=ls.stragglers.LogNormal(0.5))
    data = Quadratic([24] * 4)
    plain, saved = go(strategy, data, on), go(strategy, data, on, checkpoint=tmp_path, checkpoint_every=3)
    assert saved.seconds == plain.seconds
    assert facts(saved) == facts(plain)


@pytest.mark.parametrize("strategy", EXAMPLES, ids=repr)
@every_virtual
@pytest.mark.parametrize("many", [128, pytest.param(1024, marks=pytest.mark.slow)])
def test_many_imaginary_workers(strategy: Strategy, virtual: type[Transport], many: int) -> None:
    if any(len(value.row(0, many, 0)) > 10 for value in vars(strategy).values() if isinstance(value, ls.Topology)):
        pytest.skip("a million messages a round")
    assert go(strategy, Quadratic([3] * many), virtual(many), seed=7).steps == 3
    few = Quadratic([3] * 32)  # all at the same times: ties, too, are the same each time
    first, second = (facts(go(strategy, few, virtual(32), seed=7)) for _ in range(2))
    assert first == second


@every_strategy
@every_virtual
def test_evaluating_takes_no_virtual_time(strategy: Strategy, virtual: type[Transport]) -> None:
    on = virtual(4, stragglers=ls.stragglers.LogNormal(0.5))
    data = Quadratic([24] * 4)
    plain = go(strategy, data, on)
    watched = go(strategy, data, on, every=1, evaluate=lambda x: 0.0)
    assert watched.seconds == plain.seconds
    assert [worker.waiting for worker in watched.workers] == [worker.waiting for worker in plain.workers]


@every_strategy
@pytest.mark.parametrize("kind", MANY)
def test_stop_ends_all_workers_at_one_step(strategy: Strategy, kind: type[Transport]) -> None:
    result = go(strategy, Quadratic([200] * 3), kind(3), every=4, stop=lambda progress: progress.step >= 8)
    if strategy.synchronous or kind.virtual:  # else the others may be through before rank 0 looks
        assert max(worker.steps for worker in result.workers) < 200
    if strategy.synchronous:
        assert len({worker.steps for worker in result.workers}) == 1
    assert result.history[-1].step == result.steps


@every_strategy
@pytest.mark.parametrize("kind", MANY)
def test_what_the_user_gives_raises_in_the_users_words(strategy: Strategy, kind: type[Transport]) -> None:
    def bad(x: Any) -> float:
        raise KeyError("accuracy")

    with pytest.raises(WorkerFailed, match=r"worker 0 failed in round .* KeyError: 'accuracy'") as caught:
        go(strategy, Quadratic([10] * 3), kind(3), every=2, evaluate=bad)
    assert isinstance(caught.value.__cause__, KeyError)
