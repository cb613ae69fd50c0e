"""Sessions of several workers over wires within one process: agreeing on a halt, long runs, forked copies."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import pytest
from tests.mpi.wires import sessions, together

import loosestep as ls
from loosestep.foundation.errors import TimedOut
from loosestep.runtime.plan import Plan
from loosestep.transports.processes import liveness
from loosestep.transports.processes.mailbox import Mailbox
from loosestep.transports.processes.wire import Header, Kind, pack, unpack


def plan_of(session: Any, heading: int) -> Plan[Any]:
    """A plan whose only worker has begun that step."""
    plan: Plan[Any] = Plan(ls.LocalSGD())
    plan.prepare = lambda: (setattr(plan, "halting", True), heading)[1]  # type: ignore[method-assign]
    plan.begin_halt = session.stop_protocol(plan.prepare, plan.decide)
    plan.await_halt = session.await_stop
    return plan


def test_all_stop_at_the_largest_step_that_was_begun() -> None:
    with sessions(3) as (made, _):
        plans = [plan_of(session, heading) for session, heading in zip(made, (4, 9, 2), strict=True)]
        plans[2].halt()
        for plan in plans:
            plan.halting = True
        assert together([lambda plan=plan: plan.halts(8) for plan in plans]) == [False, False, False]
        assert [plan.halts(9) for plan in plans] == [True, True, True]
        assert [plan.halt_at for plan in plans] == [9, 9, 9]


@pytest.mark.parametrize("asks", [0, 2])
def test_who_is_stopped_while_all_agree_on_a_halt_is_named(asks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "LOOK", 0.1)
    with sessions(3, heartbeat_timeout=1.0) as (made, net):
        plans = [plan_of(session, 5) for session in made]
        net.gone.add(1)
        plans[asks].halt()
        plans[0].halting = plans[2].halting = True
        errors = together([lambda plan=plans[rank]: plan.halts(3) for rank in (0, 2)])
        for rank, error in zip((0, 2), errors, strict=True):
            words = "for worker 1, which shows no sign of life (dead, stopped, or cut off)"
            assert str(error) == f"worker {rank} waited 1 s at agreeing where all stop {words}"
            assert isinstance(error, TimedOut)


def test_who_fails_while_all_agree_on_a_halt_is_heard() -> None:
    with sessions(2) as (made, net):
        plan = plan_of(made[0], 5)
        made[1].departures.tell_failure("worker 1 failed in round 3, at Gradient(): boo")
        until = time.monotonic() + 20
        while net.on_the_way(1, 0) and time.monotonic() < until:  # the progress thread takes it
            time.sleep(0.001)
        net.gone.add(1)
        plan.halting = True
        (error,) = together([lambda: plan.halts(3)])
        assert str(error) == "worker 1 failed in round 3, at Gradient(): boo"


def test_what_went_wrong_in_the_helper_thread_ends_the_wait_for_a_halt() -> None:
    with sessions(2) as (made, net):
        plan = plan_of(made[0], 5)
        net.gone.add(1)
        plan.halting = True
        made[0].engine.broken = ArithmeticError("boo")
        (error,) = together([lambda: plan.halts(3)])
        assert error is made[0].engine.broken


def test_two_halts_at_once_have_one_step() -> None:
    plan: Plan[Any] = Plan(ls.LocalSGD())
    plan.decide(7)
    plan.decide(9)
    assert plan.halt_at == 7


# --- long runs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2**32 - 1, 2**32, 2**63])
def test_questions_are_numbered_beyond_32_bits(number: int) -> None:
    header = Header(Kind.ASK, 2, 12, number, number, number, 0.5)
    assert unpack(pack(header)) == header
    with sessions(2) as (made, _):
        for session in made:
            session.mailbox.numbers = number
        answers = together(
            [session.all_gather_object("name", lambda rank=rank: rank) for rank, session in enumerate(made)]
        )
        assert answers == [[0, 1], [0, 1]]
        assert all(session.mailbox.numbers > number for session in made)


def test_a_number_is_given_once() -> None:
    mail = Mailbox(sessionless())
    mail.numbers = 2**32 - 2
    assert [mail.number() for _ in range(3)] == [2**32 - 1, 2**32, 2**32 + 1]


def sessionless() -> Any:
    class Nothing:
        rank, size = 0, 1

    return Nothing()


# --- forked copies -----------------------------------------------------------------------------------------


def in_a_copy(action: Any) -> int:
    """The exit code of a forked copy: what `action` returns there."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(int(action()))
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def refused(action: Any) -> bool:
    try:
        action()
    except RuntimeError as error:
        return "is a copy (os.fork) of that of worker 1, and takes no part in its run: end it by os._exit" in str(
            error
        )
    return False


def test_a_copy_that_leaves_tells_nobody_and_closes_nothing() -> None:
    with sessions(2) as (made, net):
        sent = {pair: list(line) for pair, line in net.lines.items()}

        def leave() -> bool:
            for error in (None, SystemExit(0), ArithmeticError("boo")):
                made[1].leave(error)
            now = {pair: list(line) for pair, line in net.lines.items()}
            return net.ends[1].closed is None and now == sent and not made[1].gone

        assert in_a_copy(leave) == 1
        assert made[0].departures.failed is None
        assert not made[0].departures.left


def test_a_copy_that_goes_on_is_refused() -> None:
    with sessions(2) as (made, _):
        waits = [
            lambda: made[1].calls.barrier("there"),
            made[1].calls.check,
            lambda: made[1].await_stop(lambda: True),
        ]
        assert in_a_copy(lambda: all(map(refused, waits))) == 1
        assert made[1].calls.check() is None
