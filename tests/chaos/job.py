"""A small real training job to which a kind of fault happens: python -m tests.chaos.job SPEC FOLDER [fault].

What it says: `going PID RANK` at a rank's first gradient, `at STEP` at the step that was drawn, on the rank that
was drawn; `bits CRC` of the result, and `done RANK`. Without the word `fault` nothing happens to it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

from tests.chaos.kind import JOINED, OUTSIDE, START, STEP, Kind, found
from tests.chaos.spec import Spec

RANKS = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")
PACE = 0.01  # seconds that a gradient takes
SAYS = os.dup(1)  # a kind may close the other one


class Place:
    """Where a rank is, for the kind that acts in it."""

    def __init__(self, spec: Spec, folder: str, fault: Kind | None) -> None:
        self.spec, self.folder, self.fault = spec, Path(folder), fault
        self.settings = spec.settings()
        self.random: Random = spec.random()
        self.rank = int(next((os.environ[name] for name in RANKS if name in os.environ), "0"))
        self.steps = 0  # gradients that this process has begun
        self.spoilt = False  # the gradient of this step is to be one that is not finite

    def comes(self, when: str) -> None:
        """The kind acts here, if it is of here."""
        if self.fault is not None and self.fault.when == when and self.rank == self.spec.rank:
            say(f"at {when}")
            self.fault.act(self)

    def begin_step(self) -> None:
        """A gradient begins."""
        self.steps += 1
        if self.steps == 1:
            say(f"going {os.getpid()} {self.rank}")
        time.sleep(PACE)
        if self.steps != self.spec.step:
            return
        self.comes(STEP)
        if self.fault is not None and self.fault.when == OUTSIDE and self.rank == self.spec.rank:
            say(f"at {OUTSIDE}")


def say(text: str) -> None:
    """One line, at once: what the trial waits for."""
    os.write(SAYS, f"{text}\n".encode())


def strategy_of(name: str) -> Any:
    """With periods that divide the steps between checkpoints."""
    import loosestep as ls

    special = {
        "AllReduceSGD": ls.AllReduceSGD,
        "CDSGD": lambda: ls.CDSGD(topology=ls.Ring()),
        "DecoupledDiLoCo": lambda: ls.DecoupledDiLoCo(period=5, fragments=2),
        "StreamingDiLoCo": lambda: ls.StreamingDiLoCo(period=10, fragments=2),
        "DaSGD": lambda: ls.DaSGD(period=5, delay=2),
        "Hogwild": lambda: ls.Hogwild(adds="racy"),
        "SSP": lambda: ls.SSP(bound=3),
    }
    return special[name]() if name in special else getattr(ls, name)(period=5)


# --- the loop of the library -------------------------------------------------------------------------------


def library(spec: Spec, on: Any, folder: str | None, place: Place | None) -> Any:
    """The run; without a place it is the one to compare with."""
    import numpy as np

    import loosestep as ls

    settings = spec.settings()

    def batches(rank: int, size: int) -> Iterator[Any]:
        random = np.random.default_rng(rank)
        return (random.standard_normal((4, settings.width)) for _ in range(settings.steps))

    def gradient(x: Any, batch: Any) -> Any:
        if place is not None:
            place.begin_step()
        slope = x - batch.mean(axis=0)
        if place is not None and place.spoilt:
            slope[3], place.spoilt = np.nan, False
        return (float(np.square(x).sum()) / 2, slope) if settings.loss else slope

    options = {} if folder is None else {"checkpoint": folder, "checkpoint_every": settings.every, "resume": True}
    return ls.run(
        strategy_of(spec.strategy), gradient, np.ones(settings.width), batches, optimizer=ls.Nesterov(0.05, 0.9),
        on=on, evaluate=lambda x: float(x @ x), every=settings.every, **options,
    )  # fmt: skip


def bits(array: Any) -> str:
    """A checksum, and whether all is finite."""
    import numpy as np

    return f"{crc32(array.tobytes()):08x} {'finite' if np.isfinite(array).all() else 'not-finite'}"


def expected(spec: Spec) -> str:
    """The bits of an unbroken run of the library's loop, in this process."""
    import loosestep as ls

    return bits(library(spec, ls.Simulated(spec.ranks, hosts=spec.hosts or None), None, None).params)


# --- a loop of the user's ----------------------------------------------------------------------------------


def torch_loop(place: Place, on: Any) -> None:
    """A linear regression by two layers, saved every few steps."""
    import torch

    import loosestep.torch
    from loosestep.foundation.errors import CheckpointError

    torch.set_num_threads(1)
    torch.manual_seed(5)
    settings, model = place.settings, torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.Linear(32, 1))
    inner = torch.optim.SGD(model.parameters(), lr=0.002, momentum=0.9)
    optimizer = loosestep.torch.parallel(model, inner, strategy_of(place.spec.strategy), on)
    note = optimizer.restore(place.folder)

    def learn(step: int) -> None:
        random = torch.Generator().manual_seed(1000 * place.rank + step)
        x = torch.randn(8, 16, generator=random)
        optimizer.zero_grad()
        ((model(x) - x.sum(dim=1, keepdim=True)) ** 2).mean().backward()
        place.begin_step()
        if place.spoilt:
            next(model.parameters()).grad[0, 0], place.spoilt = torch.nan, False
        optimizer.step()

    def save(step: int) -> None:
        try:
            optimizer.save(place.folder, {"step": step})
        except CheckpointError as error:
            if not settings.catches:
                raise
            say(f"caught {error}")

    def tell() -> None:
        say(f"bits {bits(torch.cat([each.detach().reshape(-1) for each in model.parameters()]).numpy())}")

    with optimizer:
        for step in range(0 if note is None else note["step"], settings.steps):
            learn(step)
            if (step + 1) % settings.every == 0:
                save(step + 1)
        optimizer.once(tell)


# --- the whole ---------------------------------------------------------------------------------------------


def main() -> None:
    spec, folder = Spec.parse(sys.argv[1]), sys.argv[2]
    place = Place(spec, folder, found()[spec.kind] if "fault" in sys.argv else None)
    place.comes(START)
    import loosestep as ls

    if spec.loop == "threads":
        forgotten(spec)
        return
    settings = place.settings
    on = ls.MPI(heartbeat_timeout=settings.heartbeat_timeout, deadline=settings.deadline, hosts=spec.hosts or None)
    if place.fault is not None and place.fault.when == JOINED:
        assert on.rank == place.rank
        place.comes(JOINED)
    if spec.loop == "torch":
        torch_loop(place, on)
    else:
        say(f"bits {bits(library(spec, on, folder, place).params)}")
    say(f"done {place.rank}")


def forgotten(spec: Spec) -> None:
    """Runs in a daemon thread go on while the interpreter ends."""
    import loosestep as ls

    def run_for_ever() -> None:
        while True:
            library(spec, ls.Threads(spec.ranks), None, None)

    threading.Thread(target=run_for_ever, daemon=True).start()
    say(f"going {os.getpid()} 0")
    time.sleep(0.3 + spec.random().random() / 2)
    for rank in range(spec.ranks):
        say(f"done {rank}")


if __name__ == "__main__":
    main()
