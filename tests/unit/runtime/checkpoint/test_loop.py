"""A checkpoint of a user's loop counts when all workers have written their parts; all read it back alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.runtime.checkpoint.loops import One, Together
from tests.unit.runtime.checkpoint.runs import newest, quick_disk
from tests.unit.sessions import FakeSession

import loosestep as ls
from loosestep.foundation.errors import CheckpointError, Diverged
from loosestep.runtime.checkpoint import loop

__all__ = ["quick_disk"]


def held(folder: Path) -> list[str]:
    """Return the names of the checkpoints in a folder."""
    return sorted(each.name for each in folder.glob("step-*"))


def saved(folder: Path, steps: int = 3, **options: Any) -> One:
    """Save one worker's loop after so many steps, as a job that has ended."""
    one = One(**options)
    one.step(steps)
    one.contents[0].velocity[:] = steps
    one.beside.drawn = 10 * steps
    one.checkpoints.save(folder, {"epoch": steps}, also={"best": 0.5})
    one.checkpoints.close()
    return one


def test_a_checkpoint_is_a_manifest_and_a_part_and_gives_everything_back(tmp_path: Path) -> None:
    one, other = saved(tmp_path), One()
    assert held(tmp_path) == ["step-000000003"]
    assert sorted(each.name for each in newest(tmp_path).iterdir()) == ["manifest.json", "rank-00000.safetensors"]
    also = {"best": 0.0}
    assert other.checkpoints.restore(tmp_path, also) == {"epoch": 3}
    assert also == {"best": 0.5}
    assert other.beside.drawn == 30
    assert other.worker.params.tolist() == [-3, -3]
    assert other.contents[0].velocity.tolist() == [3, 3, 3]
    assert other.loop.position() == one.loop.position()
    other.step()
    other.checkpoints.save(tmp_path, None)
    assert held(tmp_path) == ["step-000000003", "step-000000004"]
    other.checkpoints.close()


def test_where_there_is_none_nothing_is_restored(tmp_path: Path) -> None:
    one = One()
    one.step(2)
    assert one.checkpoints.restore(tmp_path / "new") is None
    assert one.worker.clock == 2
    run = one.checkpoints.folder(tmp_path / "new").run
    assert run, "what is saved from now on belongs to the run that found nothing"
    one.checkpoints.save(tmp_path / "new", None)
    assert json.loads((tmp_path / "new" / "manifest.json").read_text())["run"] == run
    one.checkpoints.close()


@pytest.mark.parametrize(("keep", "names"), [(1, ["4"]), (2, ["3", "4"]), (3, ["2", "3", "4"])])
def test_as_many_are_kept_as_asked_for(tmp_path: Path, keep: int, names: list[str]) -> None:
    one = One()
    for _ in range(4):
        one.step()
        one.checkpoints.save(tmp_path, None, keep=keep)
    assert [name[-1] for name in held(tmp_path)] == names
    assert newest(tmp_path).name == "step-000000004"
    one.checkpoints.close()


def test_members_are_of_one_moment_and_their_names_stay_apart(tmp_path: Path) -> None:
    one, other = One(members=2), One(members=2)
    one.step(3)
    one.contents[0].velocity[:], one.contents[1].velocity[:] = 1, 2
    one.contents[1].rate = 0.125
    one.checkpoints.save(tmp_path, "both")
    one.checkpoints.close()
    assert held(tmp_path) == ["step-000000003"]
    assert one.checkpoints.signature()["optimizer"] == "Velocity and Velocity"
    assert other.checkpoints.restore(tmp_path) == "both"
    other.checkpoints.close()
    assert [each.velocity.tolist() for each in other.contents] == [[1, 1, 1], [2, 2, 2]]
    assert [each.rate for each in other.contents] == [0.5, 0.125]
    assert [each.worker.clock for each in other.users] == [3, 3]
    with pytest.raises(CheckpointError, match="was written with"):
        One().checkpoints.restore(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda one: setattr(one.contents[1], "changed", True), "a parameter was replaced"),
        (lambda one: one.users[1].worker.params.fill(float("nan")), "not finite"),
        (lambda one: setattr(one.contents[1], "save", lambda tensors: {}["rate"]), "rate"),
    ],
    ids=["not ready", "not finite", "while it is written"],
)
def test_a_member_that_fails_leaves_the_checkpoint_before(
    tmp_path: Path, spoil: Callable[[One], None], error: str
) -> None:
    one = One(members=2)
    one.step()
    one.checkpoints.save(tmp_path, 1)
    before = (tmp_path / "manifest.json").read_bytes()
    one.step()
    spoil(one)
    with pytest.raises((RuntimeError, Diverged, KeyError), match=error):
        one.checkpoints.save(tmp_path, 2)
    one.checkpoints.close()
    assert held(tmp_path) == ["step-000000001"]
    assert (tmp_path / "manifest.json").read_bytes() == before
    assert One(members=2).checkpoints.restore(tmp_path) == 1


def test_what_is_refused_changes_nothing(tmp_path: Path) -> None:
    saved(tmp_path)
    for one, also, message in [
        (One(ls.LocalSGD(5)), {"best": 0.0}, r"written with strategy LocalSGD\(period=2\), this run has LocalSGD"),
        (One(), {"worst": 0.0}, r"was saved with also= of \['best'\]"),
        (One(members=2), {"best": 0.0}, "was written with"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            one.checkpoints.restore(tmp_path, also)
        one.checkpoints.close()
        assert (one.worker.clock, one.worker.params.tolist()) == (0, [0, 0])
    fresh = One()
    with pytest.raises(ValueError, match=r"holds a checkpoint: call restore\(folder\) first to go on from it"):
        fresh.checkpoints.save(tmp_path, None)
    with pytest.raises(TypeError, match="also is of type int"):
        fresh.checkpoints.save(tmp_path / "new", None, also=3)
    fresh.checkpoints.close()
    assert not (tmp_path / "new").exists()


def test_workers_write_a_part_each_under_one_manifest(tmp_path: Path) -> None:
    def write(rank: int, together: Together) -> One:
        one = One(session=lambda: together.session(rank))
        one.step(2)
        one.contents[0].velocity[:] = rank
        one.checkpoints.save(tmp_path, {"epoch": 1})
        one.checkpoints.close()
        return one

    def read(rank: int, together: Together) -> Any:
        one = One(session=lambda: together.session(rank))
        note = one.checkpoints.restore(tmp_path)
        one.checkpoints.close()
        return note, one.worker.clock, one.contents[0].velocity.tolist()

    two = Together(2)
    wrote = two.each(lambda rank: write(rank, two))
    assert [one.checkpoints.folder(tmp_path).current for one in wrote] == ["step-000000002"] * 2
    assert len(list(tmp_path.rglob("manifest.json"))) == 2, "one of the folder, its copy in the checkpoint"
    assert sorted(each.name for each in newest(tmp_path).glob("rank-*")) == [
        f"rank-0000{rank}.safetensors" for rank in range(2)
    ]
    assert json.loads((tmp_path / "manifest.json").read_text())["signature"]["workers"] == 2
    again = Together(2)
    assert again.each(lambda rank: read(rank, again)) == [({"epoch": 1}, 2, [rank] * 3) for rank in range(2)]
    alone = One()
    assert alone.checkpoints.restore(tmp_path) == {"epoch": 1}, "one worker goes on from the mean of two"
    assert (alone.worker.params.tolist(), alone.worker.clock) == ([-2, -2], 2)
    assert alone.contents[0].velocity.tolist() == [0.5] * 3
    alone.checkpoints.close()


@pytest.mark.parametrize("failing", [0, 1])
def test_where_one_worker_cannot_write_all_raise_and_the_one_before_stays(tmp_path: Path, failing: int) -> None:
    def write(rank: int, together: Together) -> list[str]:
        one = One(session=lambda: together.session(rank))
        one.step(2)
        one.checkpoints.save(tmp_path, "first")
        one.step(2)
        save = one.contents[0].save
        if rank == failing:
            one.contents[0].save = lambda tensors: {}["rate"]  # type: ignore[method-assign]
        try:
            one.checkpoints.save(tmp_path, "second")
        except Exception as error:
            said = [f"{type(error).__name__}: {error}"]
        together.barrier.wait()
        said += held(tmp_path)
        together.barrier.wait()
        one.contents[0].save = save  # type: ignore[method-assign]
        one.checkpoints.save(tmp_path, "third")
        together.barrier.wait()
        one.checkpoints.close()
        return [*said, *held(tmp_path)]

    two = Together(2)
    stay = ["step-000000002"]
    after = [*stay, "step-000000002", "step-000000004"]
    found = two.each(lambda rank: write(rank, two))
    assert found[failing] == ["KeyError: 'rate'", *after]
    assert found[1 - failing] == [f"CheckpointError: worker {failing}: KeyError: 'rate' (in save())", *after]


def test_a_manifest_that_cannot_be_written_does_not_count_and_its_name_is_not_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = One()
    one.step()
    one.checkpoints.save(tmp_path, 1)
    folder = one.checkpoints.folder(tmp_path)
    one.step()
    with monkeypatch.context() as patch:
        patch.setattr(folder, "commit", lambda *_: (_ for _ in ()).throw(CheckpointError("no room")))
        with pytest.raises(CheckpointError, match="no room"):
            one.checkpoints.save(tmp_path, 2)
    assert newest(tmp_path).name == "step-000000001"
    one.checkpoints.save(tmp_path, 3)
    one.checkpoints.close()
    assert newest(tmp_path).name == "step-000000002-again"
    assert held(tmp_path) == ["step-000000001", "step-000000002-again"]


def test_workers_must_keep_alike(tmp_path: Path) -> None:
    session = FakeSession(2)
    session.surveys["word"] = lambda mine: [mine, [[*mine[0][:2], 5], None]]
    with pytest.raises(ValueError, match="keep is 2 on worker 0 and 5 on worker 1: say the same on all workers"):
        One(session=lambda: session).checkpoints.save(tmp_path, None)
    loop.check_alike("keep", [2, 2], str)


def test_a_folder_is_one_however_it_is_spelled(tmp_path: Path) -> None:
    checkpoints = One().checkpoints
    assert checkpoints.folder(tmp_path / "a") is checkpoints.folder(f"{tmp_path}/b/../a")
    assert checkpoints.folder(tmp_path / "a") is not checkpoints.folder(tmp_path / "b")


def test_a_folder_is_locked_until_it_is_closed(tmp_path: Path) -> None:
    one, other = One(), One()
    one.checkpoints.save(tmp_path, 1)
    key = one.checkpoints.folder(tmp_path).key
    assert key
    one.checkpoints.close()
    assert not one.checkpoints.folder(tmp_path).key
    assert other.checkpoints.restore(tmp_path) == 1
    other.checkpoints.close()


@pytest.mark.parametrize(
    "note",
    [None, True, 3, "three", 0.1, [1, [2.5]], {"a": {"b": []}}, {"best": float("inf"), "of": [float("-inf")]}],
)
def test_a_note_that_json_gives_back(note: Any, tmp_path: Path) -> None:
    one = One()
    one.checkpoints.save(tmp_path, note)
    one.checkpoints.close()
    found = One()
    restored = found.checkpoints.restore(tmp_path)
    found.checkpoints.close()
    assert restored == note
    assert type(restored) is type(note)


@pytest.mark.parametrize(
    ("note", "message"),
    [
        (float("nan"), "^note is nan, which equals nothing"),
        ({"loss": [0.5, float("nan")]}, r"^note\['loss'\]\[1\] is nan, which"),
        ({1: 2}, "^note has the key 1: keys must be strings"),
        ([(1, 2)], r"^note\[0\] is of type tuple, which JSON does not give back unchanged"),
    ],
    ids=["nan", "nan within", "key", "tuple"],
)
def test_a_note_that_json_would_change_is_refused(note: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        loop.check_note(note)
