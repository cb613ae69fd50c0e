"""What is saved beside model and optimizer, several optimizers in one checkpoint, and dicts from elsewhere."""

from __future__ import annotations

import copy
import random
import re
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import (  # noqa: E402
    adamw,
    assert_same_bits,
    batches,
    left_behind,
    mlp,
    momentum,
    parallel,
    seeded,
    step,
    train,
)
from tests.unit.in_threads import together  # noqa: E402
from torch.optim import lr_scheduler, swa_utils  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402
from loosestep.foundation.errors import CheckpointError, Mismatch  # noqa: E402

# --- also --------------------------------------------------------------------------------------------------


def with_helpers(seed: int) -> tuple[Any, Any, list[Any]]:
    net = seeded(seed)
    optimizer = parallel(net, strategy=ls.LocalSGD(4))
    helpers = [
        swa_utils.AveragedModel(net, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9)),
        lr_scheduler.MultiStepLR(optimizer, [2, 5], 0.5),
        lr_scheduler.ReduceLROnPlateau(optimizer, patience=1),
        torch.amp.GradScaler("cpu"),
        optimizer.shard(64, 4),
    ]
    return net, optimizer, helpers


def learn(net: Any, optimizer: Any, helpers: list[Any], first: int, last: int) -> None:
    ema, steps, plateau, scaler, _ = helpers
    for number in range(first, last):
        step(net, optimizer, number)
        ema.update_parameters(net)
        steps.step()
        plateau.step(1.0)
        scaler.scale(torch.ones(()))
        scaler.update(2.0**number)


@pytest.mark.parametrize("first", range(7))
def test_what_a_loop_holds_goes_on_too(first: int, tmp_path: Path) -> None:
    net, optimizer, helpers = with_helpers(0)
    with optimizer:
        learn(net, optimizer, helpers, 0, first)
        optimizer.save(tmp_path, {"epoch": 1}, also=helpers)
        learn(net, optimizer, helpers, first, 7)
    other, resumed, others = with_helpers(1)
    with resumed:
        assert resumed.restore(tmp_path, also=others) == {"epoch": 1}
        learn(other, resumed, others, first, 7)
    for mine, yours in zip((net, helpers[0]), (other, others[0]), strict=True):
        assert all(map(torch.equal, mine.state_dict().values(), yours.state_dict().values()))
    assert [each.state_dict() for each in helpers[1:]] == [each.state_dict() for each in others[1:]]
    assert optimizer.param_groups[0]["lr"] == resumed.param_groups[0]["lr"]


class Holder:
    """Any object with a state."""

    def __init__(self, state: Any = None) -> None:
        self.state = state

    def state_dict(self) -> Any:
        return self.state

    def load_state_dict(self, state: Any) -> None:
        self.state = state


@pytest.mark.parametrize("named", [False, True])
def test_groups_may_hold_their_parameters_in_any_order(named: bool, tmp_path: Path) -> None:
    """As those of a set do, which has another order in every process."""

    def made(order: tuple[int, ...]) -> Any:
        net = seeded(0)
        every = list(net.named_parameters() if named else net.parameters())
        groups = [{"params": [every[0]]}, {"params": [every[place] for place in order], "weight_decay": 0.1}]
        return net, loosestep.torch.parallel(net, torch.optim.AdamW(groups, 0.1), ls.LocalSGD(4), ls.Serial())

    net, optimizer = made((1, 2, 3))
    train(net, optimizer, batches(3))
    optimizer.save(tmp_path)
    train(net, optimizer, list(batches(6))[3:])
    for order in ((3, 2, 1), (2, 1, 3)):
        other, resumed = made(order)
        resumed.restore(tmp_path)
        train(other, resumed, list(batches(6))[3:])
        for one, found in zip(net.parameters(), other.parameters(), strict=True):
            assert torch.equal(one, found)
            assert torch.equal(optimizer.state[one]["exp_avg"], resumed.state[found]["exp_avg"])
        resumed.close()


def test_states_of_every_kind_come_back_as_they_were(tmp_path: Path) -> None:
    state = {
        "numbers": [1, 2.5, None, True, float("inf"), (1, (2,)), np.float32(0.5)],
        "by": {1: "a", (2, 3): {"x": torch.ones(2, dtype=torch.bfloat16)}},
        "a": {"b": torch.zeros(3)},
        "a.b": torch.ones(4),  # would have the same name
        "counts": Counter({7: 2}),
        "ordered": OrderedDict(z=1, y=2),
        "array": np.arange(6, dtype=np.int16).reshape(2, 3).T,
        "empty": [{}, [], ()],
    }
    parallel().save(tmp_path, also=[Holder(state)])
    found = Holder()
    parallel().restore(tmp_path, also=[found])
    assert repr(found.state).replace("OrderedDict({'z': 1, 'y': 2})", "{'z': 1, 'y': 2}") == repr(
        state | {"ordered": {"z": 1, "y": 2}}
    )
    assert found.state["counts"].most_common() == [(7, 2)]


def test_other_objects_than_were_saved_are_refused_before_anything_changes(tmp_path: Path) -> None:
    net, optimizer, helpers = with_helpers(0)
    learn(net, optimizer, helpers, 0, 2)
    optimizer.save(tmp_path, also=helpers[:2])
    other, resumed, others = with_helpers(1)
    before = left_behind(other, resumed.inner)
    said = r"was saved with also=\[AveragedModel, MultiStepLR\], and restore\(\) has also=\[{}\]: give objects"
    for also, words in (((), ""), (others[:1], "AveragedModel"), (others[1::-1], "MultiStepLR, AveragedModel")):
        with pytest.raises(CheckpointError, match=said.format(words)):
            resumed.restore(tmp_path, also=also)
    assert all(map(torch.equal, before, left_behind(other, resumed.inner)))
    for bad, words in ((optimizer, "also must be a list of objects"), ([print], r"also\[0\] is of type builtin")):
        with pytest.raises(TypeError, match=words):
            optimizer.save(tmp_path, also=bad)
    with pytest.raises(TypeError, match=r"save\(\) cannot write also\.0\.f, which is of type function"):
        optimizer.save(tmp_path, also=[Holder({"f": lambda: None})])


def test_every_global_generator_goes_on(tmp_path: Path) -> None:
    def drawn() -> Any:
        return [random.random(), random.gauss(0, 1), np.random.rand(3).tolist(), np.random.normal(), torch.rand(2)]

    net = mlp()
    optimizer = parallel(net)
    drawn()
    optimizer.save(tmp_path)
    wanted = drawn()
    random.seed(5), np.random.seed(6), torch.manual_seed(7)
    optimizer.restore(tmp_path)
    assert str(drawn()) == str(wanted)
    kept = np.random.get_state()
    np.random.set_state(kept)


# --- several optimizers ------------------------------------------------------------------------------------


def pair(on: Any, seed: int = 0) -> tuple[list[Any], list[Any]]:
    nets = [seeded(seed), seeded(seed + 7)]
    makers = (momentum, adamw)
    strategies = (ls.LocalSGD(3), ls.AllReduceSGD())
    made = [
        loosestep.torch.parallel(net, make(list(net.parameters())), strategy, each)
        for net, make, strategy, each in zip(nets, makers, strategies, on, strict=True)
    ]
    return nets, made


def test_several_optimizers_are_of_one_moment(tmp_path: Path) -> None:
    """Both go on from one checkpoint, which neither reads alone."""
    on = (ls.Serial(), ls.Serial())
    nets, optimizers = pair(on)
    for number in range(4):
        for net, optimizer in zip(nets, optimizers, strict=True):
            step(net, optimizer, number)
    loosestep.torch.save_together(tmp_path, optimizers, {"epoch": 2})
    wanted = [left_behind(net, each.inner) for net, each in zip(nets, optimizers, strict=True)]
    step(nets[0], optimizers[0])
    others, resumed = pair(on, seed=3)
    assert loosestep.torch.restore_together(tmp_path, resumed) == {"epoch": 2}
    found = [left_behind(net, each.inner) for net, each in zip(others, resumed, strict=True)]
    for one, other in zip(wanted, found, strict=True):
        assert_same_bits(one, other)
    assert [each.worker.clock for each in resumed] == [4, 4]
    said = r"was written with strategy LocalSGD\(period=3\) and AllReduceSGD\(\), this run has LocalSGD"
    with pytest.raises(CheckpointError, match=said):
        optimizers[0].restore(tmp_path)


def test_what_cannot_be_saved_together_is_refused(tmp_path: Path) -> None:
    _, (one, other) = pair((ls.Serial(), ls.Serial()))
    for bad, kind, words in (
        ([one, one], ValueError, "at least one, and none of them twice"),
        ([], ValueError, "at least one"),
        ([one, one.inner], TypeError, r"optimizers\[1\] must be what parallel\(\) returns, got SGD"),
    ):
        with pytest.raises(kind, match=words):
            loosestep.torch.save_together(tmp_path, bad)
    other.close()
    with pytest.raises(RuntimeError, match=r"the run has ended: save\(\) belongs inside"):
        loosestep.torch.save_together(tmp_path, [one, other])


# --- dicts from elsewhere ----------------------------------------------------------------------------------


def initial(seed: int) -> Any:
    """A network that does not depend on what other threads draw."""
    net, generator = mlp(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for param in net.parameters():
            param.copy_(torch.randn(param.shape, generator=generator) / 3)
    return net


def test_one_workers_dict_serves_all_where_all_are_alike() -> None:
    """DDP's habit, under AllReduceSGD, also with another number of workers; not where replicas differ."""

    def trained(on: Any, strategy: ls.Strategy) -> Any:
        net = initial(0)
        optimizer = loosestep.torch.parallel(net, adamw(list(net.parameters())), strategy, on)
        with optimizer:
            for number in range(5):
                step(net, optimizer, number)
            kept = {name: value.clone() for name, value in net.state_dict().items()}
            return kept, optimizer.state_dict()

    def go_on(on: Any, strategy: ls.Strategy, saved: Any) -> Any:
        net = initial(0)
        optimizer = loosestep.torch.parallel(net, adamw(list(net.parameters())), strategy, on)
        with optimizer:
            net.load_state_dict(saved[0])
            optimizer.load_state_dict(copy.deepcopy(saved[1]))  # torch loads buffers as they are
            for number in range(3):
                step(net, optimizer, number)
            return optimizer.worker.clock, [tensor.tolist() for tensor in left_behind(net, optimizer.inner)]

    saved = together(2, lambda on: trained(on, ls.AllReduceSGD()))
    own = together(2, lambda on: go_on(on, ls.AllReduceSGD(), saved[on.rank]))
    assert together(2, lambda on: go_on(on, ls.AllReduceSGD(), saved[0])) == own
    assert go_on(ls.Serial(), ls.AllReduceSGD(), saved[0])[0] == 8
    local = together(2, lambda on: trained(on, ls.LocalSGD(4)))
    said = "the state dict is of rank 0, and this worker's rank is 1: every worker saves and loads its own"
    _, error = together(2, lambda on: go_on(on, ls.LocalSGD(4), local[0]), errors=True)
    assert isinstance(error, CheckpointError)
    assert said in str(error)


@pytest.mark.parametrize("strategy", [ls.AllReduceSGD(), ls.LocalSGD(2), ls.DiLoCo(2), ls.EASGD(2)], ids=repr)
def test_a_plain_optimizers_dict_begins_the_run_anew(strategy: ls.Strategy) -> None:
    """As if model and optimizer had been loaded before parallel(): also where a center was made before."""
    alone = seeded(0)
    plain = momentum(list(alone.parameters()))
    for x, y in batches(3):
        plain.zero_grad()
        torch.nn.functional.cross_entropy(alone(x), y).backward()
        plain.step()

    def run(on: Any, *, before: bool) -> Any:
        saved = copy.deepcopy((alone.state_dict(), plain.state_dict()))  # torch loads buffers as they are
        net = initial(1)
        inner = momentum(list(net.parameters()))
        if before:
            net.load_state_dict(saved[0])
            inner.load_state_dict(saved[1])
        optimizer = loosestep.torch.parallel(net, inner, strategy, on)
        with optimizer:
            if not before:
                step(net, optimizer)
                net.load_state_dict(saved[0])
                optimizer.load_state_dict(saved[1])
            assert optimizer.worker.clock == 0
            for number in range(4):
                step(net, optimizer, number)
            return [tensor.tolist() for tensor in left_behind(net, inner)]

    assert run(ls.Serial(), before=False) == run(ls.Serial(), before=True)
    if strategy.synchronous:
        anew, wanted = (together(2, lambda on, before=before: run(on, before=before)) for before in (False, True))
        assert anew == wanted


def test_plain_dicts_that_differ_are_refused() -> None:
    def run(on: Any) -> None:
        net = seeded(0)
        inner = momentum(list(net.parameters()))
        for param in net.parameters():
            param.grad = torch.full_like(param, 1.0 + on.rank)
        inner.step()
        saved = inner.state_dict()
        optimizer = parallel_on(on, seeded(0))
        with optimizer, pytest.raises(Mismatch, match="was given different state dicts by the workers"):
            optimizer.load_state_dict(saved)

    together(2, run)
    with pytest.raises(CheckpointError, match="neither of an optimizer that parallel.. made nor of a plain"):
        parallel().load_state_dict({"model": {}})


def parallel_on(on: Any, net: Any) -> Any:
    return loosestep.torch.parallel(net, momentum(net.parameters()), ls.LocalSGD(2), on)


def test_two_workers_save_and_go_on_with_what_is_theirs(tmp_path: Path) -> None:
    """Objects of each worker's own come back to it; with another number of workers all get the first one's."""

    def run(on: Any) -> Any:
        net = seeded(0)
        optimizer = parallel_on(on, net)
        with optimizer:
            train(net, optimizer, batches(3))
            optimizer.save(tmp_path, also=[Holder({"rank": on.rank, "x": torch.full((2,), float(on.rank))})])
            mine = Holder()
            optimizer.restore(tmp_path, also=[mine])
            return mine.state["rank"], mine.state["x"].tolist()

    assert together(2, run) == [(0, [0.0, 0.0]), (1, [1.0, 1.0])]
    alone = Holder()
    parallel_on(ls.Serial(), seeded(0)).restore(tmp_path, also=[alone])
    assert (alone.state["rank"], alone.state["x"].tolist()) == (0, [0.5, 0.5])
    assert re.match("manifest", next(tmp_path.glob("manifest*")).name)
