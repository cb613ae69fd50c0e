"""Train a small network in a loop of accelerate's on several processes.

Run it: loosestep run -n 2 train.py --out FOLDER [--resume]

accelerate scales losses, accumulates, clips and prints; loosestep joins the workers, deals the rows and saves.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import loosestep.torch
from loosestep.torch.frameworks.accelerate import accelerator_of

ACCUMULATE, PATIENCE = 2, 3


def rows(count: int, seed: int) -> TensorDataset:
    x = torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, (x @ torch.linspace(-1, 1, 8)).tanh()[:, None])


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder for checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint there")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch", type=int, default=8, help="rows of one worker in a backward pass")
    parser.add_argument("--dropout", type=float, default=0.1)
    return parser.parse_args()


def evaluate(model: nn.Module, test: TensorDataset) -> float:
    x, y = test.tensors
    model.eval()
    with torch.no_grad():
        loss = nn.functional.mse_loss(model(x), y).item()
    model.train()
    return loss


def main() -> None:
    given = options()
    torch.manual_seed(0)
    train, test = rows(512, 1), rows(128, 2)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(given.dropout), nn.Linear(32, 1))
    inner = torch.optim.AdamW(model.parameters(), lr=0.01)
    optimizer = loosestep.torch.parallel(model, inner, loosestep.LocalSGD(period=8), accumulate=ACCUMULATE)
    torch.manual_seed(optimizer.rank)  # dropout of each worker's own
    accelerator = accelerator_of(optimizer.rank, cpu=True, gradient_accumulation_steps=ACCUMULATE)
    sampler = optimizer.shard(train, given.batch, shuffle=False)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)
    loader = DataLoader(train, batch_sampler=sampler, generator=torch.Generator())
    net, stepper, batches = accelerator.prepare(model, optimizer, loader)
    epoch, best, patience = 0, float("inf"), PATIENCE
    with optimizer:
        if given.resume:
            note = optimizer.restore(given.out / "workers")
            epoch, best, patience = note["epoch"], note["best"], note["patience"]
            sampler.load_state_dict(note["data"])
            scheduler.load_state_dict(note["scheduler"])
        while epoch < given.epochs and patience:
            for x, y in batches:
                with accelerator.accumulate(net):
                    accelerator.backward(nn.functional.mse_loss(net(x), y))
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(net.parameters(), 1.0)
                    stepper.step()
                    stepper.zero_grad()
            scheduler.step()
            epoch += 1
            loss = optimizer.once(evaluate, model, test, everywhere=True)
            accelerator.print(f"epoch {epoch}: loss {loss:.4f}", flush=True)
            best, patience = (loss, PATIENCE) if loss < best else (best, patience - 1)
            state = {"data": sampler.state_dict(), "scheduler": scheduler.state_dict()}
            optimizer.save(given.out / "workers", {"epoch": epoch, "best": best, "patience": patience, **state})
    optimizer.once(torch.save, model.state_dict(), given.out / "trained.pt")


if __name__ == "__main__":
    main()
