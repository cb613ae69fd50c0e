"""What one process finds wrong is told to all: they go on alike, or raise alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.runtime.checkpoint.runs import quick_disk as quick_disk
from tests.unit.runtime.playing import program
from tests.unit.sessions import FakeSession

import loosestep as ls
from loosestep.foundation.errors import CheckpointError, Diverged
from loosestep.requests import AllReduce
from loosestep.runtime.checkpoint import locking
from loosestep.runtime.checkpoint.manager import CheckpointManager
from loosestep.transports.metered import Meter

SIGNATURE = {"strategy": "A()", "workers": 2}


@pytest.fixture(autouse=True)
def no_lock_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin without the locks that other tests of this process hold, and leave none."""
    monkeypatch.setattr(locking, "held", {})
    yield
    for key in list(locking.held):
        locking.release(key)


def of_rank(session: FakeSession, *others: Any) -> Callable[[Any], list[Any]]:
    """What all say: this process in its place, the others as given."""
    said = list(others)
    return lambda mine: [*said[: session.ranks[0]], mine, *said[session.ranks[0] :]]


def manager_of(path: Path, rank: int = 0, resume: bool = False, **surveys: Any) -> CheckpointManager:
    """Of one of two processes; the other finds nothing wrong, unless it is said."""
    session = FakeSession(2, rank)
    plain = {"checkpoint": ["", "id"], "written": [[1 - rank, [1, 2]]], "not written": []}
    for topic, said in {**plain, **surveys}.items():
        session.surveys[topic] = of_rank(session, said)
    return CheckpointManager(path, SIGNATURE, session, [Meter(), Meter()], resume=resume, keep=2)


def play(requests: Any, others: float = 0.0) -> None:
    """To the end; others have that on the board."""
    for request in requests:
        assert isinstance(request, AllReduce)
        request.buf[:] = np.maximum(request.buf, others)


def test_a_folder_that_one_process_cannot_use_is_refused_by_all(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        CheckpointError, match="^worker 0: cannot write to .*: Not a directory; nothing was trained"
    ):
        manager_of(tmp_path / "file" / "run")
    with pytest.raises(CheckpointError, match="^worker 0: it may not$"):
        manager_of(tmp_path / "new", rank=1, checkpoint=["it may not", "id"])
    assert locking.held == {}, "who is refused lets go of the lock"


def test_a_checkpoint_of_another_run_is_not_overwritten(tmp_path: Path) -> None:
    one = manager_of(tmp_path)
    save(one)
    one.close()
    with pytest.raises(ValueError, match="holds a checkpoint: pass resume=True"):
        manager_of(tmp_path)
    assert locking.held == {}


def save(one: CheckpointManager, step: int = 4, rank: int = 0) -> None:
    """Both parts, by a process that is told of the other's, and the commit."""
    one.folder.begin(one.run)
    worker = program(ls.LocalSGD(2), 10, rank, 2)
    other = program(ls.LocalSGD(2), 10, 1 - rank, 2)
    for each in (worker, other):
        stream = one.save(each, step)
        with pytest.raises(StopIteration) as end:
            next(stream)
        assert end.value.value is False
    parts = sorted(one.written.items())
    one.all_written = lambda: [parts]
    play(one.commit(worker, step, False, True, lambda: {"n": 1}))


def test_a_checkpoint_counts_when_all_parts_are_there(tmp_path: Path) -> None:
    one = manager_of(tmp_path)
    save(one)
    assert (tmp_path / "manifest.json").exists()
    one.close()
    two = manager_of(tmp_path, resume=True)
    two.ask = lambda mine: [mine, mine]  # type: ignore[method-assign]
    assert two.restore([program(ls.LocalSGD(2), 10, 0, 2)], ls.LocalSGD(2)) == {"n": 1}


def test_where_nothing_is_there_the_run_begins(tmp_path: Path) -> None:
    one = manager_of(tmp_path, resume=True)
    one.ask = lambda mine: [mine, mine]  # type: ignore[method-assign]
    assert one.restore([], ls.LocalSGD(2)) is None
    assert one.folder.run == one.run


@pytest.mark.parametrize(
    ("said", "kind", "sentence"),
    [
        ([[1, ["", "the disk is full"]]], CheckpointError, "^worker 1: the disk is full$"),
        ([[1, ["the values of 'x'", 4]]], Diverged, "^the values of 'x' of worker 1 are not finite at step 4"),
    ],
)
def test_a_part_that_failed_elsewhere_is_raised_here(
    said: Any, kind: type[Exception], sentence: str, tmp_path: Path
) -> None:
    one = manager_of(tmp_path, **{"not written": said})
    worker = program(ls.LocalSGD(2), 10, 0, 2)
    assert list(one.save(worker, 4)) == []
    with pytest.raises(kind, match=sentence):
        play(one.commit(worker, 4, True, True, dict))
    assert list(tmp_path.glob("step-*")) == [], "its room is for the next"


def test_a_part_that_cannot_be_written_is_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, worker = manager_of(tmp_path), program(ls.LocalSGD(2), 10, 0, 2)
    worker.worker.params[0] = np.nan
    with pytest.raises(StopIteration) as end:
        next(one.save(worker, 4))
    assert end.value.value is True
    with pytest.raises(Diverged, match="the values of 'params' of worker 0 are not finite at step 4"):
        play(one.commit(worker, 4, True, True, dict))


def test_a_manifest_that_could_not_be_written_ends_the_others_too(tmp_path: Path) -> None:
    one = manager_of(tmp_path, rank=1, **{"not written": [[0, ["", "the disk is full"]]]})
    with pytest.raises(CheckpointError, match="^worker 0: the disk is full$"):
        play(one.commit(program(ls.LocalSGD(2), 10, 1, 2), 4, False, True, dict), others=1.0)


def test_others_follow_what_rank_0_made(tmp_path: Path) -> None:
    one = manager_of(tmp_path, rank=1)
    play(one.commit(program(ls.LocalSGD(2), 10, 1, 2), 4, False, True, dict))
    assert one.folder.current == "step-000000004"
