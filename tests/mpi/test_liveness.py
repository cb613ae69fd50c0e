"""The failure detector without processes: parts of sessions over wires in one thread, on a clock set by hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from loosestep.foundation.errors import Mismatch, TimedOut
from loosestep.requests import Exchange
from loosestep.requests.worker import Worker
from loosestep.transports.processes.departures import Departures
from loosestep.transports.processes.liveness import FailureDetector, Watch
from loosestep.transports.processes.mailbox import Mailbox
from loosestep.transports.processes.progress import ProgressEngine
from loosestep.transports.processes.queries import Queries
from loosestep.transports.processes.wire import LAST_OF_WORK, Header, Kind, Wire

SIZE = 4


class SlowWire(Wire):
    """Messages lie in the receiver's box at once, except those of work, which `held` keeps back."""

    def __init__(self, rank: int, boxes: list[deque[Any]], held: list[Any]) -> None:
        self.rank, self.size, self.boxes, self.held = rank, len(boxes), boxes, held

    def send(self, to: int, header: Header, payload: Any, done: Callable[[], None] | None) -> None:
        message = to, (self.rank, header, b"" if payload is None else payload.tobytes())
        if header.kind <= LAST_OF_WORK:
            self.held.append(message)
        else:
            self.boxes[to].append(message[1])
        if done is not None:
            done()

    def receive(self, source: int, into: Any, done: Callable[[], None]) -> None:
        raise AssertionError("payloads come along")

    def poll(self) -> Any:
        while self.boxes[self.rank]:
            yield self.boxes[self.rank].popleft()

    def pause(self) -> None:
        pass

    def rest(self, seconds: float) -> None:
        raise AssertionError("time passes in Machine.run alone")

    @property
    def parts(self) -> int:
        return 0

    def last_heard(self, rank: int) -> float:
        return 0.0

    def close(self, *, orderly: bool) -> None:
        """Nothing is held."""

    def end_job(self) -> None:
        raise AssertionError("a test's job is not to be ended")


class Rank:
    """One process's mailbox, engine and watch, and what it says of itself."""

    def __init__(self, wire: SlowWire, now: Callable[[], float]) -> None:
        self.mailbox, self.waits, self.waiting = Mailbox(wire), 1, f"request {wire.rank}"
        self.queries = Queries(self.mailbox)
        departures = Departures(self.mailbox)
        arrivals = {**self.mailbox.arrivals, **self.queries.arrivals, **departures.arrivals}
        self.engine = ProgressEngine(self.mailbox, arrivals, self.mailbox.operations, (), departures, print)
        self.queries.answer("state", lambda _: self.state())
        self.watch: Watch = FailureDetector(self.queries, [lambda rank: now()], 10.0, 600.0, now).watch("x", now())

    def state(self) -> dict[str, Any]:
        sent, received = self.mailbox.sent, self.engine.received - self.mailbox.incoming
        return {
            "round": 1, "doing": "a step", "waiting": self.waiting, "line": "user.py:1", "stacks": "",
            "sent": sent, "received": received, "progress": [self.waits, sent, received],
        }  # fmt: skip


class Machine:
    """All ranks on one clock; those of `turns` run at each tick, the others are not scheduled then."""

    def __init__(self, size: int = SIZE) -> None:
        self.now, self.held = 0.0, []  # type: ignore[var-annotated]
        self.boxes: list[deque[Any]] = [deque() for _ in range(size)]
        self.ranks = [Rank(SlowWire(rank, self.boxes, self.held), lambda: self.now) for rank in range(size)]

    def release(self) -> None:
        """Let held messages arrive."""
        while self.held:
            to, message = self.held.pop(0)
            self.boxes[to].append(message)

    def run(
        self, seconds: float, tick: float, turn: Callable[[int, int], bool] = lambda rank, tick: True
    ) -> tuple[float, Exception] | None:
        """Let time pass; return when the first error was raised, and the error."""
        until, ticks = self.now + seconds, 0
        while self.now < until:
            self.now, ticks = self.now + tick, ticks + 1
            for number, rank in enumerate(self.ranks):
                if turn(number, ticks):
                    rank.engine.progress()
                    try:
                        rank.watch.look()
                    except (Mismatch, TimedOut) as error:
                        return self.now, error
        return None


@pytest.mark.parametrize("tick", [0.001, 0.05, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("turn", [lambda rank, tick: True, lambda rank, tick: rank % 2 == tick % 2])
def test_a_mismatch_is_found_however_seldom_ranks_are_scheduled(
    tick: float, turn: Callable[[int, int], bool]
) -> None:
    """Questions of several ranks then lie in one poll, each answered while the answer before is on its way."""
    found = Machine().run(60, tick, turn)
    assert found is not None, "questions and answers were taken for progress"
    when, error = found
    assert isinstance(error, Mismatch)
    assert when < 20
    assert str(error).startswith(
        "no two of these fit together, so nobody can go on: worker 0 waits at request 0 in"
    )


def test_progress_anywhere_begins_the_count_again() -> None:
    machine = Machine()
    for _ in range(20):
        assert machine.run(2.5, 0.1) is None
        machine.ranks[2].waits += 1
    assert machine.run(10, 0.1) is not None


def test_a_message_on_its_way_is_waited_for_and_its_arrival_is_progress() -> None:
    machine = Machine()
    worker: Any = Worker(0, SIZE, np.zeros(3), None)  # type: ignore[arg-type]
    begin = machine.ranks[0].engine.begin
    begin(Exchange(sends=[(1, np.ones(3))]), worker)
    assert machine.run(60, 0.1) is None, "it has not arrived"
    machine.release()
    assert machine.run(2, 0.1) is None
    found = machine.run(20, 0.1)
    assert found is not None
    assert isinstance(found[1], Mismatch)


def test_a_message_that_never_arrives_is_waited_for_until_the_deadline() -> None:
    machine = Machine(2)
    machine.ranks[0].mailbox.send(1, Header(Kind.ROLL))
    found = machine.run(700, 0.5)
    assert found is not None
    assert isinstance(found[1], Mismatch)
    assert 600 < found[0] < 610


def test_a_busy_worker_is_no_mismatch(capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine()
    machine.ranks[3].waiting = ""
    found = machine.run(700, 0.25)
    assert found is not None
    assert isinstance(found[1], TimedOut)
    assert str(found[1]) == "worker 0 waited 600 s at x for worker 3, which is at a step (user.py:1)"
    said = capsys.readouterr().err
    assert "worker 1 has waited 11 s at x for worker 3, which is at a step (user.py:1)" in said
