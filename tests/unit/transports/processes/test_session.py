"""One process's session among others that are played: agreement, the stop protocol, failures at every point."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.unit.nodes import Node, finish, turn
from tests.unit.values import beginnings, bits, reduced, worker
from tests.unit.wire import Net

from loosestep.foundation.errors import Mismatch, PeerFailed, TimedOut, WorkerFailed
from loosestep.lowering.lowering import Lowering
from loosestep.lowering.requests import RollCall
from loosestep.requests import AllReduce, Fetch, Gradient, Push, Request, Start, Wait
from loosestep.transports.base import Task
from loosestep.transports.processes import departures, progress, session
from loosestep.transports.processes.liveness import FailureDetector
from loosestep.transports.processes.mailbox import Mailbox
from loosestep.transports.processes.multi_host import Messages
from loosestep.transports.processes.session import ProcessSession, UncaughtErrors
from loosestep.transports.processes.shards import Shards


class NoThread:
    """Stands in for the progress thread, which would bring a clock of its own."""

    def __init__(self, **_: Any) -> None:
        self.started = False

    def start(self) -> None:
        self.started = True

    def is_alive(self) -> bool:
        return False


class Played:
    """A net where rank 0 is to have a session, and the others are played."""

    def __init__(self, size: int, **how: float) -> None:
        self.net = Net(size)
        self.peers = [Node(self.net, rank) for rank in range(1, size)]
        self.hosts = tuple((rank,) for rank in range(size))
        self.times = how.get("heartbeat_timeout", 10.0), how.get("deadline", 100.0)
        self.say("hosts", {"hosts": str(self.hosts)})
        self.say("begin", True)
        self.net.clock.meanwhile = lambda: turn(self.peers) if self.peers else None

    def say(self, topic: str, *values: Any) -> None:
        """What the others answer: each its own, or all the same."""
        for place, peer in enumerate(self.peers):
            value = values[place % len(values)]
            peer.queries.answer(topic, lambda _, value=value: value)

    def open(self) -> ProcessSession:
        mailbox = Mailbox(self.net.ends[0])
        return ProcessSession(mailbox, Messages(), Shards(mailbox), None, self.hosts, *self.times)

    def settle(self, one: ProcessSession, times: int = 30) -> None:
        for _ in range(times):
            one.engine.progress()
            turn(self.peers)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(size: int, **how: float) -> Played:
        made = Played(size, **how)
        for module in (progress, session, departures):
            monkeypatch.setattr(module, "time", made.net.clock)
        monkeypatch.setattr(session, "FailureDetector", partial(FailureDetector, clock=made.net.clock.monotonic))
        return made

    monkeypatch.setattr(progress, "threading", SimpleNamespace(Thread=NoThread, Event=progress.threading.Event))
    return make


def run(one: ProcessSession, requests: Any, compute: Any = lambda request: 1, size: int = 2) -> None:
    me = worker(0, size)
    lowering = Lowering(one.native | {Gradient}, me, one.unpriced, grouped=one.grouped)
    one.run([Task(me, lowering.lower(requests), compute)])


# --- agreement ----------------------------------------------------------------------------------------------


def test_all_must_see_the_same_hosts(played: Any) -> None:
    world = played(3)
    world.say("hosts", {"hosts": str(world.hosts)}, {"hosts": "((0, 1, 2),)"})
    with pytest.raises(
        Mismatch, match=r"^worker 2 has hosts \(\(0, 1, 2\),\), worker 0 has hosts \(\(0,\), \(1,\), "
    ):
        world.open()


def test_what_all_say_is_in_rank_order(played: Any) -> None:
    world = played(3)
    one = world.open()
    assert one.engine.thread.started
    world.say("totals", {"n": 1}, {"n": 2})
    assert one.all_gather_object("totals", lambda: {"n": 0})() == [{"n": 0}, {"n": 1}, {"n": 2}]


@pytest.mark.parametrize("steps", [(4, 9, 2), (9, 4, 2), (2, 4, 9)])
def test_all_stop_at_the_largest_step_that_was_begun(steps: tuple[int, ...], played: Any) -> None:
    world = played(3)
    one, decided = world.open(), dict[int, int]()
    for peer in world.peers:
        peer.queries.answer("next step", lambda _, rank=peer.rank: steps[rank])
        peer.queries.answer("stop at", lambda step, rank=peer.rank: decided.setdefault(rank, step))
    stop = one.stop_protocol(lambda: steps[0], lambda step: decided.setdefault(0, step))
    stop()
    assert decided == {}, "a signal handler only asks"
    one.await_stop(lambda: 0 in decided)
    world.settle(one)
    assert decided == dict.fromkeys(range(3), max(steps))


@pytest.mark.parametrize("asking", [0, 1, 2])
def test_however_many_ask_for_a_stop_there_is_one(asking: int, played: Any) -> None:
    world = played(3)
    one, asked, decided = world.open(), [], []
    world.say("next step", 3)
    world.say("stop at", None)
    stop = one.stop_protocol(lambda: asked.append(1) or 5, decided.append)  # type: ignore[func-returns-value]
    for _ in range(2):
        if asking == 0:
            stop()
        else:
            world.peers[asking - 1].queries.ask(0, "stop", None, lambda _: None)
        world.settle(one)
    assert (asked, decided) == ([1], [5])


def test_who_is_gone_while_all_agree_on_a_stop_is_named(played: Any) -> None:
    world = played(2, heartbeat_timeout=5.0)
    one = world.open()
    world.net.gone.add(1)
    one.stop_protocol(lambda: 1, lambda step: None)()
    with pytest.raises(
        TimedOut, match="^worker 0 waited 5 s at agreeing where all stop for worker 1, which shows no"
    ):
        one.await_stop(lambda: False)


# --- requests -----------------------------------------------------------------------------------------------


def test_a_variable_has_rank_0s_values_on_all(played: Any) -> None:
    world = played(3)
    one = world.open()
    for peer in world.peers:
        peer.shards.make("c", np.full(6, 9.0))
    world.say("share c", True)
    world.say("shared c", True)
    values, into = np.arange(6.0), np.empty(6)
    shared = one.share(0, "c", values)
    run(one, [Push("axpy", (shared,), (np.ones(6),), (1.0,)), Fetch(shared, into)], size=3)
    assert into.tolist() == (values + 1).tolist()
    assert one.version(shared) == 1
    one.store(shared, values, 7)
    assert one.version(shared) == 7


@pytest.mark.parametrize("beside", [True, False])
def test_a_collective_has_the_bits_of_a_fold(beside: bool, played: Any) -> None:
    world = played(3)
    one, bufs = world.open(), beginnings(3)
    wanted = reduced("sum", bufs)
    others = [peer.start(AllReduce(bufs[peer.rank], "sum")) for peer in world.peers]
    mine = AllReduce(bufs[0], "sum")
    run(one, [Start(mine), Gradient(), Wait(mine)] if beside else [mine], size=3)
    finish(world.peers, others)
    assert bits(bufs) == bits([wanted] * 3)


def test_a_roll_call_waits_for_others(played: Any) -> None:
    world = played(2)
    one, call = world.open(), RollCall(1, present=False)
    peer = world.peers[0]
    peer.engine.begin(RollCall(1, present=True), peer.worker)
    run(one, [call])
    assert call.answer == [True]


def test_waiting_for_what_was_not_started_is_refused(played: Any) -> None:
    one = played(1).open()
    with pytest.raises(RuntimeError, match="waits for what was not started"):
        one.endpoint.wait(Wait(AllReduce(np.zeros(1))))


def test_what_others_hear_of_this_worker(played: Any) -> None:
    world = played(2)
    one = world.open()
    assert one.state()["doing"] == "its start"
    run(one, [Gradient()])
    state = one.state()
    assert (state["doing"], state["waiting"], state["round"]) == ("Gradient()", "", 0)
    assert "test_session.py" in state["stacks"] or state["line"]


# --- failures, and the end ----------------------------------------------------------------------------------


@pytest.mark.parametrize("at", range(4))
def test_a_worker_that_fails_at_any_point_is_named_on_all(at: int, played: Any) -> None:
    world = played(3)
    one = world.open()

    def asked() -> Iterator[Request]:
        for step in range(4):
            if step == at:
                raise ValueError("boo")
            yield Gradient()

    with pytest.raises(WorkerFailed) as error:
        run(one, asked(), size=3)
    world.net.clock.tick = 0.05
    one.leave(error.value)
    for _ in range(20):
        turn(world.peers)
    where = "the start of a round" if at == 0 else "Gradient()"
    words = f"worker 0 failed in round 0, at {where}: ValueError: boo"
    assert [peer.departures.failed for peer in world.peers] == [(0, words)] * 2
    assert [0 in peer.departures.left for peer in world.peers] == [True] * 2
    assert world.net.ends[0].closed is False


def test_a_worker_that_stops_because_of_another_tells_nothing_on(played: Any) -> None:
    world = played(3)
    one, computed = world.open(), []
    world.peers[0].departures.tell_failure("worker 1 failed: boo")
    world.settle(one)
    with pytest.raises(PeerFailed, match="^worker 1 failed: boo$") as error:
        run(one, [Gradient()], computed.append, size=3)
    assert computed == [], "a worker that never waits hears of it before it computes"
    world.net.clock.tick = 0.05
    one.leave(error.value)
    for _ in range(20):
        turn(world.peers)
    assert world.peers[1].departures.failed == (1, "worker 1 failed: boo")
    assert 0 in world.peers[1].departures.left


def test_the_end_serves_the_others_until_all_have_left(played: Any) -> None:
    world = played(2)
    one, peer = world.open(), world.peers[0]
    shared = one.centers.make("c", np.zeros(2))
    peer.shards.make("c", np.zeros(2))
    late: list[Any] = []

    def meanwhile() -> None:
        if not late:
            late.append(peer.start(Push("axpy", (shared,), (np.ones(2),), (1.0,), arrived=True)))
        elif late[0].done is not None and not peer.departures.complete:
            peer.departures.tell_left()
        turn([peer])

    world.net.clock.meanwhile = meanwhile
    one.leave(None)
    assert late[0].done is not None
    assert one.centers.mine[shared.store].version == 1
    assert world.net.ends[0].closed is True
    assert sys.excepthook != one.hook.hook


def test_a_forked_copy_leaves_without_a_word(played: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world = played(2)
    one = world.open()
    with monkeypatch.context() as patch:
        patch.setattr("os.getpid", lambda: 41)
        one.leave(ValueError("boo"))
    for _ in range(10):
        turn(world.peers)
    assert world.peers[0].departures.failed is None
    assert world.net.ends[0].closed is None


class Left(BaseException):
    """What stands in for the end of the process."""


@pytest.mark.parametrize(
    ("error", "code", "job"),
    [(ValueError("boo"), 1, False), (KeyboardInterrupt(), 130, False), (TimedOut(0, "x", ["y"], 1.0), 1, True)],
)
def test_an_error_that_nobody_catches_ends_the_process_when_others_have_heard(
    error: BaseException, code: int, job: bool, played: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, done = played(1), []

    def leave(code: int) -> None:
        done.append(code)
        raise Left

    monkeypatch.setattr(session.os, "_exit", leave)
    monkeypatch.setattr(sys, "excepthook", lambda *given: done.append("printed"))
    hook = UncaughtErrors(
        lambda error: done.append("told"), SimpleNamespace(here=True), lambda: done.append("job")
    )  # type: ignore[arg-type]
    with pytest.raises(Left):
        sys.excepthook(type(error), error, None)
    assert done == ["printed", "told", *(["job"] if job else []), code]
    assert world.net.clock.naps == 1
    hook.remove()
    assert sys.excepthook != hook.hook


def test_an_error_that_nobody_catches_is_told_to_the_others_of_every_session(
    played: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Any] = []
    played(1)
    monkeypatch.setattr(session.os, "_exit", done.append)
    monkeypatch.setattr(sys, "excepthook", lambda *given: done.append("printed"))
    original: Any = SimpleNamespace(here=True)
    for name in ("first", "last"):
        UncaughtErrors(lambda error, name=name: done.append(name), original, lambda: None)  # type: ignore[misc]
    sys.excepthook(ValueError, ValueError("boo"), None)
    assert done == ["printed", "last", "first", 1]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_sessions_may_end_in_any_order(order: tuple[int, ...]) -> None:
    before, original = sys.excepthook, SimpleNamespace(here=True)
    hooks: list[Any] = [UncaughtErrors(print, original, print) for _ in range(3)]  # type: ignore[arg-type]
    for number in order:
        assert sys.excepthook != before
        hooks[number].remove()
    assert sys.excepthook == before


def test_a_worker_that_is_stuck_says_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(session.os, "_exit", codes.append)
    session.end_stuck(3, "worker 1 failed: boo")
    told = capsys.readouterr().err
    assert told.startswith("worker 3 ends at ")
    assert told.endswith(", because worker 1 failed: boo\n")
    assert codes == [1]
