"""Train a small network by Lightning's Trainer on several processes.

Run it: loosestep run -n 2 train.py --out FOLDER [--resume]

Clipping, accumulation, schedule, validation, checkpoints and early stopping are Lightning's own; the module does
not know of loosestep.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import loosestep
from loosestep.torch.frameworks.lightning import LoosestepStrategy


class Regression(lightning.LightningModule):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, 1))

    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        x, y = batch
        return nn.functional.mse_loss(self.net(x), y)

    def validation_step(self, batch: Any, number: int) -> None:
        x, y = batch
        self.log("loss", nn.functional.mse_loss(self.net(x), y), sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)]


def rows(count: int, seed: int) -> TensorDataset:
    x = torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, (x @ torch.linspace(-1, 1, 8)).tanh()[:, None])


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder for checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint there")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch", type=int, default=8, help="rows of one worker in a backward pass")
    parser.add_argument("--dropout", type=float, default=0.1)
    return parser.parse_args()


def main() -> None:
    given = options()
    torch.manual_seed(0)
    module = Regression(given.dropout)
    strategy = LoosestepStrategy(loosestep.LocalSGD(period=8))
    torch.manual_seed(strategy.global_rank)  # dropout of each worker's own
    trainer = lightning.Trainer(
        strategy=strategy,
        accelerator="cpu",
        devices=1,
        max_epochs=given.epochs,
        accumulate_grad_batches=2,
        gradient_clip_val=1.0,
        callbacks=[
            ModelCheckpoint(given.out, monitor="loss", save_last=True),
            EarlyStopping("loss", patience=3),
        ],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    train, test = DataLoader(rows(512, 1), given.batch), DataLoader(rows(128, 2), 32)
    trainer.fit(module, train, test, ckpt_path=given.out / "last.ckpt" if given.resume else None)
    if trainer.is_global_zero:
        print(f"step {trainer.global_step}: loss {trainer.callback_metrics['loss']:.4f}", flush=True)
        torch.save(module.state_dict(), given.out / "trained.pt")


if __name__ == "__main__":
    main()
