"""Train the tagger under Hogwild: all workers of a machine share one network and one Adam, without locks.

Run it: loosestep run -n 2 hogwild.py FOLDER, with a FOLDER as for single.py; -n 1 is plain torch, to compare with.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from parallel import PAD, Numbers, Sentence, Tagger, accuracy, padded, read
from torch import nn
from torch.utils.data import DataLoader

import loosestep
import loosestep.torch


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=100_000, help="sentences to train with; there are 12,544")
    parser.add_argument("--epochs", type=int, default=3, help="over all sentences, which workers share out")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=0.003)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable[Sentence]) -> None:
    loss = nn.CrossEntropyLoss(ignore_index=PAD)
    for words, tags in batches:
        optimizer.zero_grad()
        loss(model(words).flatten(0, 1), tags.flatten()).backward()
        optimizer.step()


def main() -> None:
    options = arguments()
    torch.manual_seed(options.seed)
    sentences = read(options.folder, "train")[: options.rows]
    numbers = Numbers(sentences)
    rows, test = ([numbers.of(one) for one in part] for part in (sentences, read(options.folder, "test")))
    model = Tagger(len(numbers.words) + 2, len(numbers.tags) + 1)
    adam = torch.optim.Adam(model.parameters(), lr=options.rate)
    optimizer = loosestep.torch.parallel(model, adam, loosestep.Hogwild(adds="racy"))
    sampler = optimizer.shard(rows, options.batch, seed=options.seed)
    batches = DataLoader(rows, batch_sampler=sampler, collate_fn=padded)
    began = time.perf_counter()
    with optimizer:
        for _ in range(options.epochs):
            learn(model, optimizer, batches)
    seconds = time.perf_counter() - began
    if optimizer.rank == 0:
        steps = adam.state[model.out.weight]["step"].item()
        speed = options.epochs * sum(len(words) for words, _ in rows) / seconds
        told = f"{seconds:.1f} s, {speed:.0f} words/s, {steps:.0f} steps counted"
        print(f"{told}, test accuracy {accuracy(model, test):.4f}", flush=True)


if __name__ == "__main__":
    main()
