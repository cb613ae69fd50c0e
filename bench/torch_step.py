"""What a strategy adds to a step of a torch loop: the limit is the same loop in bare torch.

Each contestant trains a network of its own, from the same start. With one worker the target is at most 2% or 100
microseconds more than bare torch, whichever is more; in processor time, and on a network too small to hide what
is added, it can be seen on a busy machine too. With two, each on a core of its own, the limit is two bare loops
side by side, and the rivals are torch's DDP and PostLocalSGD over Gloo. Times are of ten steps.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import loosestep as ls
import loosestep.torch
from bench.collectives import Group, listening, started
from bench.harness import Elsewhere, Options, Row, Sample, measure
from bench.torch_cases import ADDED, CASES, STEPS
from bench.torch_ranks import RIVALS
from bench.torch_ranks import STRATEGIES as WITH_OTHERS

STRATEGIES = (ls.AllReduceSGD(), ls.LocalSGD(10), ls.EASGD(10), ls.SyncEASGD(10), ls.CDSGD(), ls.Downpour(10))


def rows(options: Options) -> Iterator[Row]:
    yield from one_worker(options)
    yield from one_thread(options)
    yield from two_workers(options)


def one_worker(options: Options) -> Iterator[Row]:
    for case, (make, shape) in CASES.items():
        if options.only not in case:
            continue
        contestants = {"bare torch": loop(make, shape, None)}
        contestants |= {f"loosestep {strategy}": loop(make, shape, strategy) for strategy in STRATEGIES}
        check(make, shape)
        measured = measure(contestants, options, at_least=0.05)
        yield from measured.rows(
            "torch_step",
            case,
            threads=torch.get_num_threads(),
            amount=STEPS,
            unit="steps/s",
            limits=["bare torch"],
        )


class OnProcessor(Elsewhere):
    """A contestant timed by its thread's processor time, in which others on this machine show less."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self.run = run

    def sample(self, repeats: int) -> Sample:
        start = time.thread_time()
        for _ in range(repeats):
            self.run()
        return Sample((time.thread_time() - start) / repeats)


def one_thread(options: Options) -> Iterator[Row]:
    """What a step adds, in processor time: on a network, and by itself."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for case, (make, shape) in ADDED.items():
        name = f"{case}, processor time"
        if options.only in name:
            contestants = {"bare torch": OnProcessor(loop(make, shape, None))}
            contestants |= {f"loosestep {each}": OnProcessor(loop(make, shape, each)) for each in STRATEGIES}
            measured = measure(contestants, options, at_least=0.05)
            yield from measured.rows(
                "torch_step", name, threads=1, amount=STEPS, unit="steps/s", limits=["bare torch"]
            )
    torch.set_num_threads(before)


def two_workers(options: Options) -> Iterator[Row]:
    """Ten steps a call, on two ranks."""
    if importlib.util.find_spec("mpi4py") is None:
        print("mpi4py is not here: two workers are left out (pip install 'loosestep[mpi]')")
        return
    for case in list(CASES)[:1] if options.smoke else CASES:
        if options.only in f"{case}, 2 ranks":
            yield from two_ranks(case, options)


def two_ranks(case: str, options: Options) -> Iterator[Row]:
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory())
        listener = stack.enter_context(listening(f"{place}/bench"))
        groups = {
            name: stack.enter_context(started(name, commands(name, case, place), 2, listener))
            for name in (*RIVALS, *WITH_OTHERS)
        }
        check_alike(groups)
        measured = measure(groups, options, at_least=0.05)
    yield from measured.rows(
        "torch_step", f"{case}, 2 ranks", threads=1, amount=STEPS, unit="steps/s", limits=RIVALS[:1]
    )


def commands(name: str, case: str, place: str) -> list[list[str]]:
    """What starts a contestant: a command for both ranks, or one each."""
    start = [sys.executable, "-m", "bench.torch_ranks", f"{place}/bench", case, name]
    if name in WITH_OTHERS:
        mpiexec = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        return [[mpiexec or "mpiexec", "--bind-to", "none", "--oversubscribe", "-n", "2", *start]]
    return [[*start, str(rank), "2", f"{place}/{name}"] for rank in range(2)]


def check_alike(groups: Mapping[str, Group]) -> None:
    """Every contestant trains, and what is the same method has the same losses."""
    losses = {name: group.ask(("loss",)) for name, group in groups.items()}
    np.testing.assert_allclose(losses["AllReduceSGD()"], losses[RIVALS[1]], rtol=1e-4, err_msg="not DDP's losses")
    local = f"LocalSGD(period={STEPS})"  # torch averages after the first step of ten, not after the last
    np.testing.assert_allclose(losses[local], losses[RIVALS[2]], rtol=1e-2, err_msg="not PostLocalSGD's losses")


def check(make: Callable[[], nn.Module], shape: tuple[int, ...], device: str = "cpu") -> None:
    """What is measured trains: the loss of some steps is the bare loop's, bit for bit where it must be."""
    plain, ours, local = (loop(make, shape, each, device) for each in (None, ls.AllReduceSGD(), ls.LocalSGD(10)))
    for _ in range(3):
        wanted = plain()
        if ours() != wanted or local() != wanted:
            raise AssertionError("a strategy that is the identity for one worker changed the losses")


def loop(
    make: Callable[[], nn.Module], shape: tuple[int, ...], strategy: ls.Strategy | None, device: str = "cpu"
) -> Callable[[], Any]:
    """Ten steps of training, so that every call holds an exchange; returns the last loss."""
    torch.manual_seed(0)
    net, x, y = (each.to(device) for each in (make(), torch.randn(*shape), torch.randint(0, 8, shape[:1])))
    optimizer: Any = torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9)
    if strategy is not None:
        optimizer = loosestep.torch.parallel(net, optimizer, strategy, ls.Serial())

    def run() -> Any:
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
        return loss.item()

    return run
