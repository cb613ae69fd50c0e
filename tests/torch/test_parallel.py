"""What `parallel` refuses, keeps and restores, with one worker."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import OPTIMIZERS, assert_same_bits, batches, left_behind, mlp, momentum  # noqa: E402
from torch import nn  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402
from loosestep.foundation.errors import CheckpointError  # noqa: E402
from loosestep.requests import Gradient  # noqa: E402
from loosestep.torch.setup import launched  # noqa: E402
from loosestep.transports.mpi.launchers import BY_MPI  # noqa: E402


def made(net: nn.Module | None = None, strategy: ls.Strategy | None = None, **options: Any) -> Any:
    net = net or mlp()
    return loosestep.torch.parallel(
        net, momentum(net.parameters()), strategy or ls.LocalSGD(4), ls.Serial(), **options
    )


def steps(net: nn.Module, optimizer: Any, data: Any) -> None:
    for x, y in data:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()


# --- refusals ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Greedy(ls.Strategy):
    needs: ClassVar[frozenset[ls.Need]] = frozenset({ls.Need.SKIPPED_UPDATES})

    def round(self, worker: Any, state: Any) -> Iterator[Any]:
        yield ls.requests.Local(1)


@dataclass(frozen=True, repr=False)
class Twice(ls.Strategy):
    def round(self, worker: Any, state: Any) -> Iterator[Any]:
        yield ls.requests.Gradient()
        yield ls.requests.Gradient()
        yield ls.requests.Update()


@dataclass(frozen=True, repr=False)
class Holding(Twice):
    shared_buffers: ClassVar[tuple[str, ...]] = ("state",)


def complex_() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7, dtype=torch.complex64))


def frozen() -> nn.Module:
    return mlp().requires_grad_(False)


@pytest.mark.parametrize(
    ("kind", "said", "change"),
    [
        (TypeError, "Greedy() needs an update of its own", {"strategy": Greedy()}),
        (ValueError, "Hogwild() promises that no update is lost", {"strategy": ls.Hogwild()}),
        (
            TypeError,
            "Hogwild(adds='racy', moments='own') keeps only params in common, and a loop of your own shares",
            {"strategy": ls.Hogwild("racy", "own")},
        ),
        (TypeError, "Holding() keeps only state in common, and a loop of your own", {"strategy": Holding()}),
        (TypeError, "bfloat16 or float16, got '0.weight' of torch.complex64", {"net": complex_()}),
        (ValueError, "the optimizer holds no parameter that requires a gradient", {"net": frozen()}),
        (ValueError, "accumulate must be at least 1, got 0", {"accumulate": 0}),
        (ValueError, "scale_rate must be one of 'none', 'linear', 'sqrt', got 'cubic'", {"scale_rate": "cubic"}),
        (ValueError, "buffers must be one of 'average', 'rank0', 'recompute', 'own', got 'x'", {"buffers": "x"}),
        (ValueError, "one evaluates EASGD() alone", {"strategy": ls.EASGD(), "buffers": "average"}),
        (TypeError, "strategy must be a Strategy", {"strategy": ls.LocalSGD}),
    ],
)
def test_bad_input(kind: type[Exception], said: str, change: dict[str, Any]) -> None:
    with pytest.raises(kind) as caught:
        made(**change)
    assert said in str(caught.value)


@pytest.mark.parametrize("on", [ls.Threads(1), ls.Simulated(1)], ids=repr)
def test_transports_that_have_no_place(on: ls.Transport) -> None:
    net = mlp()
    with pytest.raises(TypeError, match="has no place for a loop of your own"):
        loosestep.torch.parallel(net, momentum(net.parameters()), ls.LocalSGD(), on)


def test_an_optimizer_of_another_model() -> None:
    with pytest.raises(ValueError, match="parameters that are not the model's, of shapes"):
        loosestep.torch.parallel(mlp(), momentum(mlp().parameters()), ls.LocalSGD())


def test_more_parameters_later() -> None:
    with pytest.raises(TypeError, match="comes before parallel"):
        made().add_param_group({"params": [nn.Parameter(torch.zeros(2))]})


def test_more_backward_passes_than_said() -> None:
    net = mlp()
    optimizer = made(net)
    nn.functional.mse_loss(net(torch.ones(2, 5)), torch.ones(2, 3)).backward()
    with pytest.raises(RuntimeError, match="2 times since the last step: say parallel"):
        nn.functional.mse_loss(net(torch.ones(2, 5)), torch.ones(2, 3)).backward()
    assert optimizer.accumulate == 1


def test_a_strategy_that_wants_two_gradients() -> None:
    net = mlp()
    with pytest.raises(TypeError, match="makes one gradient a step, and the strategy asks for two"):
        steps(net, made(net, Twice()), batches(1))


def test_a_model_that_was_moved() -> None:
    net = mlp()
    optimizer = made(net)
    net.double()
    with pytest.raises(RuntimeError, match=r"the memory of parameter '0.weight' was replaced"):
        optimizer.step()


def test_a_step_after_the_end() -> None:
    net = mlp()
    optimizer = made(net)
    with optimizer:
        steps(net, optimizer, batches(2))
    with pytest.raises(RuntimeError, match="the run has ended"):
        steps(net, optimizer, batches(1))


def test_what_belongs_between_steps() -> None:
    net = mlp()
    optimizer = made(net, ls.AllReduceSGD())  # of several workers a step begins in backward(): see ranks_users.py
    nn.functional.mse_loss(net(torch.ones(2, 5)), torch.ones(2, 3)).backward()
    optimizer.synchronize()
    with pytest.raises(RuntimeError, match=r"consensus\(\) belongs between steps"), optimizer.consensus():
        pass
    with pytest.raises(RuntimeError, match=r"state_dict\(\) belongs between steps"):
        optimizer.state_dict()


def test_where_a_gradient_cannot_be_thrown_away() -> None:
    """A center has taken it, also of one worker."""
    net = mlp()
    optimizer = made(net, ls.SyncEASGD(2, order="published"))
    nn.functional.mse_loss(net(torch.ones(2, 5)), torch.ones(2, 3)).backward()
    optimizer.synchronize()
    with pytest.raises(RuntimeError, match="erases gradients that are being sent"):
        optimizer.zero_grad()


def test_an_error_inside_leaves_at_once() -> None:
    net = mlp()
    optimizer = made(net)
    with pytest.raises(KeyError), optimizer:
        raise KeyError
    with pytest.raises(RuntimeError, match="the run has ended"):
        optimizer.step()


def test_sparse_gradients_are_local_only() -> None:
    def run(strategy: ls.Strategy) -> None:
        net = nn.Embedding(6, 3, sparse=True)
        optimizer = loosestep.torch.parallel(net, torch.optim.SGD(net.parameters(), 1.0), strategy, ls.Serial())
        before = net.weight.detach().clone()
        net(torch.tensor([1, 4])).sum().backward()
        optimizer.step()
        torch.testing.assert_close(before - net.weight, torch.eye(6)[[1, 4]].sum(0)[:, None].expand(6, 3))

    run(ls.LocalSGD(2))
    with pytest.raises(TypeError, match="the gradient of 'weight' is sparse"):
        run(ls.SyncEASGD(2, order="published"))


def test_where_it_runs_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in BY_MPI:
        monkeypatch.delenv(name, raising=False)
    assert launched() == ls.Serial()
    monkeypatch.setenv("PMI_SIZE", "2")
    assert repr(launched()) == "MPI()"


def test_shards_of_an_optimizer_follow_its_clock() -> None:
    net = mlp()
    optimizer = made(net)
    sampler = optimizer.shard(40, batch_size=8, seed=3)
    rows, labels = torch.randn(40, 5), torch.zeros(40, dtype=torch.long)
    steps(net, optimizer, ((rows[batch], labels[batch]) for batch in itertools.islice(sampler, 3)))
    assert sampler.state_dict() == {"seed": 3, "rows": 40, "epoch": 0, "used": 24}


def test_slowmo_follows_the_scheduler_of_the_loop() -> None:
    net = nn.Linear(3, 1, bias=False).double()
    inner = torch.optim.SGD(net.parameters(), 0.3)
    optimizer = loosestep.torch.parallel(net, inner, ls.SlowMo(2, 0.6), ls.Serial())
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)
    x, u = net.weight.detach().numpy().copy(), 0.0
    for number in range(6):
        before, first = x, 0.3 * 0.8 ** (2 * number)
        for step in (2 * number, 2 * number + 1):
            optimizer.zero_grad()
            (net.weight**2).sum().backward()
            optimizer.step()
            scheduler.step()
            x = x - 0.3 * 0.8**step * 2 * x
        u = 0.6 * u + (before - x) / first
        x = before - first * u
        np.testing.assert_allclose(net.weight.detach().numpy(), x, rtol=1e-13)


def test_an_optimizer_without_a_rate_leaves_nothing_to_follow() -> None:
    net = mlp()
    optimizer = made(net, ls.SlowMo(2))
    del optimizer.param_groups[0]["lr"]
    with pytest.raises(TypeError, match=r"SGD has no learning rate .* as in SlowMo\(rate=0.1\)"):
        steps(net, optimizer, batches(2))


# --- memory ------------------------------------------------------------------------------------------------


def test_parameters_are_views_of_aligned_slots() -> None:
    net = mlp()
    optimizer = made(net)
    steps(net, optimizer, batches(3))
    worker, layout = optimizer.worker, optimizer.layout
    for slot in layout.slots:
        assert slot.param.data_ptr() == worker.params.ctypes.data + slot.start * 4
        assert slot.param.data_ptr() % 64 == 0
    inside = {place for slot in layout.slots for place in range(slot.start, slot.stop)}
    padding = [place for place in range(worker.params.size) if place not in inside]
    assert padding
    assert not worker.params[padding].any()


def test_loading_a_model_keeps_the_views() -> None:
    net, other = mlp(), mlp()
    optimizer = made(net)
    net.load_state_dict(other.state_dict())
    np.testing.assert_array_equal(optimizer.worker.params[:35], other[0].weight.detach().numpy().reshape(-1))
    steps(net, optimizer, batches(1))


def test_scaled_rates() -> None:
    net = mlp()
    optimizer = made(net, scale_rate="linear")
    assert [group["lr"] for group in optimizer.param_groups] == [0.1]
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    steps(net, optimizer, batches(1))
    scheduler.step()
    assert optimizer.inner.param_groups[0]["lr"] == 0.05


# --- saving ------------------------------------------------------------------------------------------------

STRATEGIES = [ls.AllReduceSGD(), ls.LocalSGD(4), ls.CDSGD(), ls.EASGD(4), ls.Downpour(4), ls.SyncEASGD(4)]


@pytest.mark.parametrize("at", [4, 6])
@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_a_resumed_run_has_the_same_bits(strategy: ls.Strategy, at: int) -> None:
    torch.manual_seed(0)
    net = mlp()
    optimizer = made(net, strategy)
    data = list(batches(11))
    steps(net, optimizer, data[:at])
    saved = copy.deepcopy((optimizer.state_dict(), net.state_dict()))
    steps(net, optimizer, data[at:])

    other = mlp()
    resumed = made(other, strategy)
    other.load_state_dict(saved[1])
    resumed.load_state_dict(saved[0])
    assert resumed.worker.clock == at
    steps(other, resumed, data[at:])
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
        net = nn.Sequential(normed(), nn.Dropout(0.5), nn.Linear(3, 3).requires_grad_(False))
        return net, loosestep.torch.parallel(net, OPTIMIZERS[name](list(net.parameters())), strategy, ls.Serial())

    net, optimizer = start(0)
    data = list(batches(11))
    assert optimizer.restore(tmp_path) is None
    steps(net, optimizer, data[:3])
    optimizer.save(tmp_path, "older")
    steps(net, optimizer, data[3:6])
    optimizer.save(tmp_path, {"taken": 6})
    steps(net, optimizer, data[6:])

    other, resumed = start(1)
    with pytest.raises(ValueError, match="holds a checkpoint: call restore\\(folder\\) first to go on from it"):
        resumed.save(tmp_path)
    assert resumed.restore(tmp_path) == {"taken": 6}
    steps(other, resumed, data[6:])
    assert_same_bits(left_behind(other, resumed.inner), left_behind(net, optimizer.inner))
    with optimizer.consensus(), resumed.consensus():
        np.testing.assert_array_equal(resumed.worker.params, optimizer.worker.params)


def test_what_a_folder_refuses(tmp_path: Path) -> None:
    optimizer = made(strategy=ls.LocalSGD(4))
    for note in ({1: 2}, (1, 2), {"a": {1, 2}}):
        with pytest.raises(TypeError, match="JSON"):
            optimizer.save(tmp_path, note)
    optimizer.save(tmp_path)
    for change, said in (
        ({"strategy": ls.LocalSGD(5)}, r"written with strategy LocalSGD\(period=4\), this run has LocalSGD"),
        (
            {"net": nn.Linear(5, 3)},
            r"written with tensor 0 '0.weight' \(7, 5\) float32, this run has 'weight' \(3, 5\) float32$",
        ),
    ):
        with pytest.raises(CheckpointError, match=said):
            made(**change).restore(tmp_path)
    (part,) = tmp_path.glob("step-*/rank-00000.safetensors")
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        made().restore(tmp_path)


def test_inside_a_round_that_has_communicated() -> None:
    net = mlp()
    optimizer = made(net, ls.EASGD(3, order="published"))
    steps(net, optimizer, batches(1))
    with pytest.raises(RuntimeError, match="worker 0 is inside round 1, after its communication"):
        optimizer.state_dict()
    steps(net, optimizer, batches(2))
    assert optimizer.state_dict()["loosestep"]["position"]["round"] == 1


def test_a_round_that_begins_with_an_exchange_begins_in_backward() -> None:
    """EASGD's published order meets the center beside the gradient; between two steps nothing is under way."""
    strategy = ls.EASGD(1, order="published")
    whole, halves = mlp(), mlp()
    halves.load_state_dict(whole.state_dict())
    optimizer, first = made(whole, strategy), made(halves, strategy)
    optimizer.size = 2  # as where there are others: one alone begins nothing in backward
    for number, (x, y) in enumerate(batches(6)):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(whole(x), y)
        counted = optimizer.meter.requests.get("Start", [0])[0]
        assert counted == number, "not before there is a step to make"
        loss.backward()
        assert type(optimizer.loop.pending) is Gradient, "the exchange was started, its wait comes with step()"
        optimizer.step()
    steps(halves, first, itertools.islice(batches(6), 3))
    state = copy.deepcopy((halves.state_dict(), first.state_dict()))
    position = state[1]["loosestep"]["position"]
    assert (position["clock"], position["round"], position["progress"]) == (3, 3, 0)
    again = mlp()
    again.load_state_dict(state[0])
    second = made(again, strategy)
    second.load_state_dict(state[1])
    steps(again, second, itertools.islice(batches(6), 3, None))
    assert all(map(torch.equal, whole.parameters(), again.parameters()))


@pytest.mark.parametrize(
    ("strategy", "kind", "count"),
    [(ls.EASGD(2, order="published"), "Start", 2), (ls.EASGD(2), "Elastic", 2), (ls.Downpour(2), "Push", 2)],
    ids=repr,
)
def test_the_end_of_the_data_begins_no_further_round(strategy: ls.Strategy, kind: str, count: int) -> None:
    net = mlp()
    optimizer = made(net, strategy)
    with optimizer:
        steps(net, optimizer, batches(4))
    assert (optimizer.meter.requests[kind][0], optimizer.worker.clock) == (count, 4)


def test_another_strategys_state_is_refused() -> None:
    state = made(strategy=ls.EASGD(4)).state_dict()
    with pytest.raises(CheckpointError, match=r"of strategy EASGD\(period=4\), and this worker's"):
        made(strategy=ls.EASGD(5)).load_state_dict(state)


# --- consensus ---------------------------------------------------------------------------------------------


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))


def test_statistics_recomputed_from_batches() -> None:
    torch.manual_seed(0)
    net = normed()
    optimizer = made(net, ls.EASGD(2), buffers="recompute")
    steps(net, optimizer, batches(4))
    kept = [tensor.clone() for tensor in net.buffers()]
    with (
        pytest.raises(ValueError, match=r"consensus\(batches\) goes with buffers='recompute'"),
        optimizer.consensus(),
    ):
        pass
    rows = torch.randn(64, 5)
    with optimizer.consensus([rows]):
        torch.testing.assert_close(net[1].running_mean, net[0](rows).mean(0).detach())
    assert_same_bits(list(net.buffers()), kept)


def test_consensus_after_the_end() -> None:
    net = normed()
    optimizer = made(net, ls.EASGD(2))
    with optimizer:
        steps(net, optimizer, batches(4))
    mine = optimizer.worker.params.copy()
    with optimizer.consensus():
        assert (optimizer.worker.params != mine).any()
    np.testing.assert_array_equal(optimizer.worker.params, mine)


# --- networks in loops of the library's ----------------------------------------------------------------------


def test_a_network_in_run_equals_the_users_loop() -> None:
    def make() -> nn.Module:
        torch.manual_seed(0)
        return mlp()

    model = loosestep.torch.Model(make, lambda net, batch: nn.functional.cross_entropy(net(batch[0]), batch[1]))
    feed = lambda rank, size: batches(12)  # noqa: E731
    options: dict[str, Any] = {"optimizer": ls.SGD(0.1)}
    result = ls.run(ls.LocalSGD(4), model.gradient, model.x0, feed, **options)
    net = make()
    plain = torch.optim.SGD(net.parameters(), 0.1)
    steps(net, plain, batches(12))
    for ours, theirs in zip(model.module(result.params).parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    for on in (ls.Threads(2), ls.Simulated(2)):  # both workers do the same, so their mean is each
        other = ls.run(ls.LocalSGD(4), model.gradient, model.x0, feed, on=on, **options)
        np.testing.assert_array_equal(other.params, result.params)


@pytest.mark.parametrize("factory", [complex_, lambda: 3], ids=["complex", "3"])
def test_what_is_no_network(factory: Any) -> None:
    with pytest.raises(TypeError, match="factory must return|must be float32, float64"):
        loosestep.torch.Model(factory, lambda net, batch: 0)
