"""accelerate in a process that computes alone: loosestep joins the workers, and says which of them prints."""

from __future__ import annotations

from typing import Any

from accelerate import Accelerator, PartialState

from loosestep.torch.frameworks.launcher import hidden_launcher


def accelerator_of(rank: int, **options: Any) -> Accelerator:
    """Return an Accelerator of one process, for the loop of worker `rank`; `options` are Accelerator's.

    It scales losses, accumulates, clips and places tensors as without loosestep, and joins no processes, whatever
    the launcher's variables say. `is_main_process`, `accelerator.print` and trackers are those of rank 0.

        optimizer = loosestep.torch.parallel(model, optimizer, strategy, accumulate=4)
        accelerator = accelerator_of(optimizer.rank, gradient_accumulation_steps=4)
        model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    What accelerate gathers and saves is of this process alone: use the calls of what `parallel` returned, such as
    mean(), agree(), once(), save() and restore().
    """
    with hidden_launcher():
        accelerator = Accelerator(**options)
    take_rank(accelerator.state._partial if hasattr(accelerator.state, "_partial") else PartialState(), rank)
    return accelerator


def take_rank(state: PartialState, rank: int) -> None:
    """Let accelerate print, log and track on rank 0 alone. Its `num_processes` stays 1."""
    if state.num_processes != 1:
        raise RuntimeError(
            f"accelerate has joined {state.num_processes} processes by itself, and would average what loosestep "
            "does: make its objects inside `with hidden_launcher():`"
        )
    state.process_index = state.local_process_index = rank
