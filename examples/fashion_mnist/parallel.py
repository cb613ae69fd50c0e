"""Train a CNN with BatchNorm on Fashion-MNIST, in PyTorch.

Run it: python single.py [--folder DIR], or loosestep run -n 4 parallel.py [--folder DIR]
"""

from __future__ import annotations

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import loosestep.torch
from loosestep.data import load

Rows = list[torch.Tensor]  # images and labels


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="where the four files are; found or downloaded by default")
    parser.add_argument("--rows", type=int, default=60_000, help="to train with")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--save", default="fashion_mnist.pt", help="the file for the trained network")
    return parser.parse_args()


def block(channels: int, filters: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, filters, 3, padding=1, bias=False),
        nn.BatchNorm2d(filters),
        nn.ReLU(),
        nn.MaxPool2d(2),
    ]


def network() -> nn.Module:
    body = [nn.Unflatten(1, (1, 28, 28)), *block(1, 16), *block(16, 32), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 10))


@torch.no_grad()
def accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    model.eval()
    found = torch.cat([model(part).argmax(1) for part in x.split(500)])
    model.train()
    return (found == y).float().mean().item()


def report(epoch: int, model: nn.Module, test: Rows) -> None:
    print(f"epoch {epoch + 1}: test accuracy {accuracy(model, *test):.4f}", flush=True)


def learn(
    model: nn.Module, optimizer: torch.optim.Optimizer, batches: DataLoader, test: Rows, epochs: int
) -> None:
    loss = nn.CrossEntropyLoss()
    for epoch in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
        optimizer.once(report, epoch, model, test)


def main() -> None:
    options = arguments()
    torch.manual_seed(0)
    data = load("fashion-mnist", options.folder)
    x_train, y_train, *test = map(torch.from_numpy, (*data.train, *data.test))
    rows = TensorDataset(x_train[: options.rows], y_train[: options.rows])
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=options.rate, momentum=0.9)
    optimizer = loosestep.torch.parallel(model, optimizer, loosestep.LocalSGD(period=8))
    batches = DataLoader(rows, batch_sampler=optimizer.shard(rows, options.batch))
    learn(model, optimizer, batches, test, options.epochs)
    optimizer.once(torch.save, model.state_dict(), options.save)


if __name__ == "__main__":
    main()
