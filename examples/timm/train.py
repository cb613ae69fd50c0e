"""Train a small image model of timm, with its optimizer, schedule, clipping and EMA, on several processes.

Run it: loosestep run -n 2 train.py --out FOLDER [--resume]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import timm
import timm.optim
import timm.scheduler
import torch
from timm.utils import ModelEmaV3, dispatch_clip_grad
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import loosestep.torch

CLASSES, SIDE, ACCUMULATE, PATIENCE = 4, 32, 2, 3
EPOCHS = 8  # of the schedule


def pictures(count: int, seed: int) -> TensorDataset:
    """A bright band on noise; its place is the class."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    x = torch.randn(count, 3, SIDE, SIDE, generator=random) / 2
    wide = SIDE // CLASSES
    for row, label in enumerate(labels.tolist()):
        x[row, :, label * wide : (label + 1) * wide] += 1
    return TensorDataset(x, labels)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder for checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint there")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--batch", type=int, default=4, help="rows of one worker in a backward pass")
    parser.add_argument("--dropout", type=float, default=0.1)
    return parser.parse_args()


def evaluate(model: nn.Module, test: TensorDataset) -> float:
    x, y = test.tensors
    model.eval()
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(x), y).item()
    model.train()
    return loss


def learn(model: nn.Module, averaged: ModelEmaV3, optimizer: Any, batches: DataLoader) -> None:
    """Make an epoch's steps, as timm's own loop does."""
    for number, (x, y) in enumerate(batches, 1):
        (nn.functional.cross_entropy(model(x), y) / ACCUMULATE).backward()
        if number % ACCUMULATE == 0:
            dispatch_clip_grad(model.parameters(), 1.0, mode="norm")
            optimizer.step()
            optimizer.zero_grad()
            averaged.update(model)


def main() -> None:
    given = options()
    torch.manual_seed(0)
    train, test = pictures(128, 1), pictures(32, 2)
    model = timm.create_model("test_vit", num_classes=CLASSES, img_size=SIDE, drop_rate=given.dropout)
    inner = timm.optim.create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
    optimizer = loosestep.torch.parallel(model, inner, loosestep.LocalSGD(period=8), accumulate=ACCUMULATE)
    torch.manual_seed(optimizer.rank)  # dropout of each worker's own
    averaged = ModelEmaV3(model, decay=0.9)
    sampler = optimizer.shard(train, given.batch, shuffle=False)
    scheduler = timm.scheduler.CosineLRScheduler(optimizer, t_initial=EPOCHS)
    loader = DataLoader(train, batch_sampler=sampler, generator=torch.Generator())
    epoch, best, patience = 0, float("inf"), PATIENCE
    given.out.mkdir(parents=True, exist_ok=True)
    own = given.out / f"averaged-{optimizer.rank}.pt"
    with optimizer:
        if given.resume:
            note = optimizer.restore(given.out / "workers")
            epoch, best, patience = note["epoch"], note["best"], note["patience"]
            sampler.load_state_dict(note["data"])
            averaged.load_state_dict(torch.load(own, weights_only=True))
        while epoch < given.epochs and patience:
            learn(model, averaged, optimizer, loader)
            epoch += 1
            scheduler.step(epoch)
            loss = optimizer.once(evaluate, model, test, everywhere=True)
            of_average = optimizer.mean(evaluate(averaged.module, test))
            if optimizer.rank == 0:
                print(f"epoch {epoch}: loss {loss:.4f}, of averaged weights {of_average:.4f}", flush=True)
            best, patience = (loss, PATIENCE) if loss < best else (best, patience - 1)
            note = {"epoch": epoch, "best": best, "patience": patience, "data": sampler.state_dict()}
            torch.save(averaged.state_dict(), own)
            optimizer.save(given.out / "workers", note)
    optimizer.once(torch.save, model.state_dict(), given.out / "trained.pt")


if __name__ == "__main__":
    main()
