"""Who has begun, ended or failed outside of a run, over an MPI that is played within one process."""

from __future__ import annotations

import json
import sys
from collections import deque
from typing import Any

import pytest
from tests.mpi.wires import together

from loosestep.foundation.errors import PeerFailed, TimedOut
from loosestep.transports.mpi import membership
from loosestep.transports.mpi.membership import Membership


class Dead(Exception):
    """As mpi4py's."""

    def Get_error_string(self) -> str:  # noqa: N802
        return "MPI_ERR_PROC_FAILED: Process Failure"


class Done:
    """A request that has ended."""

    def Test(self) -> bool:  # noqa: N802
        return True

    @staticmethod
    def Testall(requests: Any) -> bool:  # noqa: N802
        return True


class Binding:
    """What of mpi4py.MPI is used."""

    BYTE, Exception, Request = object(), Dead, Done

    def __init__(self) -> None:
        self.finalized = False

    class Status:
        count = 0

        def Get_count(self, kind: Any) -> int:  # noqa: N802
            return self.count

    def Is_finalized(self) -> bool:  # noqa: N802
        return self.finalized

    def Finalize(self) -> None:  # noqa: N802
        self.finalized = True


class World:
    """One process's communicator: boxes by (communicator, from, to)."""

    def __init__(
        self, rank: int, size: int, boxes: dict[Any, deque[bytes]], dead: set[int], name: int = 0
    ) -> None:
        self.rank, self.size, self.boxes, self.dead, self.name = rank, size, boxes, dead, name

    def box(self, source: int, to: int) -> deque[bytes]:
        return self.boxes.setdefault((self.name, source, to), deque())

    def alive(self, rank: int) -> None:
        if rank in self.dead:
            raise Dead

    def Isend(self, message: Any, to: int, tag: int) -> Done:  # noqa: N802
        self.alive(to)
        assert tag <= 32767, "MPI promises no more"
        self.box(self.rank, to).append(bytes(message[0]))
        return Done()

    def Iprobe(self, source: int, tag: int) -> bool:  # noqa: N802
        if not self.box(source, self.rank):
            self.alive(source)
        return bool(self.box(source, self.rank))

    def Probe(self, source: int, tag: int, status: Any) -> None:  # noqa: N802
        status.count = len(self.box(source, self.rank)[0])

    def Recv(self, message: Any, source: int, tag: int) -> None:  # noqa: N802
        message[0][:] = self.box(source, self.rank).popleft()

    def Idup(self) -> tuple[World, Done]:  # noqa: N802
        return World(self.rank, self.size, self.boxes, self.dead, self.name + 1), Done()


def memberships(size: int, dead: set[int] | None = None, *, ends: bool = True) -> list[Membership]:
    boxes: dict[Any, deque[bytes]] = {}
    dead = set() if dead is None else dead
    return [Membership(World(rank, size, boxes, dead), Binding(), ends=ends) for rank in range(size)]


def begin(all_: list[Membership], ranks: list[int], deadline: float = 30) -> list[Any]:
    return together([lambda rank=rank: all_[rank].begin(deadline) for rank in ranks])


def test_all_begin_together_and_again() -> None:
    all_ = memberships(3)
    for run in (1, 2, 3):
        assert begin(all_, [0, 1, 2]) == [None, None, None]
        assert {each.runs for each in all_} == {run}
        assert all(each.inside for each in all_)
    assert {each.comm.name for each in all_} == {1}, "after the first run, not where the user's messages are"


def test_who_has_not_begun_is_named_after_the_deadline(
    capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(membership, "NOTICE", 0.05)
    errors = begin(memberships(4), [0, 2], deadline=0.3)
    words = "worker 1, which has not begun its run; worker 3, which has not begun its run"
    for rank, error in zip((0, 2), errors, strict=True):
        assert isinstance(error, TimedOut)
        assert str(error) == f"worker {rank} waited 0.3 s at its beginning for {words}"
    told = capsys.readouterr().err.splitlines()
    assert f"worker 0 has waited 0 s at its beginning for {words}" in told


def test_a_rank_that_is_late_is_waited_for_as_long_as_the_deadline_says() -> None:
    all_ = memberships(2)
    waiting = together([lambda: all_[0].begin(0.2)])
    assert isinstance(waiting[0], TimedOut)
    all_[0].runs = 0  # as a process with a longer deadline, which waits still
    assert begin(all_, [0, 1], deadline=30) == [None, None]


def test_a_rank_that_ended_before_its_run_is_named() -> None:
    all_ = memberships(3)
    ended, *errors = together([all_[1].end, lambda: all_[0].begin(30), lambda: all_[2].begin(30)])
    assert ended is None, "it does not wait for those who wait for it"
    assert not all_[1].binding.finalized, "MPI's end would wait for them"
    for error in errors:
        assert isinstance(error, PeerFailed)
        assert (str(error), error.rank) == ("worker 1 ended before its run began", 1)


@pytest.mark.parametrize(("runs", "how"), [(1, "after 1 run"), (2, "after 2 runs")])
def test_a_rank_that_ended_before_a_later_run_is_named(runs: int, how: str) -> None:
    all_ = memberships(2)
    for _ in range(runs):
        begin(all_, [0, 1])
    _, error = together([all_[1].end, lambda: all_[0].begin(30)])
    assert isinstance(error, PeerFailed)
    assert str(error) == f"worker 1 ended {how}, and others begin one more"


def test_a_rank_that_died_before_its_run_is_named() -> None:
    (error,) = begin(memberships(2, {1}), [0])
    assert str(error) == "worker 1 failed: without a word (MPI_ERR_PROC_FAILED: Process Failure)"


@pytest.mark.parametrize("runs", [0, 1])
def test_a_rank_that_raises_outside_of_a_run_tells_the_others(runs: int, monkeypatch: Any) -> None:
    all_, codes = memberships(2), []
    monkeypatch.setattr(membership, "leave", codes.append)
    for each in all_:
        each.before = lambda kind, error, trace: None
    if runs:
        begin(all_, [0, 1])
    error = FileNotFoundError("no data for rank 1")
    all_[1].hook(type(error), error, None)
    assert codes == [1] * (1 - runs), "inside a run the session tells"
    all_[1].inside = False
    all_[1].hook(type(error), error, None)
    (heard,) = begin(all_, [0])
    when = "after" if runs else "before"
    assert str(heard) == f"worker 1 failed {when} its run: FileNotFoundError: no data for rank 1"


def test_the_end_of_one_of_two_runs_leaves_the_other_open(monkeypatch: Any) -> None:
    all_, codes = memberships(2), []
    monkeypatch.setattr(membership, "leave", codes.append)
    all_[1].before = lambda kind, error, trace: None
    for _ in range(2):
        begin(all_, [0, 1])
    for still_open in (True, False):
        all_[1].end_run()
        all_[1].hook(ValueError, ValueError("boo"), None)
        assert codes == ([] if still_open else [1])


def test_ctrl_c_outside_of_a_run_is_left_to_python(monkeypatch: Any) -> None:
    (one, _), codes = memberships(2), []
    monkeypatch.setattr(membership, "leave", codes.append)
    one.before = lambda kind, error, trace: None
    one.hook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert codes == []


@pytest.mark.parametrize("runs", [0, 2])
def test_all_enter_the_end_of_mpi_together(runs: int) -> None:
    all_ = memberships(3)
    for _ in range(runs):
        begin(all_, [0, 1, 2])
    assert together([each.end for each in all_]) == [None, None, None]
    assert [each.binding.finalized for each in all_] == [True, True, True]


def test_nobody_enters_the_end_of_mpi_after_a_death() -> None:
    dead: set[int] = set()
    all_ = memberships(3, dead)
    begin(all_, [0, 1, 2])
    dead.add(1)
    assert together([all_[0].end, all_[2].end]) == [None, None]
    assert not any(each.binding.finalized for each in all_)


def test_where_mpi4py_ends_mpi_itself_a_failed_job_is_left_at_once(monkeypatch: Any) -> None:
    codes: list[int] = []
    monkeypatch.setattr(membership, "leave", codes.append)
    memberships(2, {1}, ends=False)[0].end()
    assert codes == [1]
    whole = memberships(2, ends=False)
    together([each.end for each in whole])
    assert codes == [1]
    assert not any(each.binding.finalized for each in whole)


def test_a_forked_copy_begins_no_run_and_has_no_part_in_the_end(monkeypatch: Any) -> None:
    all_ = memberships(2)
    begin(all_, [0, 1])
    with monkeypatch.context() as patch:
        patch.setattr("os.getpid", lambda: 41)
        with pytest.raises(RuntimeError, match="takes no part in its run"):
            all_[1].begin(1)
        all_[1].end()
    assert not any(all_[1].comm.box(1, 0))
    assert not all_[1].binding.finalized


def test_what_is_said_is_json() -> None:
    all_ = memberships(2)
    all_[0].tell("failed", "worker 0 failed: é")
    assert json.loads(all_[0].comm.box(0, 1)[0]) == ["failed", "worker 0 failed: é"]
    all_[1].hear()
    assert all_[1].gone == {0: "worker 0 failed: é"}


def test_the_hook_calls_the_one_before(monkeypatch: Any) -> None:
    called: list[Any] = []
    monkeypatch.setattr(sys, "excepthook", lambda *arguments: called.append(arguments))
    monkeypatch.setattr(membership.atexit, "register", lambda action: None)
    monkeypatch.setattr(membership, "leave", lambda code: None)
    one = memberships(1)[0]
    one.attach()
    sys.excepthook(ValueError, ValueError("boo"), None)
    assert [kind for kind, _, _ in called] == [ValueError]
