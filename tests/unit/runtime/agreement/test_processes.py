"""Workers of two processes each, in threads: all four processes get one answer, and errors name the process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import pytest
from tests.mpi import wires
from tests.unit import in_threads
from tests.unit.runtime.agreement.loops import begun, tried

import loosestep as ls
from loosestep.foundation.errors import CheckpointError, Diverged, Mismatch
from loosestep.runtime.agreement.processes import AgreementOfProcesses

GROUPS, PLACES = 2, 2
SIZE = GROUPS * PLACES


class Exchange:
    """What the processes of one worker give each other."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(PLACES, timeout=20)
        self.given: list[Any] = [None] * PLACES

    def at(self, place: int) -> Callable[[Any], list[Any]]:
        def gather(mine: Any) -> list[Any]:
            self.given[place] = deepcopy(mine)
            self.barrier.wait()
            found = list(self.given)
            self.barrier.wait()
            return found

        return gather


def all_of(action: Callable[[Any], Any], strategy: ls.Strategy | None = None) -> list[Any]:
    """What the action returns in each process, by number; it is given the calls of all."""
    partners = [in_threads.transports(GROUPS) for _ in range(PLACES)]
    exchanges = [Exchange() for _ in range(GROUPS)]

    def run(group: int, place: int) -> Any:
        with begun(partners[place][group], strategy) as worker:
            worker.agreement = AgreementOfProcesses(  # type: ignore[assignment]
                worker.agreement, exchanges[group].at(place), place, PLACES
            )
            worker.stop_at.largest = worker.agreement.largest  # type: ignore[attr-defined]
            return action(worker)

    found = wires.together([partial(run, *divmod(number, PLACES)) for number in range(SIZE)], 20)
    failed = [each for each in found if isinstance(each, BaseException)]
    if failed:
        raise failed[0]
    return found


def test_answers_are_of_all_processes_worker_by_worker() -> None:
    def action(one: Any) -> Any:
        number = one.agreement.rank
        one.barrier()
        return number, one.gather(number), one.agree(number), one.mean(float(2**number))

    assert all_of(action) == [(number, list(range(SIZE)), 0, 15 / 4) for number in range(SIZE)]


def test_a_mean_has_the_same_bits_everywhere_and_is_of_all_weights() -> None:
    numbers = np.random.default_rng(0).standard_normal((SIZE, 5))

    def action(one: Any) -> Any:
        number = one.agreement.rank
        return one.mean(numbers[number], weight=float(number))

    found = all_of(action)
    assert len({each.tobytes() for each in found}) == 1
    np.testing.assert_allclose(found[0], np.average(numbers, axis=0, weights=range(SIZE)))


def test_what_processes_must_have_alike_is_compared_within_workers_too() -> None:
    def action(one: Any) -> Any:
        number = one.agreement.rank
        told = tried(lambda: one.mean(1.0 if number % PLACES else np.ones(2)))
        return (
            type(told),
            str(told),
            one.agreement.meet("x", "same"),
            one.agreement.meet("x", str(number % PLACES)),
        )

    words = (
        "mean() was given x as an array of shape (2,) by process 0 of worker 0, "
        "and x as a number by process 1 of worker 0"
    )
    assert all_of(action) == [(Mismatch, words, True, False)] * SIZE


def test_processes_of_a_worker_in_different_calls_are_named() -> None:
    def action(one: Any) -> Any:
        place = one.agreement.rank % PLACES
        return str(tried(one.barrier if place else lambda: one.gather(1)))

    for number, told in enumerate(all_of(action)):
        worker = number // PLACES
        assert told.startswith(
            f"process 0 of worker {worker} is in gather() after step 0; process 1 of worker {worker} is in barr"
        )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("full"), "process 1 of worker 1: OSError: full (in save())"),
        (CheckpointError("x"), "process 1 of worker 1: x"),
    ],
)
def test_what_fails_on_one_process_fails_on_all(error: Exception, words: str) -> None:
    def fails() -> None:
        raise error

    def action(one: Any) -> Any:
        number = one.agreement.rank
        told = tried(lambda: one.agreement.all_or_none("save()", fails if number == 3 else lambda: None))
        return str(told), one.agreement.all_or_none("save()", lambda: number)

    found = all_of(action)
    own = str(error) if isinstance(error, OSError) else words
    assert found == [(words, [0, 1, 2, 3])] * 3 + [(own, [0, 1, 2, 3])]


def test_a_worker_that_diverged_is_named_by_its_own_number() -> None:
    def diverged() -> None:
        raise Diverged(1, 7, what="parameters")

    def action(one: Any) -> Any:
        number = one.agreement.rank
        return str(tried(lambda: one.agreement.all_or_none("save()", diverged if number == 3 else lambda: None)))

    assert set(all_of(action)) == {str(Diverged(1, 7, what="parameters"))}


@pytest.mark.parametrize("strategy", [ls.LocalSGD(4), ls.EASGD(3)], ids=repr)
@pytest.mark.parametrize("who", [0, 3])
def test_all_processes_stop_after_one_step_when_one_asks(strategy: ls.Strategy, who: int) -> None:
    def action(one: Any) -> int:
        while not one.stopping and one.worker.clock < 900:
            if one.worker.clock == 5 and one.agreement.rank == who:
                one.stop()
            one.steps(1)
        return int(one.worker.clock)

    found = all_of(action, strategy)
    assert found == [found[0]] * SIZE
    assert 6 <= found[0] < 900
