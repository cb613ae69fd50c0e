"""One rank of a job under mpiexec: adversarial training sends what training sends, and has the bits of threads."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

import numpy as np
import torch
from mpi4py import MPI
from tests.torch.processes.ranks import rank, say
from tests.torch.training import assert_same_bits, left_behind, momentum, seeded
from torch import nn

import loosestep as ls
import loosestep.torch
from loosestep.adversarial import FGSM, PGD, AdversarialModel
from loosestep.data.models import MLP

STEPS = 6


def rows(seed: int = 3) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    return random.random((24, 5), np.float32), random.integers(0, 3, 24)


def trained(attack: Any, strategy: ls.Strategy) -> tuple[Any, list[Any]]:
    """Train as plain, or with an attack; return the optimizer and what is left behind."""
    net = seeded(0)
    inner = momentum(net.parameters())
    x, y = (torch.tensor(part[rank() :: MPI.COMM_WORLD.size]) for part in rows())
    with loosestep.torch.parallel(net, inner, strategy, seed=2) as optimizer:
        robust: Any = attack and loosestep.torch.AdversarialLoss(net, attack, parallel=optimizer)
        for step in range(STEPS):
            optimizer.zero_grad()
            before = optimizer.meter.bytes
            found = robust.perturb(x, y) if robust else x
            assert optimizer.meter.bytes == before, "an attack sends nothing"
            nn.functional.cross_entropy(net(found), y).backward()
            optimizer.step()
            assert not robust or (robust.last.seed, robust.last.worker, robust.last.step) == (2, rank(), step)
    return optimizer, left_behind(net, inner)


def attacked() -> int:
    """Attacks add no bytes and no message; without a perturbation the bits are those of standard training."""
    for strategy in (ls.AllReduceSGD(64), ls.LocalSGD(2), ls.ErrorFeedback(ls.AllReduceSGD(), ls.QSGD(127))):
        plain, expected = trained(None, strategy)
        still, same = trained(FGSM(0.0), strategy)
        optimizer, ours = trained(PGD(0.2, steps=3), strategy)
        assert_same_bits(same, expected)
        assert still.meter.bytes == plain.meter.bytes == optimizer.meter.bytes > 0
        assert still.meter.messages == plain.meter.messages == optimizer.meter.messages
        assert not torch.equal(ours[0], expected[0])
        for other in MPI.COMM_WORLD.allgather(ours[0]):
            assert torch.equal(other, ours[0])
    return rank()


def in_run() -> int:
    """Processes have the bits of threads, and without a perturbation those of standard training."""
    net, (x, y) = MLP(5).build(5, 3), rows()

    def run(gradient: Any, on: ls.Transport) -> bytes:
        return ls.run(
            ls.AllReduceSGD(),
            gradient,
            net.init(0),
            lambda rank, size: iter([(x[rank::size], y[rank::size])] * STEPS),
            on=on,
            seed=5,
        ).params.tobytes()

    robust = AdversarialModel(net, PGD(0.2, steps=3)).gradient
    assert run(robust, ls.MPI()) == run(robust, ls.Threads(MPI.COMM_WORLD.size))
    standard = run(net.gradient, ls.MPI())
    assert run(AdversarialModel(net, PGD(0.0)).gradient, ls.MPI()) == standard != run(robust, ls.MPI())
    return rank()


CASES: dict[str, Callable[[], int]] = {case.__name__: case for case in (attacked, in_run)}

if __name__ == "__main__":
    say(CASES)
