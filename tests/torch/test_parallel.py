"""What `parallel` refuses, keeps and restores, with one worker."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import (  # noqa: E402
    assert_same_bits,
    batches,
    complex_network,
    mlp,
    momentum,
    parallel,
    train,
)
from torch import Tensor, nn  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402
from loosestep.foundation.errors import Diverged  # noqa: E402
from loosestep.torch.setup import launched  # noqa: E402
from loosestep.transports.processes.launchers import BY_MPI  # noqa: E402

# --- refusals --------------------------------------------------------------------------------------------------


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
        (TypeError, "bfloat16 or float16, got '0.weight' of torch.complex64", {"net": complex_network()}),
        (ValueError, "the optimizer holds no parameter that requires a gradient", {"net": frozen()}),
        (ValueError, "accumulate must be at least 1, got 0", {"accumulate": 0}),
        (ValueError, "scale_rate must be one of 'none', 'linear', 'sqrt', got 'cubic'", {"scale_rate": "cubic"}),
        (ValueError, "buffers must be one of 'average', 'rank0', 'sync', 'recompute', 'own'", {"buffers": "x"}),
        (ValueError, "batch_norm must be one of 'own', 'sync', got 'x'", {"batch_norm": "x"}),
        (ValueError, "one evaluates EASGD() alone", {"strategy": ls.EASGD(), "buffers": "sync"}),
        (
            ValueError,
            "SyncBatchNorm makes all workers meet in every forward pass, and under EASGD() each goes at its own",
            {"strategy": ls.EASGD(), "net": nn.Sequential(nn.Linear(5, 3), nn.SyncBatchNorm(3))},
        ),
        (ValueError, "batch_norm='sync' makes", {"strategy": ls.FedAvg(3, 0.5), "batch_norm": "sync"}),
        (ValueError, "one evaluates EASGD() alone", {"strategy": ls.EASGD(), "buffers": "average"}),
        (TypeError, "strategy must be a Strategy", {"strategy": ls.LocalSGD}),
    ],
)
def test_bad_input(kind: type[Exception], said: str, change: dict[str, Any]) -> None:
    with pytest.raises(kind) as caught:
        parallel(**change)
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
        parallel().add_param_group({"params": [nn.Parameter(torch.zeros(2))]})


def test_more_backward_passes_than_said() -> None:
    net = mlp()
    optimizer = parallel(net)
    nn.functional.mse_loss(net(torch.ones(2, 5)), torch.ones(2, 3)).backward()
    with pytest.raises(RuntimeError, match="2 times since the last step: say parallel"):
        nn.functional.mse_loss(net(torch.ones(2, 5)), torch.ones(2, 3)).backward()
    assert optimizer.accumulate == 1


def test_a_strategy_that_wants_two_gradients() -> None:
    net = mlp()
    with pytest.raises(TypeError, match="makes one gradient a step, and the strategy asks for two"):
        train(net, parallel(net, Twice()), batches(1))


def test_a_model_that_was_moved() -> None:
    net = mlp()
    optimizer = parallel(net)
    net.double()
    with pytest.raises(RuntimeError, match=r"the memory of parameter '0.weight' was replaced"):
        optimizer.step()


def test_a_step_after_the_end() -> None:
    net = mlp()
    optimizer = parallel(net)
    with optimizer:
        train(net, optimizer, batches(2))
    with pytest.raises(RuntimeError, match="the run has ended"):
        train(net, optimizer, batches(1))


def test_what_belongs_between_steps() -> None:
    net = mlp()
    optimizer = parallel(net, ls.AllReduceSGD())  # with others it begins in backward()
    nn.functional.mse_loss(net(torch.ones(2, 5)), torch.ones(2, 3)).backward()
    optimizer.synchronize()
    with pytest.raises(RuntimeError, match=r"consensus\(\) belongs between steps"), optimizer.consensus():
        pass
    with pytest.raises(RuntimeError, match=r"state_dict\(\) belongs between steps"):
        optimizer.state_dict()


def test_where_a_gradient_cannot_be_thrown_away() -> None:
    """A center has taken it, also of one worker."""
    net = mlp()
    optimizer = parallel(net, ls.SyncEASGD(2, order="published"))
    nn.functional.mse_loss(net(torch.ones(2, 5)), torch.ones(2, 3)).backward()
    optimizer.synchronize()
    with pytest.raises(RuntimeError, match="erases gradients that are being sent"):
        optimizer.zero_grad()


def test_an_error_inside_leaves_at_once() -> None:
    net = mlp()
    optimizer = parallel(net)
    with pytest.raises(KeyError), optimizer:
        raise KeyError
    with pytest.raises(RuntimeError, match="the run has ended"):
        optimizer.step()


def test_sparse_gradients() -> None:
    """The same step under strategies that do not look at the gradient, and under those that do."""

    def run(strategy: ls.Strategy) -> None:
        net = nn.Embedding(6, 3, sparse=True)
        optimizer = loosestep.torch.parallel(net, torch.optim.SGD(net.parameters(), 1.0), strategy, ls.Serial())
        before = net.weight.detach().clone()
        net(torch.tensor([1, 4])).sum().backward()
        optimizer.step()
        torch.testing.assert_close(before - net.weight, torch.eye(6)[[1, 4]].sum(0)[:, None].expand(6, 3))

    for strategy in (ls.LocalSGD(2), ls.AllReduceSGD(), ls.CDSGD(), ls.SyncEASGD(2, order="published")):
        run(strategy)


def test_momentum_of_sparse_gradients_is_that_of_plain_torch() -> None:
    """Torch keeps a sparse buffer for it, which is looked at where a run ends, and cannot be averaged."""

    def run(strategy: ls.Strategy | None, poison: float = 1.0) -> list[Tensor]:
        torch.manual_seed(0)
        net = nn.Embedding(6, 3, sparse=True)
        inner: Any = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
        if strategy is not None:
            inner = loosestep.torch.parallel(net, inner, strategy, ls.Serial())
        with nullcontext() if strategy is None else inner:
            for step in range(3):
                inner.zero_grad()
                net(torch.tensor([1, step, 1])).pow(2).sum().backward()
                inner.step()
            inner.state[net.weight]["momentum_buffer"]._values().mul_(poison)
        return [net.weight.detach()]

    assert_same_bits(run(ls.AllReduceSGD()), run(None))
    with pytest.raises(Diverged, match="the parameters or optimizer buffers of worker 0 are not finite"):
        run(ls.AllReduceSGD(), float("nan"))
    with pytest.raises(TypeError, match="momentum_buffer of 'weight' is torch.sparse_coo: only dense values are"):
        run(ls.LocalSGD(1, momentum="average"))


def test_where_it_runs_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in BY_MPI:
        monkeypatch.delenv(name, raising=False)
    assert launched() == ls.Serial()
    monkeypatch.setenv("PMI_SIZE", "2")
    assert repr(launched()) == "MPI()"


def test_shards_of_an_optimizer_follow_its_clock() -> None:
    net = mlp()
    optimizer = parallel(net)
    sampler = optimizer.shard(40, batch_size=8, seed=3)
    rows, labels = torch.randn(40, 5), torch.zeros(40, dtype=torch.long)
    train(net, optimizer, ((rows[batch], labels[batch]) for batch in itertools.islice(sampler, 3)))
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
    optimizer = parallel(net, ls.SlowMo(2))
    del optimizer.param_groups[0]["lr"]
    with pytest.raises(TypeError, match=r"SGD has no learning rate .* as in SlowMo\(rate=0.1\)"):
        train(net, optimizer, batches(2))


# --- memory ----------------------------------------------------------------------------------------------------


def test_parameters_are_views_of_aligned_slots() -> None:
    net = mlp()
    optimizer = parallel(net)
    train(net, optimizer, batches(3))
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
    optimizer = parallel(net)
    net.load_state_dict(other.state_dict())
    np.testing.assert_array_equal(optimizer.worker.params[:35], other[0].weight.detach().numpy().reshape(-1))
    train(net, optimizer, batches(1))


def test_scaled_rates() -> None:
    net = mlp()
    optimizer = parallel(net, scale_rate="linear")
    assert [group["lr"] for group in optimizer.param_groups] == [0.1]
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    train(net, optimizer, batches(1))
    scheduler.step()
    assert optimizer.inner.param_groups[0]["lr"] == 0.05
