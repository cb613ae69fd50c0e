"""A PyTorch loop that Ctrl-C, SIGTERM or early stopping ends in good order: `loosestep run -n 2 SCRIPT`.

Started again it goes on where it stood, on the batch after the last one; the best model is saved once.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import loosestep as ls
import loosestep.torch


def main(options: argparse.Namespace) -> None:
    world = loosestep.torch.world()
    torch.manual_seed(0)  # one data set for all
    x = torch.randn(1_200, 8)
    data = TensorDataset(x[:1_000], (x[:1_000] @ torch.arange(8.0)).tanh()[:, None])
    held_out, wanted = x[1_000:], (x[1_000:] @ torch.arange(8.0)).tanh()[:, None]
    torch.manual_seed(1_000 + world.rank)  # dropout of each worker's own
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 1))
    optimizer = loosestep.torch.parallel(
        model, torch.optim.SGD(model.parameters(), lr=0.1), eval(options.strategy, vars(ls)), world
    )
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
    averaged = torch.optim.swa_utils.AveragedModel(model)
    sampler = optimizer.shard(data, batch_size=16)
    loader = DataLoader(data, batch_sampler=sampler, generator=torch.Generator())
    also = [scheduler, averaged, sampler]

    def evaluate() -> float:
        model.eval()
        with torch.no_grad():
            error = nn.functional.mse_loss(model(held_out), wanted).item()
        model.train()
        return error

    with optimizer:
        note = optimizer.restore(options.folder, also=also) or {"epoch": 0, "best": 1e9, "bad": 0}
        for epoch in range(note["epoch"], options.epochs):
            seen, rows = 0.0, 0
            for inputs, targets in loader:
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(model(inputs), targets)
                loss.backward()
                optimizer.step()
                averaged.update_parameters(model)
                seen, rows = seen + loss.item() * len(inputs), rows + len(inputs)
                time.sleep(options.sleep)
                if optimizer.stopping:
                    optimizer.save(options.folder, note, also=also)
                    if world.rank == 0:
                        print(f"stopped in epoch {epoch}, saved", flush=True)
                    return
            error = optimizer.once(evaluate, everywhere=True)
            loss_of_all = optimizer.mean(seen / rows, weight=rows)
            scheduler.step(error)
            note = {"epoch": epoch + 1, "best": min(error, note["best"]), "bad": note["bad"] + 1}
            if error == note["best"]:
                note["bad"] = 0
            if world.rank == 0:
                print(f"epoch {epoch}: loss {loss_of_all:.4f}, error {error:.4f}", flush=True)
            if note["bad"] == 3:
                optimizer.stop()  # or `break`: all see the same error
            optimizer.save(options.folder, note, also=also)
        optimizer.once(torch.save, model.state_dict(), f"{options.folder}/model.pt")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", default="checkpoints")
    parser.add_argument("--strategy", default="LocalSGD(8)")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--sleep", type=float, default=0.0, help="seconds after every step")
    main(parser.parse_args())
