"""`run` and its job: what is agreed, evaluated, reported and given back, over a transport that a test answers."""

from __future__ import annotations

from collections.abc import Iterator
from signal import SIGTERM
from typing import Any

import numpy as np
import pytest
from tests.unit.sessions import Fake, FakeSession

import loosestep as ls
from loosestep.foundation.errors import Mismatch
from loosestep.requests import Sleep
from loosestep.runtime.run import run


def go(session: FakeSession | None = None, steps: int = 4, **options: Any) -> ls.Result:
    """A worker whose gradient is 1, and whose loss is the number of the batch."""

    def batches(rank: int, size: int) -> Iterator[Any]:
        return iter([np.full((2, 1), float(number)) for number in range(1, steps + 1)])

    def gradient(x: Any, batch: Any) -> Any:
        return float(batch[0, 0]), np.ones_like(x)

    how = {"strategy": ls.LocalSGD(2), "optimizer": ls.SGD(1.0), **options}
    return run(how.pop("strategy"), gradient, np.zeros((2, 1)), batches, on=Fake(session or FakeSession()), **how)


def test_the_result_is_what_the_worker_did() -> None:
    result = go()
    assert result.params.tolist() == [[-4], [-4]]
    assert (result.steps, result.samples, result.loss) == (4, 8, 2.5)
    assert (result.messages, result.bytes_sent, result.consensus_distance) == (0, 0, 0.0)
    assert [worker.rank for worker in result.workers] == [0]
    assert [seen.step for seen in result.history] == [4]


def test_losses_are_those_since_the_evaluation_before() -> None:
    seen: list[ls.Progress] = []
    result = go(every=2, callback=seen.append, evaluate=lambda x: float(x.sum()))
    assert [(each.step, each.loss, each.samples, each.metrics) for each in seen] == [
        (2, 1.5, 4, {"value": -4.0}),
        (4, 3.5, 8, {"value": -8.0}),
    ]
    assert result.history == tuple(seen)
    assert result.metrics == {"value": -8.0}


def test_stop_ends_it() -> None:
    result = go(steps=10, every=2, stop=lambda progress: progress.step >= 4)
    assert (result.steps, len(result.history)) == (4, 2)


def test_a_rate_is_scaled_by_the_number_of_workers() -> None:
    assert go(scale_rate="linear").params.tolist() == [[-4], [-4]]
    assert go(FakeSession(4), scale_rate="linear").params.tolist() == [[-16], [-16]]
    assert go(FakeSession(4), scale_rate="sqrt").params.tolist() == [[-8], [-8]]


def test_waiting_is_of_the_workers_time() -> None:
    class Waits(ls.LocalSGD):
        def round(self, worker: Any, state: Any) -> Any:
            yield Sleep(3.0)
            yield from super().round(worker, state)

    session = FakeSession()
    result = go(session, strategy=Waits(2))
    assert session.time.now == 6.0
    assert result.seconds == 6.0
    assert result.waiting_share == 1.0


def test_all_processes_are_asked_for_the_same_run() -> None:
    session = FakeSession(2)
    session.surveys["run"] = lambda mine: [mine, {**mine, "seed": 1}]
    with pytest.raises(Mismatch, match="^worker 1 has seed 1, worker 0 has seed 0$"):
        go(session)
    (left,) = [each for each in session.log if each[0] == "leave"]
    assert isinstance(left[1], Mismatch), "the session is left, and hears why"


def test_numbers_of_other_processes_are_added() -> None:
    session = FakeSession(2)
    session.surveys["totals"] = lambda mine: [mine, {**mine, "samples": 100, "steps": 9, "bytes_sent": 0}]
    result = go(session)
    assert (result.samples, result.steps) == (108, 9)
    sent = 2 * (8 + 8)  # two rounds, each two messages of a chunk of one number
    assert result.bytes_sent == sent // 2


def test_a_signal_to_any_process_interrupts_all() -> None:
    session = FakeSession(2)
    session.surveys["signal"] = lambda mine: [mine, int(SIGTERM)]
    with pytest.raises(ls.Interrupted) as ended:
        go(session)
    assert ended.value.signal == SIGTERM
    assert ended.value.result.steps == 4
    assert session.log[-1] == ("leave", None)


@pytest.mark.parametrize("at", range(1, 5))
def test_whatever_ends_it_the_session_is_left_with_the_error(at: int) -> None:
    session = FakeSession()

    def evaluate(x: Any) -> float:
        if -x[0, 0] == at:
            raise ZeroDivisionError
        return 0.0

    with pytest.raises(ZeroDivisionError):
        go(session, every=1, evaluate=evaluate)
    ((_, error),) = [each for each in session.log if each[0] == "leave"]
    assert isinstance(error, ZeroDivisionError)


def test_no_data_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="^the data is empty: no worker got a single batch$"):
        go(steps=0)
    session = FakeSession(2)
    session.surveys["no data"] = lambda mine: [mine, False]
    assert go(session, steps=0).steps == 0, "another worker has some"


def test_a_strategy_that_shares_memory_needs_workers_that_do() -> None:
    session = FakeSession(2)
    session.hosted = False
    with pytest.raises(
        ValueError, match=r"^Hogwild\(\) needs workers that share memory, which those of Fake\(\) do"
    ):
        go(session, strategy=ls.Hogwild())
