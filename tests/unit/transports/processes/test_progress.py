"""What was started goes on whenever progress is made, in any order; a blocking call sees what makes it vain."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.nodes import Node, finish, nodes, share, turn, until
from tests.unit.values import beginnings, bits, drawn, reduced

from loosestep.foundation.errors import Mismatch, PeerFailed, TimedOut
from loosestep.lowering.requests import RollCall, Script
from loosestep.requests import AllGather, AllReduce, Barrier, Broadcast, Exchange, Sleep
from loosestep.transports.processes import progress


def blocking(size: int, monkeypatch: pytest.MonkeyPatch, **how: Any) -> list[Node]:
    """Nodes whose calls sleep on the net's clock; meanwhile all go on."""
    all_ = nodes(size, **how)
    monkeypatch.setattr(progress, "time", all_[0].net.clock)
    all_[0].net.clock.meanwhile = lambda: turn(all_)
    return all_


# --- started collectives ------------------------------------------------------------------------------------


def asked(kind: Any, buf: Any, out: Any) -> Any:
    if kind == "root":
        return Broadcast(buf)
    return AllGather(buf, out) if kind == "gather" else AllReduce(buf, kind)


def result(kind: Any, bufs: Any) -> Any:
    if kind == "root":
        return bufs[0].copy()
    return np.concatenate(bufs) if kind == "gather" else reduced(kind, bufs)


@drawn
@given(
    st.integers(1, 5),
    st.lists(st.sampled_from(["sum", "mean", "root", "gather"]), min_size=1, max_size=4),
    st.data(),
)
def test_started_collectives_end_in_any_order_with_the_bits_of_a_fold(
    size: int, kinds: list[Any], data: st.DataObject
) -> None:
    all_ = nodes(size, data.draw(st.integers(0, 2**32)))
    bufs = [beginnings(size, data.draw(st.integers(1, 20))) for _ in kinds]
    outs = [[np.empty(each[0].size * size) for _ in range(size)] for each in bufs]
    wanted = [result(kind, each) for kind, each in zip(kinds, bufs, strict=True)]
    started = []
    for rank in data.draw(st.permutations(range(size))):
        for k, kind in enumerate(kinds):
            started.append(all_[rank].start(asked(kind, bufs[k][rank], outs[k][rank])))
            turn(all_, data.draw(st.integers(0, 2)))
    finish(all_, started)
    for k, kind in enumerate(kinds):
        assert bits(outs[k] if kind == "gather" else bufs[k]) == bits([wanted[k]] * size)


def test_nobody_passes_a_barrier_before_the_last_has_come() -> None:
    all_ = nodes(4)
    early = [node.start(Barrier()) for node in all_[:3]]
    turn(all_, 50)
    assert [each.done for each in early] == [None] * 3
    assert all(isinstance(each.waiting, Exchange) for each in early)
    finish(all_, [*early, all_[3].start(Barrier())])


def test_a_collective_of_others_is_no_concern() -> None:
    all_ = nodes(3)
    bufs = beginnings(3)
    wanted = bufs[2] + bufs[0]
    group = [all_[rank].start(AllReduce(bufs[rank], "sum", group=(2, 0))) for rank in (0, 2)]
    finish(all_, group)
    assert bits([bufs[0], bufs[2]]) == bits([wanted] * 2)


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("size", [2, 3])
def test_a_rank_that_fails_at_any_point_leaves_the_others_waiting_and_told(size: int, at: int) -> None:
    """Nothing is half done twice: what others fold is what was sent, or they wait and hear who failed."""
    all_ = nodes(size)

    def failing(requests: Any) -> Any:
        for number, request in enumerate(requests):
            if number == at:
                raise ValueError("boo")
            yield request

    first = AllReduce(np.ones(4), "sum")
    started = [node.start(AllReduce(np.ones(4), "sum")) for node in all_[1:]]
    mine = all_[0].engine.start(Script(first, failing(all_[0].lowering.lower([first]))), all_[0].worker)
    until(all_, lambda: mine.done is not None)
    turn(all_, 50)
    if at >= 2:  # exchanges: of the parts, and of what they were folded to
        finish(all_, started)
        assert mine.error is None
        return
    assert isinstance(mine.error, ValueError)
    assert any(each.done is None for each in started)
    all_[0].departures.tell_failure("worker 0 failed: boo")
    turn(all_, 20)
    for node in all_[1:]:
        with pytest.raises(PeerFailed, match="worker 0 failed: boo"):
            node.calls.check()


def test_a_mismatch_within_a_started_script_is_raised_where_it_is_waited_for() -> None:
    one, other = nodes(2)
    mine = one.engine.start(Exchange((), [(1, np.zeros(3))]), one.worker)
    other.start(Exchange([(0, np.zeros(2))], ()))
    with pytest.raises(Mismatch, match="worker 1 sent 2 float64 to worker 0, which expects 3"):
        turn([one, other], 20)
    assert mine.done is None


def test_what_nobody_can_begin_is_refused() -> None:
    (one,) = nodes(1)
    with pytest.raises(TypeError, match=r"worker 0 cannot begin Barrier\(\)"):
        one.engine.begin(Barrier(), one.worker)


def test_after_a_long_wait_the_next_one_hardly_spins(monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = nodes(1)
    clock, polls = one.net.clock, list[float]()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(one.engine, "progress", lambda: polls.append(clock.now) or False)  # type: ignore[func-returns-value]

    def looks_before_a_nap(seconds: float) -> int:
        """Of a wait of so many seconds."""
        polls.clear()
        began = clock.now
        one.calls.until("nothing", lambda: clock.now >= began + seconds, watched=False)
        return polls.count(began)

    few, many = progress.FEW + 1, progress.SPINS + 1
    assert [looks_before_a_nap(seconds) for seconds in (1e-5, 5e-3, 5e-3, 1e-5, 1e-5)] == [
        many,
        many,
        few,
        few,
        many,
    ]


# --- progress beside the worker -----------------------------------------------------------------------------


def test_a_deferred_call_is_made_by_the_next_progress_once() -> None:
    (one,) = nodes(1)
    made: list[int] = []
    one.engine.defer(lambda: made.append(1))
    assert made == [], "a signal handler must not touch the wire"
    one.engine.progress()
    one.engine.progress()
    assert made == [1]


def test_progress_says_whether_anything_came() -> None:
    one, other = nodes(2)
    assert not one.engine.progress()
    other.start(Exchange([(0, np.zeros(1))], ()))
    came = [one.engine.progress() for _ in range(10)]
    assert any(came)
    assert one.engine.received == 1


def test_another_thread_that_is_at_it_is_left_alone() -> None:
    (one,) = nodes(1)
    made: list[int] = []
    one.engine.defer(lambda: made.append(1))
    with one.engine.lock:
        thread = threading.Thread(target=one.engine.progress_if_free)
        thread.start()
        thread.join(10)
    assert made == []
    one.engine.progress_if_free()
    assert made == [1]


class Closing:
    """Lets the progress thread go round so often; time passes meanwhile."""

    def __init__(self, rounds: int, clock: Any) -> None:
        self.rounds, self.clock = rounds, clock

    def wait(self, seconds: float) -> bool:
        self.rounds -= 1
        self.clock.now += 0.5
        return self.rounds < 0

    def set(self) -> None:
        self.rounds = 0


def test_the_progress_thread_serves_while_the_worker_computes() -> None:
    one, other = nodes(2)
    into = np.zeros(1)
    receive = one.engine.begin(Exchange((), [(1, into)]), one.worker)
    other.start(Exchange([(0, np.ones(1))], ()))
    one.engine.closing = Closing(20, one.net.clock)  # type: ignore[assignment]
    one.engine.run_thread()
    assert (receive.left, into.tolist()) == (0, [1])


def test_the_progress_thread_calls_seldom_where_nobody_waits_for_it() -> None:
    one, other = nodes(2)
    assert one.engine.pause == progress.IDLE_PAUSE
    started = [node.start(Barrier()) for node in (one, other)]
    assert one.engine.pause == progress.PAUSE
    finish([one, other], started)
    assert one.engine.pause == progress.IDLE_PAUSE
    failing = one.engine.start(Script(Barrier(), iter([Sleep(0.0)])), one.worker)  # type: ignore[arg-type]
    assert isinstance(failing.error, TypeError)
    assert one.engine.pause == progress.IDLE_PAUSE
    share([one, other], "center", np.zeros(2))
    assert one.engine.pause == other.engine.pause == progress.PAUSE


def test_a_worker_that_does_not_notice_a_failure_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = nodes(2)
    clock = one.net.clock
    monkeypatch.setattr(progress, "time", clock)
    one.departures.failed, one.departures.failed_at = (1, "worker 1 failed: boo"), clock.now
    given_up: list[tuple[float, str]] = []
    one.engine.give_up = lambda words: given_up.append((clock.now, words))
    one.engine.closing = Closing(7, clock)  # type: ignore[assignment]
    began = clock.now
    one.engine.run_thread()
    assert given_up[0] == (began + progress.PATIENCE + 0.5, "worker 1 failed: boo")


def test_what_goes_wrong_in_the_progress_thread_is_raised_in_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = blocking(2, monkeypatch)
    boo = ArithmeticError("boo")

    def broken() -> None:
        raise boo

    one.engine.defer(broken)
    one.engine.closing = Closing(3, one.net.clock)  # type: ignore[assignment]
    one.engine.run_thread()
    with pytest.raises(ArithmeticError, match="boo"):
        one.calls.until("nothing", lambda: False)


# --- blocking calls -----------------------------------------------------------------------------------------


def test_a_call_returns_when_what_it_is_for_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = blocking(2, monkeypatch)
    into = np.zeros(100)
    other.start(Exchange([(0, np.ones(100))], ()))
    one.calls.perform(Exchange((), [(1, into)]))
    assert into.tolist() == [1] * 100
    assert one.calls.waiting == ""
    call = RollCall(1, present=True)
    one.calls.perform(call)
    assert call.answer == [True]


def test_while_it_waits_it_says_for_what(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = blocking(2, monkeypatch)
    receive, said = Exchange((), [(1, np.zeros(1))]), []

    def look() -> None:
        said.append(one.calls.waiting)
        other.start(Exchange([(0, np.ones(1))], ()))
        one.net.clock.meanwhile = lambda: turn([one, other])

    one.net.clock.meanwhile = look
    before = one.calls.waits
    one.calls.perform(receive)
    assert said == [receive]
    assert one.calls.waits == before + 1


def test_a_wait_ends_with_the_failure_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = blocking(2, monkeypatch)
    other.departures.tell_failure("worker 1 failed in round 3: boo")
    with pytest.raises(PeerFailed, match="^worker 1 failed in round 3: boo$"):
        one.calls.until("nothing", lambda: False)
    assert one.calls.waiting == ""


def test_a_wait_is_watched_unless_it_is_not_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = blocking(2, monkeypatch, heartbeat_timeout=1.0)
    one.net.gone.add(1)
    clock = one.net.clock
    with pytest.raises(TimedOut, match="worker 1, which shows no sign of life"):
        one.calls.until("nothing", lambda: False)
    until_ = clock.now + 3
    one.calls.until("nothing", lambda: clock.now > until_, watched=False)


def test_a_wait_pauses_after_each_poll_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = blocking(2, monkeypatch)
    looks = iter([False] * 5 + [True])
    wire: Any = one.mailbox.wire
    one.calls.until("nothing", lambda: next(looks), watched=False)
    assert wire.pauses == 5
    other.departures.tell_left()
    one.net.random.random = lambda: 0.0  # the message comes at the first poll
    looks = iter([False, True])
    one.calls.until("nothing", lambda: next(looks), watched=False)
    assert wire.pauses == 5, "something came"


def test_a_sleep_lasts_as_long_as_it_says_and_serves_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = blocking(2, monkeypatch)
    heard: list[Any] = []
    one.queries.answer("x", lambda _: 7)
    other.queries.ask(0, "x", None, heard.append)
    before = one.net.clock.now
    one.calls.sleep(Sleep(2.0))
    assert 2.0 <= one.net.clock.now - before < 2.1
    assert heard == [7]


def test_what_all_say_is_in_rank_order(monkeypatch: pytest.MonkeyPatch) -> None:
    all_ = blocking(3, monkeypatch)
    gather = [node.calls.all_gather_object("name", lambda rank=node.rank: rank * 10) for node in all_]
    assert gather[1]() == [0, 10, 20]
    assert gather[1]() == [0, 10, 20], "any number of times"


def test_a_core_that_waits_is_called_again_and_one_that_aborts_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = blocking(2, monkeypatch)
    answers = iter(["waiting", "waiting", "done"])
    one.calls.retry(Barrier(), lambda: next(answers), "waiting")
    assert next(answers, None) is None
    other.departures.tell_failure("worker 1 failed: boo")
    with pytest.raises(PeerFailed, match="worker 1 failed: boo"):
        one.calls.retry(Barrier(), lambda: "aborted", "aborted")


def test_an_abort_without_a_reason_is_an_error_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = blocking(2, monkeypatch)
    before = one.net.clock.now
    with pytest.raises(PeerFailed, match="without a word"):
        one.calls.retry(Barrier(), lambda: "aborted", "aborted")
    assert one.net.clock.now - before >= progress.REASON


def test_a_forked_copy_may_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = blocking(2, monkeypatch)
    monkeypatch.setattr("os.getpid", lambda: 41)
    with pytest.raises(RuntimeError, match=r"process 41 is a copy \(os.fork\)"):
        one.calls.until("nothing", lambda: True)


@pytest.mark.parametrize("at", range(0, 12, 2))
@pytest.mark.parametrize("gone", [1, 2])
def test_a_rank_that_dies_at_any_point_is_named_and_nothing_waits_for_ever(
    at: int, gone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it sent before may be enough for the others; else they say who is dead."""
    all_ = blocking(3, monkeypatch, heartbeat_timeout=3.0)
    bufs = beginnings(3)
    wanted = reduced("sum", bufs)
    for node in all_[1:]:
        node.start(AllReduce(bufs[node.rank], "sum"))
    asked = AllReduce(bufs[0], "sum")
    mine = all_[0].engine.start(Script(asked, all_[0].lowering.lower([asked])), all_[0].worker)  # type: ignore[arg-type]
    turn(all_, at)
    all_[0].net.gone.add(gone)
    began = all_[0].net.clock.now
    try:
        all_[0].calls.finish(mine, asked)
    except TimedOut as error:
        words = f"for worker {gone}, which shows no sign of life (dead, stopped, or cut off)"
        assert str(error) == f"worker 0 waited 3 s at {asked} {words}"  # noqa: PT017
        assert all_[0].net.clock.now - began < 6
    else:
        assert bufs[0].tobytes() == wanted.tobytes()  # type: ignore[union-attr]
