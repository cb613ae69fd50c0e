"""What a strategy needs of a loop of the user's: epochs, times, batches of its size, rest, seeds, moments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import Training, assert_same_bits, batches, left_behind, mlp, momentum  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402
from loosestep.data.global_batch import order_of  # noqa: E402
from loosestep.transports import stopwatch  # noqa: E402


def made(strategy: ls.Strategy, net: nn.Module, inner: Any = None, **options: Any) -> Any:
    return loosestep.torch.parallel(net, inner or momentum(net.parameters()), strategy, ls.Serial(), **options)


# --- epochs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "strategy",
    [
        ls.Stages((ls.LocalSGD(3), 1), (ls.AllReduceSGD(), None)),
        ls.Stages((ls.AllReduceSGD(), 0.5), (ls.LocalSGD(4), 1), (ls.AllReduceSGD(bucket_bytes=64), None)),
    ],
    ids=str,
)
def test_a_schedule_of_identities_is_plain_torch(strategy: ls.Strategy) -> None:
    training = Training(options={"steps_per_epoch": 4})
    assert_same_bits(training.run(strategy), training.run())


def test_a_schedule_changes_where_the_epoch_ends() -> None:
    """Two epochs of plain steps; then EASGD's period of 2, whose center begins where the replica was."""
    net = mlp()
    centers = []
    with made(ls.Stages((ls.AllReduceSGD(), 2), (ls.EASGD(2), None)), net, steps_per_epoch=2) as optimizer:
        for x, y in batches(8):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
            with optimizer.consensus():
                center = optimizer.layout.params.copy()
            centers.append(bool((center == optimizer.layout.params).all()))
        assert centers == [True] * 4 + [False] * 4
        assert optimizer.loop.program.part == 1


def test_without_the_length_of_an_epoch_a_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="counts epochs: say steps_per_epoch"):
        made(ls.Stages.example(), mlp())


def test_a_schedule_goes_on_from_a_state_dict_of_its_part() -> None:
    strategy = ls.Stages((ls.LocalSGD(2), 1), (ls.EASGD(2), None))

    def run(steps: int, state: Any = None) -> tuple[Any, list[Tensor]]:
        torch.manual_seed(0)
        net = mlp()
        inner = momentum(net.parameters())
        optimizer = made(strategy, net, inner, steps_per_epoch=4)
        with optimizer:
            if state is not None:
                net.load_state_dict(state[0])
                optimizer.load_state_dict(state[1])
            for x, y in list(batches(10))[10 - steps if state else 0 : 10 if state else steps]:
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(x), y).backward()
                optimizer.step()
            saved = {name: value.clone() for name, value in net.state_dict().items()}, optimizer.state_dict()
        return saved, left_behind(net, inner)

    _, whole = run(10)
    state, _ = run(6)
    assert state[1]["loosestep"]["position"]["part"] == 1
    _, again = run(4, state)
    assert_same_bits(again, whole)


# --- rest --------------------------------------------------------------------------------------------------


def test_a_client_that_is_alone_never_rests() -> None:
    training = Training()
    assert_same_bits(training.run(ls.FedAvg(3, fraction=0.5)), training.run())


# --- batches and times -------------------------------------------------------------------------------------


def rows(count: int) -> TensorDataset:
    random = torch.Generator().manual_seed(5)
    labels = torch.randint(0, 3, (count,), generator=random)
    return TensorDataset(torch.randn(count, 5, generator=random), labels, torch.arange(count))


def epochs(optimizer: Any, net: nn.Module, data: TensorDataset, count: int) -> Iterator[list[int]]:
    loader = DataLoader(data, batch_sampler=optimizer.shard(data, batch_size=8, seed=3))
    for _ in range(count):
        for x, y, numbers in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
            yield numbers.tolist()


def test_batches_that_are_shared_out_are_those_of_the_librarys_loop() -> None:
    """By rows and by bits: 30 rows are 8, 8, 8 and 6."""
    data, strategy = rows(30), ls.DBS(every=2)
    torch.manual_seed(0)
    net = mlp()
    inner = momentum(net.parameters())
    with made(strategy, net, inner) as optimizer:
        seen = list(epochs(optimizer, net, data, 2))
        assert optimizer.model.samples == 60
    orders = [order_of(30, 3, epoch).tolist() for epoch in range(2)]
    assert seen == [order[start : start + 8] for order in orders for start in range(0, 30, 8)]
    torch.manual_seed(0)
    plain = mlp()
    other = momentum(plain.parameters())
    for numbers in seen:
        x, y, _ = data[numbers]
        other.zero_grad()
        nn.functional.cross_entropy(plain(x), y).backward()
        other.step()
    assert_same_bits(left_behind(net, inner), left_behind(plain, other))


def test_where_the_rows_stand_is_known_and_restored() -> None:
    data, net = rows(30), mlp()
    optimizer = made(ls.DBS(), net)
    sampler = optimizer.shard(data, 8, seed=3)
    assert len(sampler) == 4
    for _, numbers in zip(range(2), sampler, strict=False):
        nn.functional.cross_entropy(net(data[numbers][0]), data[numbers][1]).backward()
        optimizer.step()
        optimizer.zero_grad()
    state = sampler.state_dict()
    assert state == {"seed": 3, "rows": 30, "batch": 8, "epoch": 0, "used": 2}
    again = made(ls.DBS(), mlp()).shard(data, 8, seed=3)
    again.load_state_dict(state)
    assert len(again) == 2
    assert next(iter(again)) == order_of(30, 3, 0)[16:24].tolist()


def test_batches_of_ones_own_are_refused_where_they_would_not_follow_speeds() -> None:
    net = mlp()
    optimizer = made(ls.DBS(), net)
    net(torch.ones(2, 5)).sum().backward()
    with pytest.raises(TypeError, match=r"those of optimizer.shard\(...\) alone"):
        optimizer.step()
    sampler = iter(made(ls.DBS(), mlp()).shard(30, 8))
    next(sampler)
    with pytest.raises(RuntimeError, match="use a DataLoader with num_workers=0"):
        next(sampler)
    with pytest.raises(TypeError, match="one batch a step: got accumulate=2"):
        made(ls.DBS(), mlp(), accumulate=2).shard(30, 8)


class Slow(nn.Module):
    """A forward pass of three seconds of a clock that stands still otherwise."""

    def __init__(self, clock: list[float]) -> None:
        super().__init__()
        self.inner, self.clock = mlp(), clock

    def forward(self, x: Tensor) -> Tensor:
        self.clock[0] += 3.0
        return self.inner(x)


@pytest.mark.parametrize("strategy", [ls.AdaptiveLocalSGD(distance=None, time_share=0.1), ls.LocalSGD(2)], ids=str)
def test_computing_begins_with_the_forward_pass_where_times_are_wanted(
    strategy: ls.Strategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(stopwatch, "perf_counter", lambda: clock[0])
    net = Slow(clock)
    optimizer = made(strategy, net)
    for x, y in batches(6):
        clock[0] += 100.0  # reading
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
        clock[0] += 10.0  # printing
    reading = 0.0 if ls.Need.STEP_TIMES in strategy.needs else 6 * 100.0 + 5 * 10.0
    assert optimizer.worker.computing == 6 * 3.0 + reading
    assert (optimizer.worker.communicating, optimizer.meter.waiting) == (0.0, 0.0)


# --- seeds and moments -------------------------------------------------------------------------------------


def test_noise_is_by_the_seed_that_is_given() -> None:
    strategy = ls.EntropySGD(3, noise=1e-2)
    one, other, again = (Training(options={"seed": seed}).run(strategy) for seed in (1, 2, 1))
    assert_same_bits(one, again)
    assert not torch.equal(one[0], other[0])


def test_moments_are_reset_where_the_strategy_says_so() -> None:
    torch.manual_seed(0)
    net = mlp()
    inner = momentum(net.parameters())
    for step, (x, y) in enumerate(batches(10)):
        if step % 2 == 0:
            for state in inner.state.values():
                state["momentum_buffer"].zero_()
        inner.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        inner.step()
    plain = left_behind(net, inner)[:4]
    assert_same_bits(Training().run(ls.LocalSGD(2, momentum="reset"))[:4], plain)
