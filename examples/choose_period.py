"""Print what periods do to methods with an outer optimizer: the loss of one small network after as many steps.

Run it: python choose_period.py [--steps 480] [--seeds 1]

Four simulated workers fit a network of 3,000 parameters; the inner optimizer is AdamW, or SGD with momentum.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from statistics import median

import torch
from torch import nn

import loosestep as ls
import loosestep.torch

ROWS, INPUTS, BATCH, PERIODS = 4096, 32, 32, (4, 8, 16, 48)
Rows = tuple[torch.Tensor, torch.Tensor]


def rows() -> Rows:
    x = torch.randn(ROWS, INPUTS, generator=torch.Generator().manual_seed(0))
    return x, (x @ torch.linspace(0, 1, INPUTS)).tanh()[:, None]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(INPUTS, 64), nn.ReLU(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 1))


def loss(net: nn.Module, batch: Rows) -> torch.Tensor:
    return nn.functional.mse_loss(net(batch[0]), batch[1])


def train(strategy: ls.Strategy, inner: ls.Optimizer, steps: int, seed: int) -> float:
    """Return the loss of the consensus on all rows."""
    x, y = rows()

    def batches(rank: int, size: int) -> Iterator[Rows]:
        random = torch.Generator().manual_seed(1000 * seed + rank)
        for _ in range(steps):
            pick = torch.randint(ROWS // size, (BATCH,), generator=random) * size + rank
            yield x[pick], y[pick]

    model = loosestep.torch.Model(network, loss)
    result = ls.run(strategy, model.gradient, model.x0, batches, optimizer=inner, on=ls.Simulated(4))
    with torch.no_grad():
        return float(loss(model.module(result.params), (x, y)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=480)
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    inners = {"AdamW": ls.AdamW(0.003), "SGD, momentum 0.9": ls.Momentum(0.05, correction=False)}
    print("| inner optimizer | method |", *(f" {period} |" for period in PERIODS), sep="")
    print("|---|---|", *("---|" for _ in PERIODS), sep="")
    methods: dict[str, Callable[[int], ls.Strategy]] = {
        "LocalSGD": ls.LocalSGD,
        "DiLoCo": ls.DiLoCo,
        "DiLoCo, outer rate 0.3": lambda period: ls.DiLoCo(period=period, rate=0.3),
    }
    for name, inner in inners.items():
        every = [train(ls.AllReduceSGD(), inner, given.steps, seed) for seed in range(given.seeds)]
        print(f"| {name} | AllReduceSGD, no period: {median(every):.2g} |", *(" |" for _ in PERIODS), sep="")
        for method, make in methods.items():
            print(f"| {name} | {method} |", end="", flush=True)
            for period in PERIODS:
                found = [train(make(period), inner, given.steps, seed) for seed in range(given.seeds)]
                print(f" {median(found):.2g} |", end="", flush=True)
            print()


if __name__ == "__main__":
    main()
