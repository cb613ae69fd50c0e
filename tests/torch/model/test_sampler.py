"""Samplers in torch loops: the bits of `run` under strategies that take them; schedulers, states, refusals."""

from __future__ import annotations

from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402
from loosestep.strategies.base import Strategy  # noqa: E402
from loosestep.torch.hyperparameters import options  # noqa: E402

torch.set_num_threads(1)
ROWS, TARGETS = (torch.arange(n * 12.0).reshape(12, n).sin() for n in (4, 3))
SAMPLERS = [
    ls.SGLD(0.05, examples=64, weight_decay=0.01),
    ls.PSGLD(0.01, examples=64),
    ls.SGHMC(0.05, examples=64),
]


def net(params: Any) -> Any:
    module = torch.nn.Linear(4, 3)
    torch.nn.utils.vector_to_parameters(torch.from_numpy(np.array(params)), module.parameters())
    return module


def backward(module: Any) -> None:
    module.zero_grad()
    ((module(ROWS) - TARGETS) ** 2).mean().backward()


def gradient(x: Any, batch: Any) -> Any:
    module = net(x)
    backward(module)
    return np.concatenate([param.grad.numpy().reshape(-1) for param in module.parameters()])


START = np.arange(15, dtype=np.float32) / 10


def flat(module: Any) -> Any:
    return torch.nn.utils.parameters_to_vector(module.parameters()).detach().numpy()


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
@pytest.mark.parametrize(
    "strategy",
    [
        ls.AllReduceSGD(),
        ls.OneShotAveraging(),
        ls.DownpourMCMC(2),
        ls.DownpourMCMC(2, "worker"),
        ls.ElasticMCMC(2),
    ],
    ids=repr,
)
def test_a_torch_loop_draws_the_bits_of_run(strategy: Strategy, sampler: Any) -> None:
    try:
        strategy.check_sampler(sampler)
    except (TypeError, ValueError):
        module = net(START)
        made = loosestep.torch.Sampler(module.parameters(), sampler)
        with pytest.raises((TypeError, ValueError), match=type(sampler).__name__):
            loosestep.torch.parallel(module, made, strategy, ls.Serial())
        return
    result = ls.run(strategy, gradient, START, lambda rank, size: repeat(0), optimizer=sampler, steps=10, seed=7)
    module = net(START)
    made = loosestep.torch.Sampler(module.parameters(), sampler)
    optimizer = loosestep.torch.parallel(module, made, strategy, ls.Serial(), seed=7)
    with optimizer:
        for _ in range(10):
            backward(module)
            optimizer.step()
        with optimizer.consensus():
            assert flat(module).tobytes() == result.params.tobytes()


def test_a_loop_without_parallel_has_streams_and_goes_on_from_its_state(tmp_path: Path) -> None:
    def go(module: Any, optimizer: Any, steps: int) -> Any:
        for _ in range(steps):
            backward(module)
            optimizer.step()
        return flat(module)

    def made(stream: int = 0, params: Any = START) -> Any:
        module = net(params)
        return module, loosestep.torch.Sampler(
            module.parameters(), ls.SGHMC(0.05, examples=64), seed=3, stream=stream
        )

    whole, other = go(*made(), 6), go(*made(1), 6)
    assert np.abs(whole - other).min() > 0
    module, optimizer = made()
    go(module, optimizer, 4)
    torch.save(optimizer.state_dict(), tmp_path / "state")
    module, optimizer = made(params=flat(module))
    optimizer.load_state_dict(torch.load(tmp_path / "state"))
    assert go(module, optimizer, 2).tobytes() == whole.tobytes()


def test_a_scheduler_moves_its_rate_and_a_schedule_its_own() -> None:
    module = net(START)
    optimizer = loosestep.torch.Sampler(module.parameters(), ls.SGLD(0.05, temperature=0.0))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.0)
    for _ in range(2):
        backward(module)
        optimizer.step()
        scheduler.step()
    once = net(START)
    backward(once)
    loosestep.torch.Sampler(once.parameters(), ls.SGLD(ls.schedules.StepDecay(0.05), temperature=0.0)).step()
    assert flat(module).tobytes() == flat(once).tobytes()


def test_its_rule_is_among_what_workers_compare() -> None:
    made = loosestep.torch.Sampler(net(START).parameters(), SAMPLERS[0])
    assert options(made)["group 0's rule"] == repr(repr(SAMPLERS[0]))


@pytest.mark.parametrize("strategy", [ls.DownpourMCMC(), ls.ElasticMCMC(1)], ids=repr)
def test_groups_of_several_rates_need_noise_of_their_own(strategy: Strategy) -> None:
    """One noise for all would be ten times too much for the second group."""

    def step(strategy: Strategy) -> None:
        module = net(START)
        groups = [{"params": [module.weight], "lr": 0.01}, {"params": [module.bias], "lr": 0.001}]
        made = loosestep.torch.Sampler(groups, ls.SGLD(0.01))
        with loosestep.torch.parallel(module, made, strategy, ls.Serial()) as optimizer:
            backward(module)
            optimizer.step()

    with pytest.raises(Exception, match=r"needs one learning rate for all groups, .* got 0.01, 0.001"):
        step(strategy)
    step(ls.DownpourMCMC(noise="worker"))


def test_a_group_may_not_say_what_the_rule_says() -> None:
    """Torch lets a group have a weight decay of its own, which would be no part of what is sampled."""
    with pytest.raises(ValueError, match=r"may have its own lr, and all else is the rule's, got weight_decay$"):
        loosestep.torch.Sampler([{"params": net(START).parameters(), "weight_decay": 0.1}], ls.SGLD())


def test_bad_input() -> None:
    module = net(START)
    with pytest.raises(TypeError, match=r"^rule must be a Sampler, got SGD\(\)$"):
        loosestep.torch.Sampler(module.parameters(), ls.SGD())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^Sampler needs float32 or float64 parameters, got torch.bfloat16$"):
        loosestep.torch.Sampler(net(START).bfloat16().parameters(), ls.SGLD())
    made = loosestep.torch.Sampler(module.parameters(), ls.SGLD())
    with pytest.raises(ValueError, match="does not keep the temperature"):
        loosestep.torch.parallel(module, made, ls.EASGD(), ls.Serial())
