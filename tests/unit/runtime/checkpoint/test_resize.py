"""With another number of workers: the consensus, means, the furthest counters, and all totals."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.runtime.playing import program
from tests.unit.sessions import FakeSession
from tests.unit.values import drawn

import loosestep as ls
from loosestep.runtime.checkpoint import resize
from loosestep.transports.metered import Meter


def facts(**values: Any) -> dict[str, Any]:
    """Those of one worker that is gone."""
    return {
        "taken": values.get("taken", 4),
        "seconds": values.get("seconds", 2.0),
        "worker": {
            "clock": values.get("clock", 4),
            "round": values.get("round", 2),
            "updates": 4,
            "samples": values.get("samples", 8),
            "computing": 0.0,
            "communicating": 0.0,
        },
        "program": {"part": 0, "progress": values.get("progress", 0), "met_at": 4, "looked_at": 2},
        "meter": {"waiting": values.get("waiting", 1.0), "requests": values.get("requests", {})},
        "model": {"samples": values.get("samples", 8), "steps": 4, "noted": values.get("losses", (1.0, 8))},
    }


class Parts:
    """A folder of these parts."""

    def __init__(self, *parts: tuple[dict[str, Any], dict[str, Any]]) -> None:
        self.parts, self.workers, self.path = parts, len(parts), "there"

    def read(self, rank: int) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.parts[rank]


@drawn
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5), st.integers(2, 6))
def test_what_all_agree_on_comes_back_to_the_bit(values: list[float], n: int) -> None:
    given_ = np.array(values)
    means = resize.mean_by_name(("x", given_.copy(), weight) for weight in np.linspace(0.1, 3, n))
    assert means["x"].tobytes() == given_.tobytes()


def test_means_are_weighted_by_name() -> None:
    tensors = [("x", np.array([0.0]), 1.0), ("x", np.array([4.0]), 3.0), ("n", np.array([5]), 1.0)]
    tensors += [("n", np.array([9]), 1.0), ("x", np.array([100.0]), 0.0)]
    means = resize.mean_by_name(tensors)
    assert means["x"].tolist() == [3.0]
    assert means["n"].tolist() == [5], "of whole numbers the first"


def test_the_consensus_is_weighted_and_moments_are_not() -> None:
    parts = Parts(
        ({"params": np.array([0.0]), "moment.0": np.array([0.0]), "state.z": np.ones(1)}, facts(samples=1)),
        ({"params": np.array([4.0]), "moment.0": np.array([4.0]), "state.z": np.ones(1)}, facts(samples=3)),
    )
    tensors, told = resize.merged(parts, ls.LocalSGD(2))  # type: ignore[arg-type]
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {"params": [3.0], "moment.0": [2.0]}
    assert [each["worker"]["samples"] for each in told] == [1, 3]


def test_where_the_consensus_is_a_center_that_is_taken() -> None:
    center = ls.EASGD(2).consensus_in
    parts = Parts(
        ({"params": np.zeros(2), center: np.array([5.0, 6.0])}, facts()), ({"params": np.ones(2)}, facts())
    )
    assert resize.merged(parts, ls.EASGD(2))[0]["params"].tolist() == [5, 6]  # type: ignore[arg-type]


def test_where_the_consensus_is_of_several_models_their_mean_is_taken() -> None:
    """Of servers with shares 1 and 3, whose variables the first worker saved; fragments are joined instead."""
    left = {"state.left.n000000": np.array([4.0, 0.0]), "state.left.n000001": np.array([0.0, 8.0])}
    parts = Parts(({"params": np.zeros(2), **left}, facts()), ({"params": np.ones(2)}, facts()))
    gossip = ls.SDFEEL(clients=1, shares=(1.0, 3.0), mode="asynchronous")
    assert resize.merged(parts, gossip)[0]["params"].tolist() == [1, 6]  # type: ignore[arg-type]
    halves = {name: values[:1] for name, values in left.items()}
    parts = Parts(({"params": np.zeros(2), **halves}, facts()), ({"params": np.ones(2)}, facts()))
    assert resize.merged(parts, gossip)[0]["params"].tolist() == [4, 0]  # type: ignore[arg-type]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_worker_goes_on_as_far_as_the_furthest(rank: int) -> None:
    gone = [
        facts(clock=4, round=2, taken=4, losses=(1.0, 8), requests={"Push": [1, 1, 8]}, waiting=1.0),
        facts(clock=6, round=3, taken=6, losses=(2.0, 4), requests={"Push": [2, 2, 16]}, waiting=3.0, seconds=9.0),
        facts(clock=5, round=3, progress=1, taken=5, losses=(0.0, 0), waiting=2.0),
    ]
    one, meter, session = program(ls.LocalSGD(2), 20, rank, 2), Meter(), FakeSession(2, rank)
    tensors = {"params": np.array([1.0, 2.0])}
    folder: Any = SimpleNamespace(path="there")
    resize.rejoin_worker(folder, (tensors, gone), one, meter, session)
    assert one.worker.params.tolist() == [1, 2]
    assert (one.worker.clock, one.worker.round) == (6, 3)
    assert one.model.feed.taken == (4 + 6 + 5) // 2
    assert meter.waiting == 2.0
    assert session.log[-1] == ("resume", rank, 9.0)
    assert meter.requests == ({"Push": [3, 3, 24]} if rank == 0 else {})
    assert (one.model.samples, tuple(one.model.losses)) == ((24, (3.0, 12)) if rank == 0 else (0, (0.0, 0)))


def test_a_round_that_had_begun_begins_again() -> None:
    one = program(ls.LocalSGD(2), 20, 0, 2)
    folder: Any = SimpleNamespace(path="there")
    gone = [facts(round=3, progress=1), facts(round=3, progress=1)]
    resize.rejoin_worker(folder, ({"params": np.zeros(2)}, gone), one, Meter(), FakeSession(2))
    assert (one.worker.round, one.progress) == (2, 0)


@pytest.mark.parametrize(
    ("strategy", "where"),
    [
        (ls.LocalSGD(2), "the mean of the replicas"),
        (ls.EASGD(2), "the saved center"),
        (ls.Hogwild(), "the shared par"),
    ],
)
def test_one_line_says_so(strategy: ls.Strategy, where: str, capsys: pytest.CaptureFixture[str]) -> None:
    resize.report_resize(Parts(({}, {}), ({}, {})), strategy, 3)  # type: ignore[arg-type]
    told = capsys.readouterr().err
    assert told.startswith(f"there was written by 2 workers and goes on with 3: all begin at {where}")
    assert told.count("\n") == 1
