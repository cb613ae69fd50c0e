"""One worker's stream of requests: rounds, where all meet, what is saved, and the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.runtime.playing import play, program
from tests.unit.values import drawn

import loosestep as ls
from loosestep.foundation.errors import Diverged
from loosestep.lowering.requests import Drain, Drained
from loosestep.requests import AllReduce, Gradient, Local, Request, Start, Wait
from loosestep.runtime.program import PARAMETERS, Program

STEP = ["Gradient", "Update"]


@drawn
@given(st.integers(1, 5), st.integers(1, 12), st.one_of(st.none(), st.integers(1, 14)))
def test_a_run_makes_the_steps_that_it_is_to_make(period: int, batches: int, steps: int | None) -> None:
    """Until its data ends, or its steps are made; the last round may be short."""
    one = program(ls.LocalSGD(period), batches, steps=steps)
    seen = play(one)
    made = min(batches, steps or batches)
    assert seen.count("Gradient") == seen.count("Update") == made
    assert one.worker.params.tolist() == [-made] * 2
    assert one.worker.round == -(-made // period)


def test_a_round_is_steps_and_what_follows_them() -> None:
    one = program(ls.LocalSGD(2), 4)
    assert play(one).words[:12] == [
        *("RollCall", *STEP, *STEP, "AllReduce"),
        *("RollCall", *STEP, *STEP, "AllReduce"),
    ]


def test_a_worker_without_data_stays_while_others_have_some() -> None:
    one = program(ls.LocalSGD(2), 2, size=2)
    play(one, present=lambda round_: round_ <= 3)
    assert (one.worker.round, one.worker.clock, one.model.steps) == (3, 6, 2)


def test_one_that_does_not_stay_ends_with_its_data() -> None:
    one = program(ls.Downpour(2), 2, size=2)
    seen = play(one, present=lambda round_: True)
    assert seen.count("RollCall") == 0
    assert one.worker.clock == 2


# --- where all meet -----------------------------------------------------------------------------------------


def meetings(one: Program, **options: Any) -> tuple[list[int], list[int]]:
    """Steps of evaluations and of checkpoints."""
    looked: list[int] = []
    saved: list[int] = []

    def evaluate(program: Any, step: int) -> bool:
        looked.append(step)
        return step == options.get("stop")

    def save(program: Any, step: int) -> Any:
        yield from ()
        saved.append(step)
        return False

    one.plan.evaluate, one.plan.save = evaluate, save
    play(one)
    return looked, saved


@drawn
@given(st.integers(1, 4), st.integers(1, 20), st.integers(1, 7), st.integers(1, 7))
def test_all_meet_every_so_many_steps_and_at_the_end(period: int, steps: int, every: int, save_every: int) -> None:
    one = program(ls.LocalSGD(period), 100, steps=steps, every=every, checkpoint_every=save_every)
    looked, saved = meetings(one)
    assert looked == sorted(looked)
    assert saved == sorted(saved)
    assert set(looked) == {*range(every, steps + 1, every), steps}  # the last may be met at twice
    assert set(saved) == {*range(save_every, steps + 1, save_every), steps}


def test_a_meeting_is_not_metered_and_stops_the_clock() -> None:
    paused: list[bool] = []
    one = program(ls.LocalSGD(2), 4, every=2, pause=lambda rank, still: paused.append(still))
    words = play(one).words
    at = words.index("(AllReduce)")
    assert words[:at] == ["RollCall", *STEP, *STEP, "AllReduce"]
    assert words[at : at + 4] == ["(AllReduce)", "(AllReduce)", "(AllReduce)", "RollCall"]
    assert paused == [True, False] * 3


def test_where_an_evaluation_says_stop_it_stops_with_a_checkpoint() -> None:
    one = program(ls.LocalSGD(2), 100, every=2)
    looked, saved = meetings(one, stop=6)
    assert (looked, saved) == ([2, 4, 6], [6])
    assert one.worker.clock == 6


def test_a_halt_stops_at_the_next_step_with_a_checkpoint() -> None:
    one = program(ls.LocalSGD(4), 100)
    saved: list[int] = []

    def save(program: Any, step: int) -> Any:
        yield from ()
        saved.append(step)
        return False

    def interrupt(request: Request, place: int) -> None:
        if one.worker.clock == 5 and isinstance(request, Gradient):
            one.plan.halt()

    one.plan.save = save
    play(one, before=interrupt)
    assert saved == [6]
    assert one.worker.clock == 6


def test_another_worker_may_have_been_farther() -> None:
    """The step of a meeting is that of whoever is farthest."""
    one = program(ls.Downpour(3), 3, size=2)
    saved: list[int] = []

    def farther(request: AllReduce) -> None:
        if request.op == "max":
            request.buf[1] = max(request.buf[1], 9)

    def save(program: Any, step: int) -> Any:
        yield from ()
        saved.append(step)
        return False

    one.plan.save = save
    play(one, farther)
    assert saved == [9]


@pytest.mark.parametrize("failed", [True, False])
def test_all_learn_whether_a_part_could_not_be_saved(failed: bool) -> None:
    told: list[bool] = []

    def commit(program: Any, step: int, failed: bool) -> Iterator[Request]:
        told.append(failed)
        yield from ()

    def others(request: AllReduce) -> None:
        if request.op == "max" and len(request.buf) == 4 and one.last_sync_step:
            request.buf[2] = max(request.buf[2], failed)

    one = program(ls.LocalSGD(2), 2, size=2, commit=commit)
    play(one, others)
    assert told == [failed]


def test_numbers_that_are_not_finite_end_all_alike() -> None:
    one = program(ls.LocalSGD(2), 4, rank=1, size=3)
    one.worker.params[0] = np.nan
    with pytest.raises(Diverged, match=f"{PARAMETERS} of worker 1 are not finite at step 4"):
        play(one)
    other = program(ls.LocalSGD(2), 4, rank=0, size=3)

    def of_worker_2(request: AllReduce) -> None:
        if request.op == "max":
            request.buf[3] = max(request.buf[3], 1.0)

    with pytest.raises(Diverged, match="of worker 2 are not finite at step 4"):
        play(other, of_worker_2)


# --- what is in flight --------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Overlapping(ls.LocalSGD):
    """A round waits for what the round before started."""

    def init(self, worker: Any) -> ls.State:
        return ls.State(request=None, sum=np.zeros(2))

    def round(self, worker: Any, state: Any) -> Iterator[Request]:
        yield Local(2)
        if state.request is not None:
            yield Wait(state.request)
        state.request = AllReduce(state.sum)
        yield Start(state.request)


def test_what_is_in_flight_is_drained_before_it_is_saved_and_waited_for_once() -> None:
    one = program(Overlapping(2), 6, checkpoint_every=2)
    seen = play(one)
    drains = [request for request in seen.requests if isinstance(request, Drain)]
    waits = [request for request in seen.requests if isinstance(request, Wait)]
    assert seen.count("(Drain)") == 3
    assert len({drain.request for drain in drains}) == 3
    assert [type(wait.request) for wait in waits] == [Drained, Drained]
    assert [wait.request for wait in waits] == [drain.drained for drain in drains[:2]]


def test_without_a_checkpoint_it_is_waited_for_itself() -> None:
    seen = play(program(Overlapping(2), 6))
    waits = [request for request in seen.requests if isinstance(request, Wait)]
    starts = [request for request in seen.requests if isinstance(request, Start)]
    assert [wait.request for wait in waits] == [start.request for start in starts[:2]]


# --- resuming, stages, the end ------------------------------------------------------------------------------


@pytest.mark.parametrize("done", [1, 3])
def test_a_run_goes_on_inside_a_round(done: int) -> None:
    one = program(ls.LocalSGD(4), 8 - done)
    one.progress, one.worker.clock, one.worker.round = done, done, 1
    seen = play(one)
    assert seen.words[0] == "Gradient", "nobody is asked about a round that had begun"
    assert seen.count("Gradient") == 8 - done
    assert one.worker.round == 2


@dataclass(frozen=True, repr=False)
class Several(ls.LocalSGD):
    """Two stages, the first of one epoch."""

    @property
    def stages(self) -> tuple[tuple[ls.Strategy, float | None], ...]:
        return (ls.LocalSGD(2), 1.0), (ls.LocalSGD(3), None)


def test_the_next_stage_begins_where_the_first_ends() -> None:
    """A round in which it ends is left there."""
    one = program(Several(), 100, steps=9, steps_per_epoch=3)
    rounds: list[int] = []

    def note(request: Request, place: int) -> None:
        if isinstance(request, AllReduce) and request.op == "mean" and not one.worker.unmetered:
            rounds.append(one.worker.clock)

    play(one, before=note)
    assert one.part == 1
    assert rounds == [2, 3, 6, 9], "a period of 2, the consensus of the stage, and periods of 3"


@pytest.mark.parametrize("size", [1, 2])
def test_at_the_end_workers_that_live_apart_share_the_consensus(size: int) -> None:
    one = program(ls.LocalSGD(2), 2, size=size)
    seen = play(one)
    assert seen.words[-3:] == ["(Broadcast)", "(AllReduce)", "(AllReduce)"] or size == 1
    assert ("(Broadcast)" in seen.words) == (size > 1)


def test_the_distance_of_replicas_is_from_their_mean() -> None:
    one = program(ls.LocalSGD(2), 2, size=2)

    def the_other_is_at_zero(request: AllReduce) -> None:
        if request.op == "mean":
            request.buf[:] /= 2

    one.worker.params[:] = 8  # -2 by its steps, 3 by the round's mean
    play(one, the_other_is_at_zero)
    assert one.worker.params.tolist() == [3, 3]
    assert one.distance[0] == pytest.approx((1.5**2 + 1.5**2) / 2)
