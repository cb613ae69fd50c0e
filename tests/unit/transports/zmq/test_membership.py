"""Who has begun a run, has ended or failed; each process is a thread here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

zmq = pytest.importorskip("zmq")

from tests.mpi.wires import together  # noqa: E402

from loosestep.foundation.errors import PeerFailed, TimedOut  # noqa: E402
from loosestep.transports.zmq import membership, rendezvous  # noqa: E402
from loosestep.transports.zmq.membership import Membership  # noqa: E402
from loosestep.transports.zmq.peers import MARK, Outgoing  # noqa: E402
from loosestep.transports.zmq.place import Place  # noqa: E402


@pytest.fixture
def members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Membership]]:
    monkeypatch.delenv("LOOSESTEP_KEY", raising=False)
    names = iter(range(1000))
    monkeypatch.setattr(rendezvous, "who", lambda: f"process {next(names)}")
    made = [Membership(Place(rank, 2, (f"ipc://{tmp_path}/m",), "j"), "k") for rank in range(2)]
    yield made
    for each in made:
        each.sockets.close(0)


def begun(members: list[Membership]) -> list[Any]:
    return together([partial(each.begin, 20.0) for each in members])


def test_runs_begin_together_one_after_the_other(members: list[Membership]) -> None:
    for run in (1, 2, 3):
        mark = MARK.pack(run)
        assert begun(members) == [mark, mark]
        assert [each.runs for each in members] == [run, run]
        assert all(each.inside for each in members)
        for each in members:
            each.end_run(mark)
            assert not each.inside
    assert members[0].hosts == ((0, 1),)
    assert members[0].local


def test_a_run_begins_beside_an_open_one(members: list[Membership]) -> None:
    assert begun(members) == [MARK.pack(1)] * 2
    assert begun(members) == [MARK.pack(2)] * 2
    for each in members:
        each.end_run(MARK.pack(1))
        assert each.inside, "the second is open"


def test_what_comes_before_the_run_begins_here_is_kept(members: list[Membership]) -> None:
    one, other = members
    begun(members)
    second = MARK.pack(2)
    one.table.open()
    one.tell("begun", 2)
    outgoing = Outgoing(one.peers.ways[1], second)
    outgoing.send(second + b" of the second")
    outgoing.add(memoryview(b"and a part"), None)
    assert other.table.open() == second
    until = time.monotonic() + 10
    while len(other.table.inboxes[second]) < 2:
        assert time.monotonic() < until
        other.hear()
    assert list(other.table.inboxes[second]) == [
        (0, second, second + b" of the second", 0),
        (0, second, None, b"and a part"),
    ]


@pytest.mark.parametrize(
    ("what", "more", "words"),
    [
        ("ended", None, "worker 1 ended after 1 run, and others begin one more"),
        ("failed", "worker 1 failed after its run: KeyError: 1", "worker 1 failed after its run: KeyError: 1"),
    ],
)
def test_who_takes_part_in_no_more_runs_is_not_waited_for(
    what: str, more: Any, words: str, members: list[Membership]
) -> None:
    begun(members)
    members[1].say_last(what, more)
    members[1].say_last("ended", None)  # as every process says in the end
    with pytest.raises(PeerFailed, match=f"^{words}$"):
        members[0].begin(20.0)


def test_who_is_killed_is_not_waited_for(members: list[Membership]) -> None:
    begun(members)
    members[1].sockets.close(0)
    with pytest.raises(PeerFailed, match=r"worker 1 failed: without a word \(its connection is closed\)"):
        members[0].begin(20.0)


def test_who_is_late_is_named(members: list[Membership]) -> None:
    begun(members)
    with pytest.raises(TimedOut, match="worker 0 waited 0.3 s at its beginning for worker 1, which has not begun"):
        members[0].begin(0.3)


def test_an_uncaught_exception_before_the_run_is_told(
    members: list[Membership], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    members[1].before = lambda *given: seen.append(given)
    members[1].hook(KeyboardInterrupt, KeyboardInterrupt(), None)
    members[1].hook(ValueError, ValueError("boo"), None)
    assert len(seen) == 2
    with pytest.raises(PeerFailed, match="^worker 1 failed before its run: ValueError: boo$"):
        members[0].begin(20.0)


def test_a_copy_says_nothing(members: list[Membership], monkeypatch: pytest.MonkeyPatch) -> None:
    begun(members)
    members[1].end_run(MARK.pack(1))
    members[1].original.pid = -1
    members[1].before = lambda *given: None
    members[1].hook(ValueError, ValueError("boo"), None)
    members[1].end()
    members[0].hear()
    assert members[0].gone == {}
    with pytest.raises(RuntimeError, match="takes no part"):
        members[1].begin(1.0)


def test_a_process_has_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[Any] = []
    membership.this_process.cache_clear()
    monkeypatch.setattr(membership.atexit, "register", log.append)
    place = Place(0, 1, (), "alone")
    one = membership.membership(place, None)
    assert membership.membership(place, None) is one
    assert log == [one.end]
    with pytest.raises(RuntimeError, match="is rank 0 of 1 at alone, and cannot be rank 1 of 2 at h as well"):
        membership.membership(Place(1, 2, (), "h"), None)
    one.end()
    membership.this_process.cache_clear()


def test_the_address_of_a_job_of_several_machines_is_not_the_loopback(
    members: list[Membership], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = members[0]
    assert one.address() == "127.0.0.1"
    monkeypatch.setattr(membership._core.Pulse, "addresses", lambda: ["127.0.0.1", "10.0.0.7"])
    one.place = Place(0, 2, ("tcp://localhost4:29400", "tcp://10.0.0.7:1"), "j")
    monkeypatch.setattr(membership, "source_address", lambda host, port: "127.0.0.1")
    assert one.address() == "10.0.0.7"
