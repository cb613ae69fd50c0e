"""Calls of all workers: what each returns, where each may be made, and what rank 0 does once for all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.unit.runtime.agreement.loops import Workers, all_of, alone, tried
from tests.unit.sessions import FakeSession

import loosestep as ls
from loosestep.foundation.errors import Diverged, Mismatch, PeerFailed
from loosestep.runtime.agreement.together import attempt
from loosestep.runtime.agreement.values import unpacked

COLLECTIVE, ONE_SIDED = ls.LocalSGD(4), ls.EASGD(3)
both_sorts = pytest.mark.parametrize("strategy", [COLLECTIVE, ONE_SIDED], ids=repr)


@contextmanager
def consensus_of(worker: Workers) -> Iterator[Any]:
    yield worker.loop.consensus().tolist()


def once(worker: Workers, action: Any, consensus: Any = None) -> Any:
    return worker._once_everywhere(consensus or (lambda: consensus_of(worker)), action)


@both_sorts
def test_all_agree_whatever_the_strategy(strategy: ls.Strategy) -> None:
    def run(worker: Workers) -> Any:
        worker.steps(2)
        time.sleep(0.02 * worker.rank)
        found = [worker.mean(worker.rank), worker.gather({worker.rank}), worker.agree(["of", worker.rank])]
        worker.barrier()
        worker.steps(1)
        return [*found, worker.worker.calling]

    assert all_of(3, run, strategy) == [[1.0, [{0}, {1}, {2}], ["of", 0], ""]] * 3


def test_rank_zero_gets_its_own_object_back_and_the_others_a_copy_of_it() -> None:
    given = [object_of_rank() for _ in range(2)]
    found = all_of(2, lambda worker: worker.agree(given[worker.rank]))
    assert found[0] is given[0]
    assert found[1] == given[0]
    assert found[1] is not given[0]


def object_of_rank() -> dict[str, list[int]]:
    return {"rows": [1, 2]}


def test_what_others_pass_to_agree_is_not_looked_at() -> None:
    found = all_of(2, lambda worker: worker.agree(threading.Lock() if worker.rank else "plain"))
    assert found == ["plain"] * 2


def test_a_barrier_lets_nobody_on_before_all_have_come() -> None:
    came: list[int] = []

    def run(worker: Workers) -> Any:
        time.sleep(0.03 * worker.rank)
        came.append(worker.rank)
        worker.barrier()
        return sorted(came)

    assert all_of(3, run) == [[0, 1, 2]] * 3


def test_different_calls_raise_alike_and_name_both() -> None:
    def run(worker: Workers) -> Any:
        return worker.barrier() if worker.rank else worker.mean(1.0)

    one, other = all_of(2, run, errors=True)
    assert type(one) is type(other) is Mismatch
    assert str(one) == str(other)
    words = "worker 0 is in mean() after step 0; worker 1 is in barrier() after step 0: all workers must make the"
    assert str(one).startswith(words)


CALLS = [
    *(lambda one: one.barrier(), lambda one: one.mean(1.0), lambda one: one.gather(1), lambda one: one.agree(1)),
    lambda one: once(one, len),
]
each_call = pytest.mark.parametrize(
    ("call", "name"), list(zip(CALLS, ("barrier", "mean", "gather", "agree", "once"), strict=True))
)


@each_call
def test_after_the_end_and_inside_a_step_a_call_is_refused(call: Any, name: str) -> None:
    worker = alone(FakeSession(2))
    worker.loop.begun = True
    with pytest.raises(RuntimeError, match=rf"^{name}\(\) belongs between steps: after step\(\), before the next"):
        call(worker)
    worker.loop.begun, worker.loop.over = False, True
    with pytest.raises(RuntimeError, match=rf"^the run has ended: {name}\(\) belongs inside the `with opt"):
        call(worker)
    assert worker.worker.calling == ""


@each_call
def test_a_call_does_not_wait_for_those_that_are_lost(call: Any, name: str) -> None:
    session = FakeSession(2)
    worker = alone(session)
    session.endpoint.failed = PeerFailed(1, "gone")
    before = list(session.endpoint.performed)
    with pytest.raises(PeerFailed, match="gone"):
        call(worker)
    assert session.endpoint.performed == before


@each_call
def test_one_worker_alone_gets_its_own(call: Any, name: str) -> None:
    wanted = {"barrier": None, "mean": 1.0, "gather": [1], "agree": 1, "once": 2}
    assert call(alone(FakeSession())) == wanted[name]


# --- once, everywhere --------------------------------------------------------------------------------------


@both_sorts
def test_rank_zero_acts_once_and_all_get_its_answer(strategy: ls.Strategy) -> None:
    acted: list[int] = []

    def run(worker: Workers) -> Any:
        worker.steps(4)

        def action(params: Any) -> Any:
            acted.append(worker.rank)
            return {"rank": worker.rank, "size": len(params)}

        return once(worker, action)

    assert all_of(2, run, strategy) == [{"rank": 0, "size": 2}] * 2
    assert acted == [0]


def test_all_make_a_collective_consensus_and_only_rank_zero_a_one_sided_one() -> None:
    for strategy, wanted in ((COLLECTIVE, [0, 1]), (ONE_SIDED, [0])):
        made: list[int] = []

        @contextmanager
        def noted(worker: Workers, made: list[int] = made) -> Iterator[None]:
            made.append(worker.rank)
            yield

        all_of(2, lambda worker, noted=noted: once(worker, str, lambda: noted(worker)), strategy)
        assert sorted(made) == wanted


def test_an_error_of_rank_zero_is_its_own_and_the_others_are_told_in_words() -> None:
    def run(worker: Workers) -> Any:
        error = tried(lambda: once(worker, lambda params: {}["rows"]))
        return type(error), str(error), worker.mean(worker.rank)

    told = "once() failed on worker 0: KeyError: 'rows'"
    assert all_of(2, run) == [(KeyError, "'rows'", 0.5), (RuntimeError, told, 0.5)]


def test_an_answer_that_cannot_travel_is_an_error_on_all() -> None:
    def run(worker: Workers) -> Any:
        error = tried(lambda: once(worker, lambda params: threading.Lock()))
        return type(error), str(error)

    (kind, words), other = all_of(2, run)
    assert (kind, other) == (TypeError, (RuntimeError, f"once() failed on worker 0: TypeError: {words}"))


def test_a_one_sided_consensus_that_has_diverged_is_told_by_rank_zero() -> None:
    def diverged(worker: Workers) -> Any:
        raise Diverged(worker.rank, 3, what="the consensus")

    def run(worker: Workers) -> Any:
        error = tried(lambda: once(worker, len, lambda: diverged(worker)))
        return type(error), str(error)

    words = str(Diverged(0, 3, what="the consensus"))
    told = f"once() failed on worker 0: {words}"
    assert all_of(2, run, ONE_SIDED) == [(Diverged, words), (RuntimeError, told)]
    assert [kind for kind, _ in all_of(2, run, COLLECTIVE)] == [Diverged, Diverged], "all have found it"


def test_an_attempt_writes_its_answer_or_its_error_for_the_others() -> None:
    told: list[Any] = [None, None]
    assert attempt(lambda: (1, 2), told) == (1, 2)
    assert (unpacked(told[0]), told[1]) == ((1, 2), None)
    error = attempt(lambda: [][1], told)
    assert (type(error), told) == (IndexError, [None, "IndexError: list index out of range"])

    def lost() -> None:
        raise PeerFailed(1, "gone")

    with pytest.raises(PeerFailed):
        attempt(lost, told)


# --- the end -----------------------------------------------------------------------------------------------


def test_stop_makes_stopping_true_on_all_after_one_step() -> None:
    def run(worker: Workers) -> Any:
        while not worker.stopping and worker.worker.clock < 900:
            if worker.rank == 1 and worker.worker.clock == 3:
                worker.stop()
            worker.steps(1)
            time.sleep(1e-3)  # a step takes time: the word of a stop comes in a thread of its own
        return worker.worker.clock

    one, other = all_of(2, run)
    assert one == other
    assert 4 <= one < 900
