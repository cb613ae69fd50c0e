"""One optimizer's share of a checkpoint: what it holds, what it refuses, and what other workers keep of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.unit.runtime.checkpoint.loops import One
from tests.unit.sessions import FakeSession

import loosestep as ls
from loosestep.foundation.errors import CheckpointError, Diverged
from loosestep.runtime.checkpoint import member as module


def share(one: One) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a file would hold."""
    tensors, facts = one.member.part(one.worker.clock)
    return {name: np.array(values) for name, values in tensors.items()}, facts


def test_a_member_says_what_a_run_must_have_in_common() -> None:
    one = One(ls.LocalSGD(2))
    assert type(one.member) is module.Member
    told = one.member.signature()
    assert (told["strategy"], told["optimizer"]) == ("LocalSGD(period=2)", "Velocity")
    assert told["tensors"] == [["weight", [2], "float64"]]
    assert told["parameters"].startswith("2 float64, names, shapes and dtypes ")
    one.contents[0].shapes = lambda: [("weight", (1, 2), "torch.float64")]  # type: ignore[method-assign]
    assert one.member.signature()["parameters"] != told["parameters"]


def test_a_share_is_loaded_where_it_was_saved() -> None:
    one, other = One(), One()
    one.step(3)
    one.contents[0].velocity[:] = [1, 2, 3]
    one.contents[0].rate = 0.25
    tensors, facts = share(one)
    other.member.check(tensors, facts, "there", own=True)
    assert other.worker.clock == 0, "checking changes nothing"
    other.member.load(tensors, facts, "there")
    assert other.worker.params.tolist() == [-3, -3]
    assert other.loop.position() == one.loop.position()
    assert (other.contents[0].velocity.tolist(), other.contents[0].rate) == ([1, 2, 3], 0.25)


def test_what_cannot_be_loaded_is_refused_by_name() -> None:
    one, other = One(), One(ls.LocalSGD(5))
    tensors, facts = share(one)
    with pytest.raises(
        CheckpointError, match=r"of strategy LocalSGD\(period=2\), and this worker's strategy is LocalSGD"
    ):
        other.member.check(tensors, facts, "there", own=True)
    other.member.check(tensors, facts, "there", own=False)
    with pytest.raises(CheckpointError, match="^there: params holds 3 float64, wanted 2 float64$"):
        one.member.check({**tensors, "params": np.zeros(3)}, facts, "there", own=True)
    with pytest.raises(CheckpointError, match="^there holds another velocity$"):
        one.member.check({**tensors, "velocity": np.zeros(4)}, facts, "there", own=True)
    with pytest.raises(CheckpointError, match="there does not hold what this run wants: KeyError: 'velocity'"):
        one.member.check({"params": tensors["params"]}, facts, "there", own=True)
    with pytest.raises(CheckpointError, match="there does not hold what this run wants: KeyError: 'strategy'"):
        one.member.check(tensors, {}, "there", own=True)


def test_it_is_ready_between_steps_while_parameters_are_those_of_the_beginning() -> None:
    one = One(ls.AllReduceSGD(), lambda: FakeSession(2))
    one.member.check_ready()
    one.contents[0].changed = True
    with pytest.raises(RuntimeError, match="a parameter was replaced"):
        one.member.check_ready()
    one.contents[0].changed = False
    one.loop.perform_early(lambda request: True)
    with pytest.raises(RuntimeError, match="belongs between steps"):
        one.member.check_ready()


def test_what_is_not_finite_is_not_saved() -> None:
    one = One(ls.CoCoDSGD(2), lambda: FakeSession(2))
    one.step(2)
    one.member.check_finite()
    kept = next(iter(module.saved(one.loop)["tensors"]))
    holder = one.loop.program.state
    for values in vars(holder).values():
        if isinstance(values, np.ndarray):
            values[0] = np.inf
    with pytest.raises(Diverged, match=f"the values of '{kept}'"):
        one.member.part(2)
    one.worker.params[1] = np.nan
    with pytest.raises(Diverged, match="parameters or optimizer buffers of worker 0 are not finite at step 2"):
        one.member.check_finite()


def test_encoded_words_are_saved_whatever_numbers_their_bits_look_like() -> None:
    one = One(ls.StreamingDiLoCo(2, fragments=2, codec=ls.E3M0()), lambda: FakeSession(2))
    one.loop.program.state.wire.mine[:] = np.nan
    tensors, _ = share(one)
    assert np.isnan(tensors["state.wire.mine"]).all()


def test_with_another_number_of_workers_it_begins_as_far_as_the_furthest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parts = [One(), One()]
    for steps, one in zip((3, 5), parts, strict=True):
        one.step(steps)
    shares = [share(one) for one in parts]
    shares[0][0]["velocity"][:] = 7
    other, folder = One(), SimpleNamespace(path=Path("there"), workers=2)
    other.member.rejoin(folder, {**shares[0][0], "params": np.full(2, -4.0)}, [facts for _, facts in shares])  # type: ignore[arg-type]
    position = other.loop.position()
    assert (position["clock"], position["updates"], position["round"]) == (5, 5, 3)
    assert (position["samples"], position["progress"], position["inside"]) == (0, 0, False)
    assert other.worker.params.tolist() == [-4, -4]
    assert other.contents[0].velocity.tolist() == [7, 7, 7]
    assert "2 workers" in capsys.readouterr().err
