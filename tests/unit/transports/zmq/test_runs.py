"""Several runs over one set of connections, which is a list here: each gets its own, in order, whoever reads."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("zmq")

from loosestep.transports.zmq import runs
from loosestep.transports.zmq.peers import MARK, NO_RUN
from loosestep.transports.zmq.runs import Runs

ROOM = bytearray(100)


class Line:
    """Connections on which things lie in order, as `Peers` reads them."""

    def __init__(self) -> None:
        self.rank, self.things = 0, deque[tuple[int, int, bytes, bool]]()
        self.rested: list[Any] = []
        self.reading = threading.Lock()

    def put(self, source: int, run: int, content: bytes, *, part: bool = False) -> None:
        self.things.append((source, run, content, part))

    def read(self, own: bytes, room: Any) -> Any:
        assert self.reading.acquire(blocking=False), "two threads use the connections at once"
        try:
            os.sched_yield()  # another thread may go on here
            if not self.things:
                return None
            source, run, content, part = self.things.popleft()
            mark = MARK.pack(run)
            if not part:
                return source, mark, mark + content, 0
            if mark != own:
                return source, mark, None, content
            room(source)[: len(content)] = content
            return source, mark, None, len(content)
        finally:
            self.reading.release()

    def rest(self, ranks: Any) -> None:
        self.rested.append(ranks)


def table(count: int = 2) -> tuple[Runs, Any, list[bytes], list[Any]]:
    noted: list[Any] = []
    line: Any = Line()
    made = Runs(line, lambda *said: noted.append(said))
    return made, line, [made.open() for _ in range(count)], noted


def room(source: int) -> memoryview:
    return memoryview(ROOM)


def test_each_run_gets_its_own_in_order_whoever_reads() -> None:
    made, line, (one, two), _ = table()
    line.put(1, 2, b"first")
    line.put(1, 2, b"its part", part=True)
    line.put(2, 1, b"for one")
    line.put(1, 2, b"second")
    assert made.take(one, room) == (2, one, one + b"for one", 0)
    assert made.take(one, room) is None
    line.put(1, 2, b"third")
    line.put(1, 2, b"in place", part=True)
    assert [made.take(two, room) for _ in range(5)] == [
        (1, two, two + b"first", 0),
        (1, two, None, b"its part"),
        (1, two, two + b"second", 0),
        (1, two, two + b"third", 0),
        (1, two, None, len(b"in place")),
    ]
    assert ROOM.startswith(b"in place")
    assert made.take(two, room) is None


@given(st.lists(st.tuples(st.integers(1, 2), st.integers(1, 3), st.booleans())), st.randoms(use_true_random=False))
def test_nothing_is_lost_or_reordered(things: list[tuple[int, int, bool]], random: Any) -> None:
    made, line, marks, _ = table(3)
    came: dict[bytes, list[tuple[int, int]]] = {mark: [] for mark in marks}
    for number, (source, run, part) in enumerate(things):
        line.put(source, run, b"%d" % number, part=part)
        for _ in range(random.randrange(3)):
            take(made, random.choice(marks), came)
    for mark in marks * (len(things) + 1):
        take(made, mark, came)
    for run, mark in enumerate(marks, 1):
        assert came[mark] == [(source, n) for n, (source, of, _) in enumerate(things) if of == run]


def take(made: Runs, mark: bytes, came: dict[bytes, list[tuple[int, int]]]) -> None:
    """Note who sent what, of what comes next for a run."""
    arrival = made.take(mark, room)
    if arrival is not None:
        source, _, message, part = arrival
        content = message[MARK.size :] if message else part if isinstance(part, bytes) else bytes(ROOM[:part])
        came[mark].append((source, int(content)))


def test_all_threads_are_served_and_one_reads_at_a_time() -> None:
    made, line, marks, _ = table(2)
    for number in range(400):
        line.put(1, 1 + number % 2, b"%d" % number)
    came: dict[bytes, list[tuple[int, int]]] = {mark: [] for mark in marks}
    failed: list[BaseException] = []

    def consume(mark: bytes) -> None:
        try:
            for _ in range(2000):
                take(made, mark, came)
        except AssertionError as error:
            failed.append(error)

    threads = [threading.Thread(target=consume, args=(mark,)) for mark in marks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for start, mark in enumerate(marks):
        take(made, mark, came)
        assert came[mark] == [(1, number) for number in range(start, 400, 2)]


def test_what_belongs_to_no_run_is_noted() -> None:
    made, line, (one, _), noted = table()
    line.put(1, 0, b"begun")
    assert made.take(one, room) is None
    line.put(2, 0, b"ended")
    assert made.serve()
    assert not made.serve()
    assert noted == [(1, NO_RUN + b"begun"), (2, NO_RUN + b"ended")]


def test_what_has_an_unknown_run_is_dropped_with_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    made, line, (one, two), noted = table()
    for _ in range(2):
        line.put(3, 9, b"of no run")
        line.put(3, 9, b"its part", part=True)
        line.put(3, 0, b"a part of no run", part=True)
    line.put(1, 1, b"known")
    assert made.take(one, room) == (1, one, one + b"known", 0)
    assert (noted, made.take(two, room)) == ([], None)
    assert capsys.readouterr().err.splitlines() == [
        "worker 0 dropped what worker 3 sent for run 9: there were 2 here",
        "worker 0 dropped what worker 3 sent for run 0: there were 2 here",
    ]


def test_a_run_that_is_over_gets_nothing_and_leaves_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    made, line, (one, two), _ = table()
    line.put(1, 1, b"late")
    line.put(1, 1, b"late part", part=True)
    line.put(1, 2, b"in time")
    made.close(one)
    assert made.take(two, room) == (1, two, two + b"in time", 0)
    assert made.refused == {(1, 1): "dropped what worker 1 sent for run 1: that run is over here"}
    assert capsys.readouterr().err == "", "what is late is ordinary"
    assert made.open() == MARK.pack(3), "no number comes twice"


def test_a_run_rests_only_where_nothing_waits_for_it() -> None:
    made, line, (one, two), _ = table()
    line.put(1, 2, b"x")
    made.take(one, room)
    made.rest(two, [])
    assert line.rested == []
    made.rest(one, [4])
    assert line.rested == [[4]]


def test_a_part_without_a_run_has_no_memory() -> None:
    with pytest.raises(RuntimeError, match="a part of a payload of worker 3 has no run"):
        runs.nowhere(3)
