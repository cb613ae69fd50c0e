"""Mutated checkpoints of a PyTorch loop: the bits of an unbroken one, or a CheckpointError; nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from tests.chaos.mutations import STEPS, Resumed, kinds

import loosestep as ls
import loosestep.torch

ALL = 3000
EVERY = 4  # steps between two checkpoints


def go(folder: Path | None, strategy: ls.Strategy, stop: int = STEPS, data: int = 0) -> tuple[object, ...]:
    """One worker with BatchNorm, Dropout and Adam: all that a checkpoint of such a loop holds is needed."""
    torch.set_num_threads(1)
    torch.manual_seed(data)
    parts = torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.Dropout(0.2), torch.nn.Linear(5, 1)
    model = torch.nn.Sequential(*parts)
    inner = torch.optim.Adam(model.parameters(), lr=0.01)
    optimizer = loosestep.torch.parallel(model, inner, strategy, ls.Serial())
    with optimizer:
        note = optimizer.restore(folder) if folder else None
        for step in range(note["step"] if note else 0, stop):
            optimizer.zero_grad()
            model(torch.randn(6, 4)).square().mean().backward()
            optimizer.step()
            if folder and (step + 1) % EVERY == 0:
                optimizer.save(folder, {"step": step + 1})
        return told(model, inner)


def told(model: torch.nn.Module, inner: torch.optim.Optimizer) -> tuple[object, ...]:
    """What must be the same: parameters, buffers, moments, and the random numbers to come."""
    tensors = model.state_dict().items()
    moments = [sorted(each.items()) for each in inner.state_dict()["state"].values()]
    values = [[(name, *plain(value)) for name, value in each] for each in moments]
    return [(name, *plain(each)) for name, each in tensors], values, torch.get_rng_state().numpy().tobytes()


def plain(value: object) -> tuple[str, object]:
    """The dtype and bytes of a tensor, or the type and the value."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), value.detach().numpy().tobytes()
    return type(value).__name__, value


@cache
def written(strategy: ls.Strategy, stop: int, data: int) -> Path:
    """A folder of a loop that was stopped there."""
    folder = Path.cwd() / f"written-{type(strategy).__name__}-{stop}-{data}"
    go(folder, strategy, stop, data)
    return folder


@cache
def unbroken(strategy: ls.Strategy) -> tuple[object, ...]:
    return go(None, strategy)


@dataclass(frozen=True)
class Torch(Resumed):
    """Loops with one strategy."""

    strategy: ls.Strategy

    def written(self, stop: int, data: int) -> Path:
        return written(self.strategy, stop, data)

    def goes_on(self, folder: Path) -> tuple[object, ...]:
        return go(folder, self.strategy)

    def unbroken(self) -> tuple[object, ...]:
        return unbroken(self.strategy)


KINDS = kinds((Torch(ls.LocalSGD(period=4)), Torch(ls.EASGD(period=4))))
