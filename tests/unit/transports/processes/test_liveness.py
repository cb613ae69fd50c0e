"""Dead, mismatched and busy are told apart, on a clock that the test moves."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.nodes import Node, nodes, turn, waiting

from loosestep.foundation.errors import Mismatch, TimedOut
from loosestep.transports.processes.liveness import LOOK, NOTICE, STILL

BUSY = {"waiting": "", "doing": "Gradient()", "line": "train.py:7", "stacks": "thread MainThread:\n  here"}


def watch(all_: list[Node], seconds: float, every: float = LOOK, alive: Any = ()) -> Any:
    """Rank 0 looks after the others for so long; the others go on, but for those that are gone."""
    clock = all_[0].net.clock
    seen = all_[0].detector.watch("Barrier()", clock.now)
    until = clock.now + seconds
    while clock.now < until:
        clock.now += every
        turn(all_, 15)
        for rank in alive:
            all_[0].net.ends[0].signs[rank] = clock.now
        seen.look()
    return seen


def test_nobody_is_asked_in_a_short_wait() -> None:
    all_ = nodes(3)
    watch(all_, 0.9 * LOOK, 0.1 * LOOK)
    assert all_[0].net.on_the_way(0, 1) == []


@pytest.mark.parametrize("gone", [{1}, {2}, {1, 2}])
def test_who_shows_no_sign_of_life_is_dead(gone: set[int]) -> None:
    all_ = nodes(3, heartbeat_timeout=5.0)
    all_[0].net.gone |= gone
    with pytest.raises(TimedOut) as error:
        watch(all_, 60)
    words = "; ".join(
        f"worker {rank}, which shows no sign of life (dead, stopped, or cut off)" for rank in sorted(gone)
    )
    assert str(error.value) == f"worker 0 waited 5 s at Barrier() for {words}"
    assert all_[0].net.clock.now == 1000 + 6 * LOOK


def test_silence_before_the_wait_is_not_counted() -> None:
    """A worker that computed for long has heard of nobody meanwhile."""
    all_ = nodes(2, heartbeat_timeout=5.0)
    all_[0].net.clock.now += 100
    all_[1].state = {**waiting(), **BUSY}
    watch(all_, 8)


def test_one_whose_core_lives_while_python_does_not_is_busy_and_not_dead(
    capsys: pytest.CaptureFixture[str],
) -> None:
    all_ = nodes(2, heartbeat_timeout=5.0, deadline=20.0)
    all_[0].net.gone.add(1)
    with pytest.raises(TimedOut, match="for worker 1, which is at native code that holds its Python"):
        watch(all_, 60, alive=[1])
    assert "native code that holds its Python (it does not answer)" in capsys.readouterr().err


def test_where_all_wait_and_nothing_moves_it_is_a_mismatch() -> None:
    all_ = nodes(3)
    all_[1].state = waiting(waiting="Fetch('c')", round=4)
    with pytest.raises(Mismatch) as error:
        watch(all_, 60)
    waits = ["waits at Barrier() in round 0", "waits at Fetch('c') in round 4", "waits at Barrier() in round 0"]
    said = "; ".join(f"worker {rank} {words}" for rank, words in enumerate(waits))
    assert str(error.value) == f"no two of these fit together, so nobody can go on: {said}"
    assert all_[0].net.clock.now >= 1000 + STILL * LOOK, "not at the first look"


@pytest.mark.parametrize("change", ["progress", "waiting", "on the way"])
def test_where_anything_moves_it_is_none(change: str) -> None:
    all_ = nodes(2, deadline=1000.0)
    clock = all_[0].net.clock

    def state(_: Any) -> dict[str, Any]:
        second = int(clock.now)
        if change == "progress":
            return waiting(progress=[second])
        if change == "waiting":
            return waiting() if second % 3 else {**waiting(), **BUSY}
        return waiting(sent=second % 2 + 1)

    all_[1].queries.answer("state", state)
    watch(all_, 40)


def test_a_message_that_seems_to_be_on_its_way_for_ever_ends_at_the_deadline() -> None:
    all_ = nodes(2, deadline=30.0)
    all_[1].state = waiting(sent=1)
    with pytest.raises(Mismatch, match="no two of these fit together"):
        watch(all_, 100)
    assert 1030 <= all_[0].net.clock.now <= 1035


def test_who_is_busy_is_waited_for_with_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    all_ = nodes(2, deadline=600.0)
    all_[1].state = {**waiting(), **BUSY}
    watch(all_, 3.5 * NOTICE)
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("worker 0 has waited")]
    words = "s at Barrier() for worker 1, which is at Gradient() (train.py:7)"
    assert [line.endswith(words) for line in told] == [True, True]
    seconds = [int(line.split()[4]) for line in told]
    assert seconds[0] == pytest.approx(NOTICE, abs=2)
    assert seconds[1] == pytest.approx(2 * NOTICE, abs=2), "each next wait is twice as long"


def test_its_stacks_are_shown_with_its_rank(capsys: pytest.CaptureFixture[str]) -> None:
    all_ = nodes(2)
    all_[1].state = {**waiting(), **BUSY}
    watch(all_, NOTICE + 3)
    assert "  worker 1 | thread MainThread:\n  worker 1 |   here\n" in capsys.readouterr().err


def test_who_is_busy_past_the_deadline_ends_the_job() -> None:
    all_ = nodes(3, deadline=30.0)
    all_[2].state = {**waiting(), **BUSY}
    with pytest.raises(
        TimedOut, match=r"^worker 0 waited 30 s at Barrier\(\) for worker 2, which is at Gradient\(\) \("
    ):
        watch(all_, 100)
    assert 1030 < all_[0].net.clock.now <= 1033
