"""The networks of the torch benchmarks, and how many steps a call makes."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 128), nn.Linear(128, 10)
    )


def cnn() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 25, 128), nn.ReLU(), nn.Linear(128, 10)),
    )


def tiny() -> nn.Module:
    return nn.Sequential(*(nn.Linear(8, 8) for _ in range(4)))  # as many tensors as the first


ALONE = "MLP of 288 parameters, batch 64"  # what is added, without the noise of a network


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "MLP of 2.0 M parameters, batch 64": (mlp, (64, 784)),
    "CNN of 0.11 M parameters, batch 64": (cnn, (64, 1, 28, 28)),
}


ADDED = {"MLP of 2.0 M parameters, batch 64": CASES["MLP of 2.0 M parameters, batch 64"], ALONE: (tiny, (64, 8))}


STEPS = 10
"""A call: as many steps as the period of those that meet now and then."""
