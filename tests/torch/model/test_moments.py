"""First and second moments of torch's optimizers are told apart: DES-LOC averages each on a clock of its own."""

from __future__ import annotations

import time
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.torch import training  # noqa: E402
from tests.torch.training import adamw, batches, loss_of, momentum, seeded  # noqa: E402
from tests.unit.in_threads import together  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402

NEVER = 10**6


def trained(strategy: ls.Strategy, make: Any = adamw) -> list[Any]:
    """Each of two workers' parameters, and its optimizer's state by name, after four steps."""

    def work(on: Any) -> Any:
        net = seeded(3)
        inner = make(net.parameters())
        optimizer = loosestep.torch.parallel(net, inner, strategy, on)
        with optimizer:
            for x, y in batches(4):
                optimizer.zero_grad()
                loss_of(net, x + optimizer.rank, y).backward()
                optimizer.step()
            kept: dict[str, list[Any]] = {"params": [param.detach().clone() for param in net.parameters()]}
            for state in inner.state.values():
                for name, value in state.items():
                    kept.setdefault(name, []).append(torch.as_tensor(value).clone())
        return {name: torch.cat([value.reshape(-1) for value in values]) for name, values in kept.items()}

    return together(2, work)


def agree(strategy: ls.Strategy, make: Any = adamw) -> dict[str, bool]:
    """Which of them are the same on both workers."""
    one, other = trained(strategy, make)
    return {name: bool((one[name] == other[name]).all()) for name in one}


def test_each_moment_meets_on_its_own_clock() -> None:
    assert agree(ls.DESLOC(4, 2, NEVER)) == {"params": True, "exp_avg": True, "exp_avg_sq": False, "step": True}
    assert agree(ls.DESLOC(4, NEVER, 2)) == {"params": True, "exp_avg": False, "exp_avg_sq": True, "step": True}
    assert agree(ls.DESLOC(4, 4, NEVER), momentum) == {"params": True, "momentum_buffer": True}


def test_equal_periods_are_local_sgd_with_averaged_moments() -> None:
    for one, other in zip(trained(ls.DESLOC(2, 2, 2)), trained(ls.LocalSGD(2, momentum="average")), strict=True):
        assert all((one[name] == other[name]).all() for name in other)


def test_networks_of_one_seed_are_alike_where_workers_are_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's generator is one for all threads: nobody may seed it between another's seed and its draws."""
    make = training.mlp

    def slow() -> Any:
        time.sleep(0.02)  # in which the others would seed
        return make()

    monkeypatch.setattr(training, "mlp", slow)
    wanted = seeded(3).state_dict()
    for net in together(3, lambda on: seeded(3)):
        assert all(map(torch.equal, net.state_dict().values(), wanted.values()))
