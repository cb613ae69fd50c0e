"""The simulator's native parts: the order of events, the price of a message, and what is refused."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from loosestep._core import Calendar, Mail, Network, replay
from loosestep.requests import Exchange

LATENCY, BANDWIDTH = 0.5, 8.0  # so that two float32 take a second


@dataclass
class Strand:
    rank: int


class Office:
    """Mail of three workers."""

    def __init__(self) -> None:
        self.calendar = Calendar()
        table = np.broadcast_to(np.array(LATENCY), (3, 3)), np.broadcast_to(np.array(BANDWIDTH), (3, 3))
        self.network = Network(*table, [LATENCY] * 3, [BANDWIDTH] * 3, BANDWIDTH)
        self.mail = Mail(self.calendar, self.network, self.check)

    def check(self, source: int, content: Any, strand: Strand, into: Any) -> None:
        if content.shape != into.shape or content.dtype != into.dtype:
            raise ValueError(f"{source} to {strand.rank}: {content.size} {content.dtype}")

    def send(self, to: int, buf: Any, note: float = 0.0) -> float | None:
        return self.mail.exchange(Strand(0), Exchange(sends=((to, buf),), note=note))

    def receive(self, rank: int, into: Any, notes: dict[int, float] | None = None) -> float | None:
        return self.mail.exchange(Strand(rank), Exchange(recvs=((0, into),), notes=notes))


def test_events_come_by_time_then_rank_then_number() -> None:
    calendar = Calendar()
    for time, rank, what in ((2.0, 0, "d"), (1.0, 1, "b"), (1.0, 0, "a"), (1.0, 1, "c")):
        calendar.push(time, rank, what)
    assert [(calendar.next(), calendar.now) for _ in range(4)] == [("a", 1.0), ("b", 1.0), ("c", 1.0), ("d", 2.0)]
    assert calendar.next() is None


def test_a_worker_sends_one_message_at_a_time() -> None:
    office, buf = Office(), np.zeros(2, np.float32)
    assert [office.send(1, buf), office.send(2, buf)] == [1.0, 2.0]
    assert office.network.push(0, 0.0, 0.0)[0] == 2.0  # a push waits for them, too
    assert office.receive(2, buf) == 2.0 + LATENCY


def test_a_message_is_what_was_in_the_buffer_then() -> None:
    office, buf, into, notes = Office(), np.array([1, 2], np.float32), np.zeros(2, np.float32), {}
    office.send(1, buf, note=3.0)
    buf[:] = 9
    assert office.receive(1, into, notes) == 1.0 + LATENCY
    assert (into.tolist(), notes) == ([1, 2], {0: 3.0})


def test_who_came_first_goes_on_when_the_message_has_arrived() -> None:
    office, into = Office(), np.zeros(2, np.float32)
    assert office.receive(1, into) is None
    office.send(1, np.array([1, 2], np.float32))
    assert into.tolist() == [1, 2]
    assert (office.calendar.next().rank, office.calendar.now) == (1, 1.0 + LATENCY)


@pytest.mark.parametrize("receive_first", [False, True])
def test_messages_of_a_tag_keep_their_order(receive_first: bool) -> None:
    office, places = Office(), [np.zeros(2, np.float32) for _ in range(5)]
    post = lambda: [office.receive(1, into) for into in places]  # noqa: E731
    if receive_first:
        post()
    for number in range(5):
        office.send(1, np.full(2, number, np.float32))
    if not receive_first:
        post()
    assert [into[0] for into in places] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("receive_first", [False, True])
@pytest.mark.parametrize("into", [np.zeros(3, np.float32), np.zeros(2)], ids=["size", "dtype"])
def test_what_does_not_fit_is_refused_and_not_written(receive_first: bool, into: Any) -> None:
    office, buf = Office(), np.ones(2, np.float32)
    first, second = (lambda: office.receive(1, into)), (lambda: office.send(1, buf))
    if not receive_first:
        first, second = second, first
    first()
    with pytest.raises(ValueError, match="0 to 1: 2 float32"):
        second()
    assert not into.any()


READ_ONLY = np.zeros(2, np.float32)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("into", "sentence"),
    [(np.zeros(4, np.float32)[::2], "contiguous"), ([0.0, 0.0], "numpy array"), (READ_ONLY, "writeable")],
    ids=["strided", "list", "read-only"],
)
def test_what_is_no_flat_array_is_refused(into: Any, sentence: str) -> None:
    office = Office()
    office.send(1, np.ones(2, np.float32))
    with pytest.raises((TypeError, ValueError), match=sentence):
        office.receive(1, into)


@pytest.mark.parametrize("rank", [3, -1])
def test_a_worker_that_is_not_there_is_refused(rank: int) -> None:
    with pytest.raises(IndexError):
        Office().send(rank, np.ones(2, np.float32))


def test_a_second_thread_is_refused_and_nested_calls_are_not() -> None:
    """With or without a lock of the interpreter: the calendar and the mail belong to one thread at a time."""
    refused: list[str] = []

    def other() -> None:
        for call in (office.calendar.next, office.mail.clear, lambda: office.calendar.push(1.0, 0, None)):
            with pytest.raises(RuntimeError, match="is in use by another thread") as error:
                call()
            refused.append(str(error.value))

    class Nested(Office):
        def check(self, source: int, content: Any, strand: Strand, into: Any) -> None:
            self.calendar.push(5.0, 0, "nested")
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
            raise ValueError("not alike")

    office = Nested()
    office.send(1, np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="not alike"):
        office.receive(1, np.zeros(3, np.float32))
    assert refused == ["this Calendar is in use by another thread", "this Mail is in use by another thread",
                       "this Calendar is in use by another thread"]  # fmt: skip
    assert office.calendar.next() == "nested"


# --- an allreduce, and what replays workers ----------------------------------------------------------------


def alike(size: int, latency: float = LATENCY, bandwidth: float = BANDWIDTH, *, table: bool = False) -> Network:
    """Links that are all alike; as full tables they are priced message by message."""
    tables = [np.full((size, size), value) if table else np.broadcast_to(np.array(value), (size, size))
              for value in (latency, bandwidth)]  # fmt: skip
    return Network(tables[0], tables[1], [latency] * size, [bandwidth] * size, bandwidth)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 17])
@pytest.mark.parametrize("whole", [False, True])
def test_an_allreduce_in_closed_form_is_that_of_its_messages(n: int, whole: bool) -> None:
    """Also where chunks do not come out even, arrivals differ, and members are some of the workers."""
    rng = np.random.default_rng(n)
    for _ in range(30):
        elements, ranks = int(rng.integers(0, 40)), sorted(rng.choice(n + 2, n, replace=False).tolist())
        arrivals = (rng.integers(0, 2) * rng.exponential(3.0, n)).tolist()
        one, other = alike(n + 2), alike(n + 2, table=True)
        for _ in range(2):  # the second begins while links are busy
            times = [
                each.all_reduce(elements, 4, ranks, arrivals, whole=whole, at_once=True) for each in (one, other)
            ]
            np.testing.assert_allclose(times[0], times[1], rtol=1e-12)


def test_a_replay_is_the_sum_of_its_steps() -> None:
    program = ([[(0, 0, 5, 0.0), (6, 0, 0, 2.0)]], [], [], [], [])  # five steps, and two seconds of sleep
    done, waiting, *rest = replay(alike(2), [program], [0, 0], [[0, 1]], np.array([[1.0] * 5, [2.0] * 5]))
    assert (done.tolist(), waiting.tolist(), rest) == ([7.0, 12.0], [2.0, 2.0], [6, 12.0])


def test_a_replay_in_which_a_message_never_comes_says_whose() -> None:
    program = ([[(2, 0, 0, 0.0)]], [], [1], [(7, 0, 0, 0, 1)], [])
    with pytest.raises(RuntimeError, match="worker 0 waits for what no other worker does"):
        replay(alike(2), [program, ([[]], [], [], [], [])], [0, 1], [[0, 1]], np.ones((2, 1)))


def test_a_worker_that_meets_a_group_of_others_is_refused() -> None:
    program = ([[(3, 0, 0, 0.0)]], [], [], [], [(4, 4, False, True, 1)])
    for group in ([0], [1]):
        with pytest.raises(ValueError, match=r"worker \d is not of the group that it meets"):
            replay(alike(2), [program], [0, 0], [[0, 1], group], np.ones((2, 1)))


@pytest.mark.parametrize(
    "program",
    [
        ([], [], [], [], []),  # no script
        ([[(10, 0, 0, 0.0)]], [], [], [], []),  # no such request
        ([[(2, 0, 0, 0.0)]], [], [], [], []),  # no such exchange
        ([[(7, 1, 0, 0.0)]], [], [], [], []),  # no such script
        ([[]], [(2, 1.0)], [], [], []),  # a message to no worker
        ([[]], [], [2], [], []),  # from no worker
        ([[]], [], [], [(0, 0, 1, 0, 0)], []),  # an exchange of messages that are not there
        ([[]], [], [], [], [(4, 4, False, True, 1)]),  # no such group
        ([[(0, 0, 2, 0.0)]], [], [], [], []),  # more steps than durations
    ],
)
def test_a_program_that_names_what_is_not_there_is_refused(program: Any) -> None:
    with pytest.raises(ValueError, match=r"script|request|program|worker|group|durations"):
        replay(alike(2), [program], [0, 0], [[0, 1]], np.ones((2, 1)))
