"""One rank of a job under mpiexec, some of whose networks lie on a GPU: see `ranks.py`.

Where torch has a GPU it is that; elsewhere the CPU pretends to be one, and then results are the CPU's bits.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

import pytest
import torch
from mpi4py import MPI
from tests.contract.discovery import cases
from tests.torch.device.emulated_device import CODED, emulated_device
from tests.torch.processes.ranks import say
from tests.torch.training import batches, momentum, seeded
from torch import Tensor, nn

import loosestep as ls
import loosestep.torch
from loosestep import strategies
from loosestep.foundation.errors import Mismatch, PeerFailed
from loosestep.lowering import staging
from loosestep.strategies.base import Strategy
from loosestep.torch import device_buffer

WORLD = MPI.COMM_WORLD
REAL = torch.cuda.is_available()


@contextmanager
def on_device() -> Iterator[str]:
    """Networks made inside, and moved to the device that it gives, lie on a GPU; chunks are small."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(staging, "CHUNK", 64)
        if REAL:
            yield "cuda"
        else:
            with emulated_device(patch, Path(folder)):
                yield "cpu"


def train(
    strategy: Strategy,
    device: str = "cpu",
    on: ls.Transport | None = None,
    backward: Callable[[Tensor], Any] = Tensor.backward,
    steps: int = 9,
) -> tuple[list[Tensor], bool]:
    """Consensus and parameters after some steps; whether it was a GPU that held them."""
    net = seeded(WORLD.rank).to(device)
    inner = momentum(net.parameters())
    with loosestep.torch.parallel(net, inner, strategy, on) as optimizer:
        for x, y in batches(steps, rows=24):
            x, y = (each[optimizer.rank :: optimizer.size].to(device) for each in (x, y))
            optimizer.zero_grad()
            backward(nn.functional.cross_entropy(net(x), y))
            optimizer.step()
        with optimizer.consensus():
            left = [param.detach().cpu().clone() for param in net.parameters()]
        left += [param.detach().cpu().clone() for param in net.parameters()]
    return left, isinstance(optimizer.worker.params, device_buffer.DeviceBuffer)


def alike(got: list[Tensor], wanted: list[Tensor]) -> None:
    """To the bit where the same processor computed gradients."""
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, **({"rtol": 1e-3, "atol": 1e-4} if REAL else {"rtol": 0, "atol": 0}))


def served(*, synchronous: bool) -> list[Strategy]:
    """The examples of all strategies that a loop with nothing but step() can have on a GPU."""
    found = [case.values[0] for case in cases(strategies, Strategy)]
    return [s for s in found if not s.shared_buffers and not s.needs and s.synchronous == synchronous]


def synchronous() -> int:
    """As on the CPU, whatever the strategy."""
    for strategy in (*served(synchronous=True), *([] if REAL else CODED)):  # where bits are alike
        wanted, _ = train(strategy)
        with on_device() as device:
            got, there = train(strategy, device)
        assert there
        alike(got, wanted)
    return int(WORLD.rank)


def asynchronous() -> int:
    """What comes of them is never the same; that they come to their end, with sound numbers, is."""
    for strategy in served(synchronous=False):
        with on_device() as device:
            got, there = train(strategy, device)
        assert there
        assert all(torch.isfinite(each).all() for each in got)
    return int(WORLD.rank)


def on_two_hosts() -> int:
    """Messages between hosts, memory within: all but the first worker are on another host."""
    between = ls.MPI(hosts=(1, WORLD.size - 1))
    for strategy in (ls.AllReduceSGD(bucket_bytes=64), ls.CoCoDSGD(period=2), ls.EASGD(period=2), ls.CDSGD()):
        wanted, _ = train(strategy, on=between)
        with on_device() as device:
            got, there = train(strategy, device, on=between)
        assert there
        if strategy.synchronous:
            alike(got, wanted)
    return int(WORLD.rank)


def backward_in_another_thread() -> int:
    """Where torch takes gradients on a GPU: what began while it did goes on in the user's thread."""
    strategy = ls.AllReduceSGD(bucket_bytes=64)
    wanted, _ = train(strategy)
    with on_device() as device, ThreadPoolExecutor(1) as threads:
        got, _ = train(strategy, device, backward=lambda loss: threads.submit(loss.backward).result())
    alike(got, wanted)
    return int(WORLD.rank)


def of_several_kinds() -> int:
    """One worker's network lies on a GPU, the others' do not: refused, by all."""
    place = nullcontext("cpu") if WORLD.rank else on_device()
    with place as device, pytest.raises(Mismatch, match="parameters on"):
        train(ls.LocalSGD(), device)
    return int(WORLD.rank)


def shared_memory_is_refused() -> int:
    """Hogwild shares what the CPU writes: all ranks refuse it, or hear of the refusal of another one first."""
    with (
        on_device() as device,
        pytest.raises((TypeError, PeerFailed), match="shares parameters in main memory, and these are on"),
    ):
        train(ls.Hogwild(adds="racy"), device)
    return int(WORLD.rank)


CASES: dict[str, Callable[[], int]] = {
    "synchronous": synchronous,
    "asynchronous": asynchronous,
    "two hosts": on_two_hosts,
    "another thread": backward_in_another_thread,
    "several kinds": of_several_kinds,
    "shared": shared_memory_is_refused,
}

if __name__ == "__main__":
    say(CASES)
