"""The staging area by a clock that a test sets: who waits, who is left out, and who prepares."""

from __future__ import annotations

import pytest
from tests.unit.clock import Clock

from loosestep.data.coordinated.board import DEAD, HERE, NEXT, PID, STATE, Board, Closed, LeftOut
from loosestep.data.shared_memory import Segment


def boards(jobs: int = 2, slots: int = 2, total: int = 12, deadline: float = 10.0) -> tuple[list[Board], Clock]:
    """The boards of all jobs, in this process, on one clock."""
    clock, segment = Clock(), Board.make(jobs, slots, 64, total)
    made = [Board(segment, job, deadline, clock.monotonic, clock.sleep) for job in range(jobs)]
    for board in made:
        board.attend()
    return made, clock


def nothing() -> None:
    pass


def test_a_slot_is_free_when_all_have_taken_what_was_in_it() -> None:
    (one, two), clock = boards()
    one.stage(0, b"zero")
    two.stage(1, b"one")
    assert (one.take(0, nothing), two.take(0, nothing), one.take(1, nothing)) == (b"zero", b"zero", b"one")

    def meanwhile() -> None:
        assert not one.is_staged(3)  # while the other has not taken batch 1
        if clock.naps > 5:
            two.take(1, nothing)

    one.stage(2, b"two")  # at once: both have taken batch 0
    clock.meanwhile = meanwhile
    one.stage(3, b"three")
    assert clock.naps > 5
    assert two.take(2, nothing) == b"two"


def test_a_batch_is_staged_once() -> None:
    (one, two), _ = boards()
    one.stage(0, b"first")
    two.stage(0, b"second")
    assert one.take(0, nothing) == b"first"
    assert one.stats().prepared == 1


def test_a_job_that_takes_nothing_is_left_out_and_the_others_go_on() -> None:
    (one, two), clock = boards()
    for number in (0, 1):
        one.stage(number, b"%d" % number)
        one.take(number, nothing)
    began = clock.now
    one.stage(2, b"2")
    assert clock.now - began == pytest.approx(10.0, abs=0.1)
    assert one.take(2, nothing) == b"2"
    with pytest.raises(LeftOut, match="job 1 showed no sign of life for 10 s"):
        two.take(0, nothing)
    with pytest.raises(LeftOut):
        two.stage(3, b"3")


def test_a_job_that_prepares_nothing_is_left_out_and_replaced() -> None:
    (one, two), clock = boards()
    one.stage(0, b"0")
    one.take(0, nothing)
    two.take(0, nothing)

    def meanwhile() -> None:
        if one.take_over(1):
            one.stage(1, b"by one")

    assert one.take(1, meanwhile) == b"by one"
    assert one.shares() == [0, 1]
    assert one.stats().taken_over == 1
    assert clock.now >= 1010
    assert two.jobs[1, STATE] != HERE


def test_who_waits_for_a_slot_is_not_blamed_for_the_batch() -> None:
    """Job 1 prepares batch 3, but job 0 has not taken batch 1, whose slot it needs: job 0 is left out."""
    (zero, one, two), _ = boards(jobs=3)
    for number in (0, 1):
        zero.stage(number, b"x")
    zero.take(0, nothing)
    for board in (one, two):
        board.take(0, nothing)
        board.take(1, nothing)
    two.stage(2, b"x")
    two.take(2, nothing)

    def meanwhile() -> None:
        if zero.jobs[0, STATE] != HERE:
            one.stage(3, b"three")

    assert two.take(3, meanwhile) == b"three"
    assert [int(state) == HERE for state in zero.jobs[:, STATE]] == [False, True, True]


def test_a_job_that_is_slow_but_goes_on_is_waited_for() -> None:
    (one, two), clock = boards(slots=3)
    for number in (0, 1, 2):
        one.stage(number, b"x")
        one.take(number, nothing)
    began = clock.now
    clock.meanwhile = lambda: slow_steps(two, clock.now - began)
    one.stage(5, b"5")  # needs batch 2 to have been taken by both
    assert clock.now - began > 24
    assert two.jobs[1, STATE] == HERE


def slow_steps(job: Board, seconds: float) -> None:
    """Take a batch every 8 seconds."""
    if seconds > 8 * (job.jobs[job.job, NEXT] + 1):
        job.take(int(job.jobs[job.job, NEXT]), nothing)


def test_a_job_that_takes_the_place_of_another_has_a_deadline_of_its_own() -> None:
    (zero, one, two), clock = boards(jobs=3)
    began = clock.now

    def others() -> None:
        if clock.now > began + 10.0 and zero.shares() == [0]:
            two._end(1, DEAD)
            zero.take_over(1)
        if clock.now > began + 18.0:
            zero.stage(1, b"late")

    zero.stage(0, b"0")
    for board in (zero, one, two):
        board.take(0, nothing)
    clock.meanwhile = others
    assert two.take(1, nothing) == b"late"
    assert zero.jobs[0, STATE] == HERE


def test_a_job_whose_process_has_ended_is_found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    (one, two), clock = boards()
    one.jobs[1, PID] += 1  # another process, of whose lock nothing is held
    monkeypatch.setattr(Segment, "is_held", lambda segment, byte: False)

    def meanwhile() -> None:
        if one.take_over(1):
            one.stage(1, b"by one")

    one.stage(0, b"0")
    one.take(0, nothing)
    assert one.take(1, meanwhile) == b"by one"
    assert clock.now - 1000 < 1.0
    assert two.jobs[1, STATE] == DEAD
    assert one.low == 2


def test_a_job_that_is_itself_too_slow_is_told_so() -> None:
    (one, _), _ = boards()
    with pytest.raises(TimeoutError, match="job 0 has prepared batch 0 for 10 s and is not ready"):
        one.take(0, nothing)


def test_a_closed_one_waits_no_more() -> None:
    (one, two), clock = boards()
    clock.meanwhile = one.leave
    with pytest.raises(Closed):
        one.take(0, nothing)
    assert two.low == 0
    two.jobs[1, NEXT] = 5
    assert two.low == 5
    two.leave()
    assert two.low == two.total
