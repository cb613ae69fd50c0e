"""Train a small GPT-2 by Hugging Face's Trainer on several processes.

Run it: loosestep run -n 2 train.py --out FOLDER [--resume]

Clipping, accumulation, schedule, evaluation, checkpoints and early stopping are Trainer's own.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import EarlyStoppingCallback, GPT2Config, GPT2LMHeadModel, TrainingArguments

import loosestep.torch
from loosestep.torch.frameworks.huggingface import ParallelTrainer
from loosestep.torch.frameworks.launcher import hidden_launcher

WORDS, LENGTH, ACCUMULATE = 64, 32, 2


class Sequences(Dataset):
    """Arithmetic sequences modulo WORDS."""

    def __init__(self, rows: int, seed: int) -> None:
        random = torch.Generator().manual_seed(seed)
        stride = torch.randint(1, 4, (rows, 1), generator=random)
        first = torch.randint(0, WORDS, (rows, 1), generator=random)
        self.tokens = (stride * torch.arange(LENGTH) + first) % WORDS

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"input_ids": self.tokens[row], "labels": self.tokens[row]}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="the folder for checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint there")
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--batch", type=int, default=8, help="rows of one worker in a backward pass")
    parser.add_argument("--dropout", type=float, default=0.1)
    return parser.parse_args()


def main() -> None:
    given = options()
    torch.manual_seed(0)
    sizes = {"n_positions": LENGTH, "n_embd": 32, "n_layer": 2, "n_head": 2}
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), given.dropout)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=WORDS, bos_token_id=0, eos_token_id=0, **sizes, **dropout))
    inner = torch.optim.AdamW(model.parameters(), lr=3e-3)
    optimizer = loosestep.torch.parallel(model, inner, loosestep.LocalSGD(period=8), accumulate=ACCUMULATE)
    torch.manual_seed(optimizer.rank)  # dropout of each worker's own
    with hidden_launcher():
        arguments = TrainingArguments(
            given.out,
            per_device_train_batch_size=given.batch,
            gradient_accumulation_steps=ACCUMULATE,
            max_grad_norm=1.0,
            max_steps=given.steps,
            warmup_steps=4,
            lr_scheduler_type="cosine",
            train_sampling_strategy="sequential",
            eval_strategy="steps",
            save_strategy="steps",
            eval_steps=12,
            save_steps=12,
            save_total_limit=2,
            metric_for_best_model="loss",
            logging_steps=12,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
    trainer = ParallelTrainer(
        model,
        arguments,
        train_dataset=Sequences(1024, 1),
        eval_dataset=Sequences(64, 2),
        optimizers=(optimizer, None),
        callbacks=[EarlyStoppingCallback(early_stopping_patience=3)],
    )
    with optimizer:
        trainer.train(resume_from_checkpoint=given.resume)
        loss = trainer.evaluate()["eval_loss"]
    if optimizer.rank == 0:
        print(f"step {trainer.state.global_step}: loss {loss:.4f}", flush=True)
    optimizer.once(model.save_pretrained, f"{given.out}/trained")


if __name__ == "__main__":
    main()
