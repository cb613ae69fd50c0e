"""Measure what a step costs over slow links: with overlap, and with methods that communicate seldom.

Start one rank on each host (`mpiexec --host a,b python slow_links.py`); rank 0 prints. Computing and communicating
of the first method should take equally long: choose --batch (or --pause, where cores are few) for that.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import torch
from torch import nn

import loosestep as ls
import loosestep.torch

WIDTH, DEPTH, CLASSES = 500, 8, 10  # square layers: 2 M parameters, whose gradients come one after the other
LAYER, HEAD = 4 * (WIDTH + 1) * WIDTH, 4 * (WIDTH + 1) * CLASSES  # bytes of a square layer and of the last one


class Pause(torch.autograd.Function):
    """Sleep in the forward pass, twice as long in the backward pass: time that, as on a GPU, takes no core."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, seconds: float) -> torch.Tensor:
        ctx.seconds = seconds
        time.sleep(seconds)
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        time.sleep(2 * ctx.seconds)
        return gradient, None


class Layer(nn.Linear):
    """A linear layer that also pauses."""

    pause = 0.0  # seconds forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Pause.apply(super().forward(x), self.pause)


def network() -> nn.Module:
    torch.manual_seed(0)
    square = [layer for _ in range(DEPTH) for layer in (Layer(WIDTH, WIDTH), nn.Tanh())]
    return nn.Sequential(*square, nn.Linear(WIDTH, CLASSES))


def sent() -> int:
    """Return the bytes that this host has sent."""
    lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    return sum(int(line.split()[9]) for line in lines if not line.strip().startswith("lo:"))


def seconds_of(step, steps: int) -> list[float]:
    taken = []
    for _ in range(steps):
        begin = time.perf_counter()
        step()
        taken.append(time.perf_counter() - begin)
    return taken


def alone(rows: torch.Tensor, targets: torch.Tensor, steps: int) -> float:
    """Return the seconds of a step without communication."""
    net = network()
    inner = torch.optim.SGD(net.parameters(), lr=0.01)

    def step() -> None:
        inner.zero_grad()
        nn.functional.cross_entropy(net(rows), targets).backward()
        inner.step()

    seconds_of(step, 1)
    return sum(seconds_of(step, steps)) / steps


def together(strategy: ls.Strategy, rows: torch.Tensor, targets: torch.Tensor, steps: int) -> tuple[float, ...]:
    """Return the seconds of a step, its bytes as metered, and its bytes as the network card counts them."""
    net = network()
    optimizer = loosestep.torch.parallel(net, torch.optim.SGD(net.parameters(), lr=0.01), strategy, on=ls.MPI())

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(rows), targets).backward()
        optimizer.step()

    with optimizer:
        seconds_of(step, 1)
        before, metered = sent(), optimizer.meter.bytes
        mean = sum(seconds_of(step, steps)) / steps
        counts = (optimizer.meter.bytes - metered) / steps, (sent() - before) / steps
    return mean, *counts


METHODS = {
    "AllReduceSGD, one bucket": ls.AllReduceSGD(bucket_bytes=1 << 30),
    "AllReduceSGD, buckets of 1 MiB": ls.AllReduceSGD(bucket_bytes=1 << 20),
    "AllReduceSGD, buckets of a layer": ls.AllReduceSGD(bucket_bytes=LAYER, first_bytes=HEAD),  # wait for no other
    "LocalSGD(period=10)": ls.LocalSGD(period=10),
    "EASGD(period=10)": ls.EASGD(period=10),
}


def measured(rows: torch.Tensor, targets: torch.Tensor, given: argparse.Namespace) -> dict[str, list[float]]:
    """Return the median of each column over rounds in which all methods take turns, so disturbances hit all."""
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in list(METHODS)[: given.methods]}
    for _ in range(given.rounds):
        bare = alone(rows, targets, given.steps)
        for name, columns in found.items():
            step, *counts = together(METHODS[name], rows, targets, given.steps)
            columns.append((step, bare, step - bare, *counts))
    return {name: [median(column) for column in zip(*columns, strict=True)] for name, columns in found.items()}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--batch", type=int, default=512)
    arguments.add_argument("--steps", type=int, default=10, help="a multiple of 10")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--methods", type=int, default=len(METHODS), help="only so many of them")
    arguments.add_argument("--pause", type=float, default=0.0, help="seconds of a step that need no processor")
    given = arguments.parse_args()
    Layer.pause = given.pause / 3 / DEPTH
    torch.set_num_threads(1)
    found = measured(torch.randn(given.batch, WIDTH), torch.randint(CLASSES, (given.batch,)), given)
    if ls.MPI().rank == 0:
        heads = ("s a step", "alone", "of it comm.", "MB metered", "MB on the card")
        print(f"{'method':32}" + "".join(f"{head:>16}" for head in heads))
        for name, (step, bare, communication, metered, counted) in found.items():
            columns = (step, bare, communication, metered / 1e6, counted / 1e6)
            print(f"{name:32}" + "".join(f"{column:16.3f}" for column in columns))


if __name__ == "__main__":
    main()
