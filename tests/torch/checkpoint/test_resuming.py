"""State dicts and checkpoint folders of one worker: what goes on to the same bits, and what is refused."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import (  # noqa: E402
    OPTIMIZERS,
    assert_same_bits,
    batches,
    left_behind,
    mlp,
    normalized,
    parallel,
    train,
)
from torch import nn  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402
from loosestep.foundation.errors import CheckpointError  # noqa: E402
from loosestep.requests import Gradient  # noqa: E402

STRATEGIES = [ls.AllReduceSGD(), ls.LocalSGD(4), ls.CDSGD(), ls.EASGD(4), ls.Downpour(4), ls.SyncEASGD(4)]


@pytest.mark.parametrize("at", [4, 6])
@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_a_resumed_run_has_the_same_bits(strategy: ls.Strategy, at: int) -> None:
    torch.manual_seed(0)
    net = mlp()
    optimizer = parallel(net, strategy)
    data = list(batches(11))
    train(net, optimizer, data[:at])
    saved = copy.deepcopy((optimizer.state_dict(), net.state_dict()))
    train(net, optimizer, data[at:])

    other = mlp()
    resumed = parallel(other, strategy)
    other.load_state_dict(saved[1])
    resumed.load_state_dict(saved[0])
    assert resumed.worker.clock == at
    train(other, resumed, data[at:])
    assert_same_bits(left_behind(other, resumed.inner), left_behind(net, optimizer.inner))
    assert resumed.worker.round == optimizer.worker.round
    with optimizer.consensus(), resumed.consensus():
        np.testing.assert_array_equal(resumed.worker.params, optimizer.worker.params)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_a_folder_resumes_to_the_same_bits(strategy: ls.Strategy, name: str, tmp_path: Path) -> None:
    """Parameters, statistics, a frozen layer, the optimizer, random numbers: all are in it, and a note."""

    def start(seed: int) -> tuple[nn.Module, Any]:
        torch.manual_seed(seed)
        net = nn.Sequential(normalized(), nn.Dropout(0.5), nn.Linear(3, 3).requires_grad_(False))
        return net, loosestep.torch.parallel(net, OPTIMIZERS[name](list(net.parameters())), strategy, ls.Serial())

    net, optimizer = start(0)
    data = list(batches(11))
    assert optimizer.restore(tmp_path) is None
    train(net, optimizer, data[:3])
    optimizer.save(tmp_path, "older")
    train(net, optimizer, data[3:6])
    optimizer.save(tmp_path, {"taken": 6})
    train(net, optimizer, data[6:])

    other, resumed = start(1)
    with pytest.raises(ValueError, match="holds a checkpoint: call restore\\(folder\\) first to go on from it"):
        resumed.save(tmp_path)
    assert resumed.restore(tmp_path) == {"taken": 6}
    train(other, resumed, data[6:])
    assert_same_bits(left_behind(other, resumed.inner), left_behind(net, optimizer.inner))
    with optimizer.consensus(), resumed.consensus():
        np.testing.assert_array_equal(resumed.worker.params, optimizer.worker.params)


def test_what_a_folder_refuses(tmp_path: Path) -> None:
    optimizer = parallel(strategy=ls.LocalSGD(4))
    for note in ({1: 2}, (1, 2), {"a": {1, 2}}):
        with pytest.raises(TypeError, match="JSON"):
            optimizer.save(tmp_path, note)
    optimizer.save(tmp_path)
    for change, said in (
        ({"strategy": ls.LocalSGD(5)}, r"written with strategy LocalSGD\(period=4\), this run has LocalSGD"),
        (
            {"net": nn.Linear(5, 3), "strategy": ls.LocalSGD(4)},
            r"written with tensor 0 '0.weight' \(7, 5\) float32, this run has 'weight' \(3, 5\) float32$",
        ),
    ):
        with pytest.raises(CheckpointError, match=said):
            parallel(**change).restore(tmp_path)
    (part,) = tmp_path.glob("step-*/rank-00000.safetensors")
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        parallel(strategy=ls.LocalSGD(4)).restore(tmp_path)


def test_a_round_that_begins_with_an_exchange_begins_in_backward() -> None:
    """EASGD's published order meets the center beside the gradient; between two steps nothing is under way."""
    strategy = ls.EASGD(1, order="published")
    whole, halves = mlp(), mlp()
    halves.load_state_dict(whole.state_dict())
    optimizer, first = parallel(whole, strategy), parallel(halves, strategy)
    optimizer.averages.alone = False  # as where there are others: one alone begins nothing in backward
    for number, (x, y) in enumerate(batches(6)):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(whole(x), y)
        counted = optimizer.meter.requests.get("Start", [0])[0]
        assert counted == number, "not before there is a step to make"
        loss.backward()
        assert type(optimizer.loop.pending) is Gradient, "the exchange was started, its wait comes with step()"
        optimizer.step()
    train(halves, first, itertools.islice(batches(6), 3))
    state = copy.deepcopy((halves.state_dict(), first.state_dict()))
    position = state[1]["loosestep"]["position"]
    assert (position["clock"], position["round"], position["progress"]) == (3, 3, 0)
    again = mlp()
    again.load_state_dict(state[0])
    second = parallel(again, strategy)
    second.load_state_dict(state[1])
    train(again, second, itertools.islice(batches(6), 3, None))
    assert all(map(torch.equal, whole.parameters(), again.parameters()))


@pytest.mark.parametrize(
    ("strategy", "kind", "count"),
    [(ls.EASGD(2, order="published"), "Start", 2), (ls.EASGD(2), "Elastic", 2), (ls.Downpour(2), "Push", 2)],
    ids=repr,
)
def test_the_end_of_the_data_begins_no_further_round(strategy: ls.Strategy, kind: str, count: int) -> None:
    net = mlp()
    optimizer = parallel(net, strategy)
    with optimizer:
        train(net, optimizer, batches(4))
    assert (optimizer.meter.requests[kind][0], optimizer.worker.clock) == (count, 4)


def test_another_strategys_state_is_refused() -> None:
    state = parallel(strategy=ls.EASGD(4)).state_dict()
    with pytest.raises(CheckpointError, match=r"of strategy EASGD\(period=4\), and this worker's"):
        parallel(strategy=ls.EASGD(5)).load_state_dict(state)
