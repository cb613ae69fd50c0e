"""Which threads of libzmq are known, and when they are bound; the system's calls are a table here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loosestep.transports.zmq import cores
from loosestep.transports.zmq.cores import Cores


def start(folder: Path, thread: int, name: str) -> None:
    (folder / str(thread)).mkdir()
    (folder / str(thread) / "comm").write_text(f"{name}\n")


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[int, set[int]]:
    """The cores of each thread."""
    table = {os.getpid(): {0, 1}}

    def bind(thread: int, to: set[int]) -> None:
        if thread == 99:
            raise ProcessLookupError
        table[thread] = to

    monkeypatch.setattr(cores, "TASKS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", table.__getitem__, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", bind, raising=False)
    return table


def test_threads_that_a_context_starts_follow_the_first_one(bound: dict[int, set[int]], tmp_path: Path) -> None:
    start(tmp_path, 5, "ZMQbg/IO/0")
    one = Cores()
    with one.noting():
        for thread, name in ((6, "ZMQbg/IO/0"), (7, "python"), (8, "ZMQbg/Reaper"), (99, "ZMQbg/IO/1")):
            start(tmp_path, thread, name)
    assert one.threads == {6, 8, 99}, "5 is another context's, 7 no thread of libzmq"
    one.follow()
    assert set(bound) == {os.getpid()}, "nothing has changed"
    bound[os.getpid()] = {1}
    one.follow()
    assert bound == {os.getpid(): {1}, 6: {1}, 8: {1}}, "99 has ended"
    del bound[6]
    one.follow()
    assert 6 not in bound
    bound[os.getpid()] = {0, 1}
    one.follow()
    assert bound[6] == {0, 1}


def test_elsewhere_nothing_is_bound(bound: dict[int, set[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "TASKS", Path("/there is none"))
    one = Cores()
    with one.noting():
        pass
    one.follow()
    assert (one.threads, one.cores, set(bound)) == (set(), set(), {os.getpid()})
