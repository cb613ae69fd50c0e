"""What of a worker goes into its part, and back: buffers in their places, counters, what is in flight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.runtime.checkpoint.runs import quick_disk as quick_disk
from tests.unit.runtime.playing import Program, program
from tests.unit.sessions import FakeSession

import loosestep as ls
from loosestep.foundation.errors import CheckpointError, Diverged
from loosestep.lowering.requests import Drained
from loosestep.requests import AllReduce
from loosestep.requests.worker import Worker
from loosestep.runtime.checkpoint import state
from loosestep.runtime.checkpoint.folder import Folder
from loosestep.runtime.numpy_model import Feed, NumpyModel
from loosestep.runtime.plan import Plan
from loosestep.transports.metered import Meter


class One:
    """A worker with all that a checkpoint keeps of it."""

    def __init__(self, path: Path, strategy: ls.Strategy, rank: int = 0, resume: bool = False) -> None:
        self.session, self.meter = FakeSession(2, rank), Meter()
        self.session.time.now = 7.5
        worker = Worker(
            rank, 2, np.zeros(3), lambda name, like: self.session.share(rank, name, like), [np.zeros(3)]
        )
        feed = Feed(lambda rank, size: iter(range(100)), rank, 2)
        model = NumpyModel(worker, lambda x, batch: x, feed, ls.Momentum(0.1))
        self.program: Any = Program(Plan(strategy), worker, model)
        self.folder = Folder(path, {"workers": 1 if rank == 0 else 2}, resume=resume)

    def save(self, step: int = 4) -> tuple[int, int]:
        handlers = self.session.endpoint.handlers
        stream = state.save_worker(self.folder, self.program, self.meter, self.session, step)
        while True:
            try:
                request = next(stream)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            handlers[type(request)](request)

    def restore(self) -> None:
        self.folder.use(self.folder.candidates()[0])  # type: ignore[arg-type]
        state.restore_worker(self.folder, self.program, self.meter, self.session)


def saved_and_restored(path: Path, strategy: ls.Strategy, change: Any) -> tuple[One, One]:
    one = One(path, strategy)
    change(one)
    one.folder.commit(4, [one.save()], {})
    other = One(path, strategy, resume=True)
    other.restore()
    return one, other


def test_buffers_come_back_into_their_places(tmp_path: Path) -> None:
    def change(one: One) -> None:
        one.program.worker.params[:] = [1, 2, 3]
        one.program.worker.moments[0][:] = [4, 5, 6]

    _, other = saved_and_restored(tmp_path, ls.LocalSGD(2), change)
    assert other.program.worker.params.tolist() == [1, 2, 3]
    assert other.program.worker.moments[0].tolist() == [4, 5, 6]
    assert other.program.model.snapshot is other.program.worker.params, "addresses never change"


def test_every_counter_comes_back(tmp_path: Path) -> None:
    """Those are found by looking into the file: each is set to a number of its own."""
    numbers: dict[tuple[str, str], Any] = {}

    def change(one: One) -> None:
        for group, owner, names in state.owners(one.program, one.meter):
            for place, attribute in enumerate(dict(names).values()):
                before = getattr(owner, attribute)
                if isinstance(before, int | float):
                    setattr(owner, attribute, type(before)(place + 11) if attribute != "part" else 0)
                numbers[group, attribute] = getattr(owner, attribute)
        one.program.worker.losses = 1.5, 7
        one.program.model.losses, one.meter.requests = (2.5, 9), {"Push": [1, 2, 3]}
        one.program.model.feed.taken = 5

    _, other = saved_and_restored(tmp_path, ls.LocalSGD(2), change)
    for group, owner, names in state.owners(other.program, other.meter):
        for attribute in dict(names).values():
            if (group, attribute) not in {("model", "losses"), ("worker", "losses"), ("meter", "requests")}:
                assert getattr(owner, attribute) == numbers[group, attribute], attribute
    assert len(numbers) >= 14
    assert tuple(other.program.worker.losses) == (1.5, 7)
    assert tuple(other.program.model.losses) == (2.5, 9)
    assert other.meter.requests == {"Push": [1, 2, 3]}
    assert other.program.model.feed.taken == 5
    assert other.program.model.feed.ended() is False
    assert other.program.model.feed.take() == 5, "the sixth batch is next"
    assert ("resume", 0, 7.5) in other.session.log


def test_what_is_shared_is_in_the_first_part_with_its_moves(tmp_path: Path) -> None:
    def change(one: One) -> None:
        (shared,) = one.session.variables.values()
        shared.store.store(np.array([7.0, 8.0, 9.0]), 6)

    _, other = saved_and_restored(tmp_path, ls.EASGD(2), change)
    (shared,) = other.session.variables.values()
    into = np.empty(3)
    assert shared.store.fetch(into, 0) == shared.store.version == 6
    assert into.tolist() == [7, 8, 9]
    second = One(tmp_path / "second", ls.EASGD(2), rank=1)
    second.save()
    found = {path.name for path in (tmp_path / "second").rglob("*.safetensors")}
    assert found == {"rank-00001.safetensors"}
    assert second.session.endpoint.performed == [], "nobody else reads what is shared"


def test_buffers_in_common_are_in_the_first_part_alone(tmp_path: Path) -> None:
    second = One(tmp_path, ls.Hogwild(), rank=1)
    second.save()
    (path,) = tmp_path.rglob("*.safetensors")
    assert path.stat().st_size < 1000
    assert b"params" not in path.read_bytes()[:200]


def test_a_communication_is_kept_as_until_when_to_wait() -> None:
    one = program(ls.LocalSGD(2))
    request, drained = AllReduce(np.zeros(2)), Drained(2.5)
    one.in_flight[request] = drained
    fact = state.to_json(one, "state.request", request)
    assert fact == {"due": 2.5}
    back = state.from_json(fact)
    assert isinstance(back, Drained)
    assert back.due == 2.5
    assert state.to_json(one, "state.request", back) == fact, "also where it was resumed from"


@pytest.mark.parametrize("value", [1, 2.5, "x", None, [1, "y"], True])
def test_plain_values_are_kept_as_they_are(value: Any) -> None:
    one = program(ls.LocalSGD(2))
    assert state.from_json(state.to_json(one, "state.n", value)) == value
    assert state.to_json(one, "state.n", np.float32(0.5)) == 0.5
    with pytest.raises(
        CheckpointError, match="^state.n is of type set, which a checkpoint cannot keep: numbers, "
    ):
        state.to_json(one, "state.n", {1})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_not_kept(bad: float, tmp_path: Path) -> None:
    one = One(tmp_path, ls.LocalSGD(2))
    one.program.worker.moments[0][1] = bad
    with pytest.raises(Diverged, match="the values of 'moment.0' of worker 0 are not finite at step 4"):
        one.save()
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_encoded_words_are_kept_whatever_numbers_their_bits_look_like(tmp_path: Path) -> None:
    def change(one: One) -> None:
        one.program.state.wire.come.view(np.uint64)[:] = 2**64 - 1

    _, other = saved_and_restored(tmp_path, ls.StreamingDiLoCo(2, fragments=2, codec=ls.E3M0()), change)
    assert set(other.program.state.wire.come.view(np.uint64)) == {2**64 - 1}


@pytest.mark.parametrize("saved", [None, np.zeros(2), np.zeros(3, np.float32)])
def test_a_tensor_that_does_not_fit_is_refused(saved: Any) -> None:
    found = "is missing" if saved is None else f"holds {saved.size} {saved.dtype}"
    with pytest.raises(CheckpointError, match=f"^there: params {found}, wanted 3 float64$"):
        state.place(np.zeros(3), saved, "params", "there")


def read(kind: type[Exception]) -> None:
    with state.understood("there"):
        raise kind("x")


@pytest.mark.parametrize("kind", [KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError])
def test_facts_of_another_shape_are_said_of_their_file(kind: type[Exception]) -> None:
    with pytest.raises(CheckpointError, match=f"^there does not hold what this run wants: {kind.__name__}: "):
        read(kind)
