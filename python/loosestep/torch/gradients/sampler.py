"""The library's samplers as torch optimizers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from loosestep.foundation import checks
from loosestep.ops.noise import NoiseStream
from loosestep.optimizers import samplers, schedules
from loosestep.runtime.sampling.noise import check_sampler, stream_for
from loosestep.torch.flat import in_memory_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from loosestep.requests.worker import Worker
    from loosestep.strategies.base import Strategy


class Sampler(torch.optim.Optimizer):
    """A torch optimizer whose iterates are draws from a posterior: `SGLD`, `PSGLD` or `SGHMC` on parameters.

    Gradients are those of a batch's mean loss; `rule.examples` says how many rows there are in all,
    `rule.weight_decay` the prior. It draws the numbers that `loosestep.run` draws, so a loop with the same
    gradients has its bits. `parallel()` gives each worker a stream of its own, and refuses strategies that would
    change the temperature. The learning rate is `param_groups[...]["lr"]`, as schedulers expect, unless the
    rule's rate is a schedule. Keep draws by `loosestep.Samples.record`.

    parameters: float32 or float64, on the CPU or a GPU; or groups, which may have an `lr` of their own.
    rule: the sampler.
    seed, stream: of the random numbers, in a loop without `parallel()`: chains differ in their stream.

    Raises TypeError for parameters of another dtype.

    >>> import loosestep as ls, loosestep.torch, torch
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = loosestep.torch.Sampler(model.parameters(), ls.SGLD(0.01, examples=1000))
    >>> for step in range(3):
    ...     optimizer.zero_grad()
    ...     model(torch.ones(4, 2)).square().mean().backward()
    ...     _ = optimizer.step()
    """

    def __init__(self, parameters: Iterable[Any], rule: samplers.Sampler, seed: int = 0, stream: int = 0) -> None:
        checks.instance("rule", rule, samplers.Sampler)
        place = NoiseStream(checks.integer("seed", seed, 0), checks.integer("stream", stream, 0))
        self.rule, self.noise = rule, place
        self.silent = False  # the strategy adds the noise
        # The rule as text is an option, so that workers with different ones are told.
        super().__init__(parameters, {"lr": schedules.at(rule.rate, 0), "rule": repr(rule)})
        for group in self.param_groups:
            unknown = set(group) - {"params", "param_names", "initial_lr", *self.defaults}
            if unknown or group["rule"] != repr(rule):
                raise ValueError(
                    f"a group of a Sampler may have its own lr, and all else is the rule's, got "
                    f"{', '.join(sorted(unknown or {'rule'}))}"
                )
        for param in (param for group in self.param_groups for param in group["params"]):
            if param.dtype not in (torch.float32, torch.float64):
                raise TypeError(f"Sampler needs float32 or float64 parameters, got {param.dtype}")

    def join(self, strategy: Strategy, worker: Worker) -> None:
        """Draw this worker's numbers, and tell the strategy how much noise a step has."""
        check_sampler(strategy, self.rule, worker.size)
        self.silent = strategy.adds_noise
        self.noise = worker.noise = stream_for(worker, strategy)
        worker.variance_at = lambda step: self.rule_of_all(strategy).variance(step)

    def rule_of_all(self, strategy: Strategy) -> samplers.Sampler:
        """Return the one rule of all groups, for what a strategy adds to the flat parameters at once."""
        rates = {} if callable(self.rule.rate) else {float(group["lr"]): None for group in self.param_groups}
        if len(rates) > 1:
            raise ValueError(
                f"{strategy!r} needs one learning rate for all groups, as its noise does not know them, got "
                f"{', '.join(f'{rate:g}' for rate in rates)}"
            )
        return self.rule_of(self.param_groups[0])

    def rule_of(self, group: dict[str, Any]) -> samplers.Sampler:
        """Return the rule at the group's learning rate, or at its own if that is a schedule."""
        return self.rule if callable(self.rule.rate) else replace(self.rule, rate=float(group["lr"]))  # type: ignore[type-var]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one update, with noise; return the loss of `closure`, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        start = 0
        with torch.no_grad():
            for group in self.param_groups:
                for param in group["params"]:
                    if param.grad is not None:
                        self.move(param, group, self.noise._replace(start=start))
                    start += param.numel()
        return loss

    def move(self, param: torch.Tensor, group: dict[str, Any], noise: NoiseStream) -> None:
        """Update one parameter, from a copy of its gradient."""
        state = self.state[param]
        if not state:
            state["step"] = torch.zeros(())
            state |= {f"moment_{number}": torch.zeros_like(param) for number in range(self.rule.moments)}
        step, grad = int(state["step"]), torch.empty_like(param)
        given = param.grad
        assert given is not None
        grad.copy_(given.to_dense() if given.is_sparse else given)
        moments = tuple(flat(state[f"moment_{number}"]) for number in range(self.rule.moments))
        if callable(self.rule.rate):
            group["lr"] = schedules.at(self.rule.rate, step)
        own = None if self.silent else noise
        self.rule_of(group).update(flat(param), flat(grad), moments, step, step + 1, noise=own)
        state["step"] += 1


def flat(tensor: torch.Tensor) -> Any:
    """Return the elements as ops take them: numpy's on the CPU, torch's on a GPU."""
    line = in_memory_order(tensor)
    return line if line.is_cuda else line.numpy()
