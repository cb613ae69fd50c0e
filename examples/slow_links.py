"""What a step costs where links are slow: overlap, and methods that communicate seldom.

Start one rank on every host (`mpiexec --host a,b python slow_links.py`); rank 0 prints. Compute and communication
of the first method should take about as long: give --batch so.
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

WIDTH, DEPTH = 500, 8  # square layers: 2 M parameters, whose gradients come one after the other


def network() -> nn.Module:
    torch.manual_seed(0)
    square = [layer for _ in range(DEPTH) for layer in (nn.Linear(WIDTH, WIDTH), nn.Tanh())]
    return nn.Sequential(*square, nn.Linear(WIDTH, 10))


def sent() -> int:
    """Bytes that this host has sent."""
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
    """Seconds a step without communication."""
    net = network()
    inner = torch.optim.SGD(net.parameters(), lr=0.01)

    def step() -> None:
        inner.zero_grad()
        nn.functional.cross_entropy(net(rows), targets).backward()
        inner.step()

    return median(seconds_of(step, steps))


def together(strategy: ls.Strategy, rows: torch.Tensor, targets: torch.Tensor, steps: int) -> tuple[float, ...]:
    """Seconds a step, bytes a step as metered, bytes a step as the network card counts."""
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


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--batch", type=int, default=512)
    arguments.add_argument("--steps", type=int, default=20, help="a multiple of 10")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    rows, targets = torch.randn(given.batch, WIDTH), torch.randint(10, (given.batch,))
    methods = {
        "AllReduceSGD, one bucket": ls.AllReduceSGD(bucket_bytes=1 << 30),
        "AllReduceSGD, buckets of 1 MiB": ls.AllReduceSGD(bucket_bytes=1 << 20),
        "LocalSGD(period=10)": ls.LocalSGD(period=10),
        "EASGD(period=10)": ls.EASGD(period=10),
    }
    bare = alone(rows, targets, given.steps)
    first = ls.MPI().rank == 0
    if first:
        print(f"{'method':32}{'s a step':>10}{'of it comm.':>12}{'MB metered':>12}{'MB on the card':>16}")
        print(f"{'no communication':32}{bare:10.3f}", flush=True)
    for name, strategy in methods.items():
        step, metered, counted = together(strategy, rows, targets, given.steps)
        if first:
            print(
                f"{name:32}{step:10.3f}{step - bare:12.3f}{metered / 1e6:12.2f}{counted / 1e6:16.2f}", flush=True
            )


if __name__ == "__main__":
    main()
