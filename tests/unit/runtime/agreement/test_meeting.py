"""Meetings: all workers are in the same call at the same step, or all say where each is."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np
import pytest
from tests.unit.runtime.agreement.loops import Workers, all_of, alone, tried
from tests.unit.sessions import FakeSession

import loosestep as ls
from loosestep.foundation.errors import CheckpointError, Damaged, Diverged, Mismatch, PeerFailed
from loosestep.requests import AllReduce
from loosestep.runtime.agreement.meeting import MARK

ADVICE = (
    ": all workers must make the same calls, each at one step and none under `if optimizer.rank == 0`; "
    "optimizer.shard() gives all as many steps"
)
PLACES = ["is in barrier() after step 3", "is in mean() after step 3"]


def with_other(*words: float) -> tuple[Workers, list[str]]:
    """A worker whose other one meets with these words, and what it does, in order."""
    session, log = FakeSession(2), []
    worker = alone(session)

    def reduce(request: AllReduce) -> None:
        log.append(request.op)
        other = np.array(words, float)
        np.maximum(request.buf, np.concatenate([other, -other]), out=request.buf)

    session.reduce = reduce
    worker.loop.connection.handlers[AllReduce] = reduce
    worker.agreement.where = lambda: [log.append("where"), PLACES][1]
    return worker, log


def test_those_in_the_same_call_go_on_and_know_whether_the_details_are_the_same() -> None:
    here = crc32(b"mean()")
    worker, log = with_other(MARK, here, 0, crc32(b"a number"))
    assert worker.agreement.meet("mean()", "a number") is True
    assert worker.agreement.meet("mean()", "an array") is False
    assert log == ["max", "max"]


@pytest.mark.parametrize(
    "words",
    [(MARK, crc32(b"barrier()"), 0, 0), (MARK, crc32(b"mean()"), 1, 0), (1.0, crc32(b"mean()"), 0, 0)],
    ids=["another call", "another step", "another collective"],
)
def test_what_is_no_meeting_of_all_says_where_each_is_and_lets_all_read_it(words: Any) -> None:
    worker, log = with_other(*words)
    with pytest.raises(Mismatch) as raised:
        worker.agreement.meet("mean()")
    assert str(raised.value) == f"worker 0 {PLACES[0]}; worker 1 {PLACES[1]}{ADVICE}"
    assert log == ["max", "where", "max"]


def test_a_sum_is_not_taken_for_a_meeting_though_it_is_the_same_for_all() -> None:
    worker, _ = with_other()

    def double(request: AllReduce) -> None:
        request.buf[:] *= 2

    worker.loop.connection.handlers[AllReduce] = double
    with pytest.raises(Mismatch, match="worker 1 is in mean"):
        worker.agreement.meet("mean()")


def test_one_worker_meets_nobody() -> None:
    session = FakeSession()
    worker = alone(session)
    assert worker.agreement.meet("mean()", "a") is True
    assert session.endpoint.performed == []


def test_another_step_is_no_mismatch_where_workers_do_not_keep_step() -> None:
    def run(worker: Workers) -> Any:
        worker.steps(1 + worker.rank)
        worker.barrier()
        return worker.worker.clock

    assert all_of(2, run, ls.EASGD(3)) == [1, 2]
    found = all_of(2, run, ls.LocalSGD(4), errors=True)
    assert [type(each) for each in found] == [Mismatch, Mismatch]
    places = (f"worker {rank} is in barrier() after step {1 + rank}" for rank in (0, 1))
    assert str(found[0]) == str(found[1]) == "; ".join(places) + ADVICE


def test_answers_are_in_rank_order_and_the_next_ones_do_not_overwrite_them() -> None:
    def run(worker: Workers) -> Any:
        return [worker.agreement.all_gather("a()", [worker.rank, count]) for count in range(5)]

    assert all_of(3, run) == [[[[rank, count] for rank in range(3)] for count in range(5)]] * 3


def test_a_call_names_itself_to_the_others_and_a_call_in_it_comes_back_to_it() -> None:
    agreement = alone(FakeSession()).agreement
    with agreement.call("outer()"):
        with agreement.call("inner()"):
            assert agreement.worker.calling == "inner()"
        assert agreement.worker.calling == "outer()"
    assert (agreement.worker.calling, agreement.depth) == ("", 0)
    with pytest.raises(Mismatch), agreement.call("mean()"):
        raise Mismatch("apart")
    assert agreement.worker.calling == "mean()", "the others may still ask"
    with pytest.raises(KeyError), agreement.call("mean()"):
        raise KeyError
    assert agreement.worker.calling == ""


def test_an_error_is_explained_only_by_places_that_differ() -> None:
    agreement, error = alone(FakeSession(2)).agreement, Mismatch("plain")
    agreement.where = lambda: PLACES[:1] * 2
    assert agreement.explained(error) is error
    agreement.where = lambda: PLACES
    assert str(agreement.explained(error)) == f"worker 0 {PLACES[0]}; worker 1 {PLACES[1]}{ADVICE}"


def test_an_error_is_explained_by_that_of_a_worker_which_has_left_with_one() -> None:
    agreement, error = alone(FakeSession(2)).agreement, Mismatch("plain")
    told = f"worker 0 {PLACES[0]}; worker 1 {PLACES[1]}{ADVICE}"

    def gone(words: str) -> Any:
        raise PeerFailed(1, words)

    agreement.where = lambda: gone(f"at step 3: Mismatch: {told}")
    assert str(agreement.explained(error)) == told
    agreement.where = lambda: gone("at step 3: KeyError: 'rows'")
    assert agreement.explained(error) is error


# --- all or none -------------------------------------------------------------------------------------------


def outcomes(*actions: Any) -> list[Any]:
    """What `all_or_none` gives on each worker, then whether they still agree."""

    def run(worker: Workers) -> Any:
        found = tried(lambda: worker.agreement.all_or_none("save()", actions[worker.rank]))
        assert worker.gather(worker.rank) == list(range(len(actions)))
        return found if isinstance(found, list) else (type(found), str(found))

    return all_of(len(actions), run)


def raising(error: Exception) -> Any:
    def action() -> None:
        raise error

    return action


def test_where_all_succeed_all_get_the_answers_in_rank_order() -> None:
    assert outcomes(lambda: 1, lambda: [2]) == [[1, [2]]] * 2


def test_the_first_workers_checkpoint_error_is_raised_by_all_alike() -> None:
    found = outcomes(int, raising(CheckpointError("no space")), raising(Damaged("torn")))
    assert found == [(CheckpointError, "worker 1: no space")] * 3


def test_divergence_is_raised_by_all_alike() -> None:
    wanted = Diverged(1, 7, what="the moments")
    found = outcomes(int, raising(wanted))
    assert found == [(Diverged, str(wanted))] * 2
    assert "the moments of worker 1 are not finite at step 7" in str(wanted)


def test_another_error_is_its_makers_own_and_the_others_are_told_its_kind() -> None:
    told = "worker 1: KeyError: 'rows' (in save())"
    assert outcomes(int, raising(KeyError("rows"))) == [(CheckpointError, told), (KeyError, "'rows'")]


def test_one_worker_raises_its_own_error() -> None:
    error = CheckpointError("no space")
    agreement = alone(FakeSession()).agreement
    assert tried(lambda: agreement.all_or_none("save()", raising(error))) is error
    assert agreement.all_or_none("save()", lambda: 3) == [3]


def test_nobody_is_told_by_a_worker_that_has_lost_another() -> None:
    session = FakeSession(2)
    agreement, error = alone(session).agreement, PeerFailed(1, "gone")
    before = list(session.endpoint.performed)
    assert tried(lambda: agreement.all_or_none("save()", raising(error))) is error
    assert session.endpoint.performed == before
