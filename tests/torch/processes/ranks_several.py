"""One rank of a job under mpiexec: several optimizers in one parallel()."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

import pytest
import torch
from mpi4py import MPI
from tests.torch.processes.ranks import rank, say
from tests.torch.training import assert_same_bits, left_behind, momentum
from torch import nn

import loosestep as ls
import loosestep.torch


def pair() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return nn.Linear(4, 5), nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def iteration(g: nn.Module, d: nn.Module, of_g: Any, of_d: Any, number: int) -> None:
    """The discriminator's step has two passes, and the generator's loss passes through it."""
    torch.manual_seed(100 * number + rank())
    fake = g(torch.randn(3, 4))
    of_d.zero_grad()
    d(fake.detach()).mean().backward()
    (-d(torch.randn(3, 5))).mean().backward()
    of_d.step()
    of_g.zero_grad()
    (-d(fake)).mean().backward()
    of_g.step()


def spread_of(*nets: nn.Module) -> float:
    mine = torch.cat([param.detach().reshape(-1) for net in nets for param in net.parameters()])
    return float(max((other - mine).abs().max() for other in MPI.COMM_WORLD.allgather(mine)))


def gan() -> int:
    """Each optimizer steps apart; consensus, once, save, restore and the end are of both."""
    for strategy in (ls.AllReduceSGD(), ls.LocalSGD(2), ls.EASGD(2)):
        folder = MPI.COMM_WORLD.bcast(tempfile.mkdtemp())
        g, d = pair()
        inners = momentum(g.parameters()), momentum(d.parameters())
        both = loosestep.torch.parallel([g, d], inners, strategy, accumulate=[1, 2])
        of_g, of_d = both.optimizers
        with both:
            for number in range(3):
                iteration(g, d, of_g, of_d, number)
            of_d.zero_grad()
            both.save(folder, {"number": 3})
            for number in range(3, 6):
                iteration(g, d, of_g, of_d, number)
            of_d.zero_grad()
            if not isinstance(strategy, ls.EASGD):
                with both.consensus() as (one, other):
                    assert one is g
                    assert other is d
                    assert spread_of(g, d) == 0
            both.once(lambda: None)
            mine = left_behind(g, inners[0]) + left_behind(d, inners[1])
        if isinstance(strategy, ls.EASGD):
            continue
        g, d = pair()
        inners = momentum(g.parameters()), momentum(d.parameters())
        with loosestep.torch.parallel([g, d], inners, strategy, accumulate=[1, 2]) as both:
            assert both.restore(folder) == {"number": 3}
            for number in range(3, 6):
                iteration(g, d, *both.optimizers, number)
            both.optimizers[1].zero_grad()
            assert_same_bits(mine, left_behind(g, inners[0]) + left_behind(d, inners[1]))
    return rank()


def shared_encoder() -> int:
    """A part of two models, in a third optimizer or in one of theirs; one model with two optimizers."""
    for which in ("third", "first", "one model"):
        torch.manual_seed(0)
        encoder, heads = nn.Linear(4, 4), [nn.Linear(4, 1), nn.Linear(4, 1)]
        models: Any = [nn.Sequential(encoder, head) for head in heads]
        params = [list(head.parameters()) for head in heads]
        if which == "third":
            params.append(list(encoder.parameters()))
        else:
            params[0] += list(encoder.parameters())
        if which == "one model":
            models = nn.ModuleList(models)
        inners = [momentum(each) for each in params]
        with loosestep.torch.parallel(models, inners, ls.AllReduceSGD()) as several:
            before = encoder.weight.detach().clone()
            for number in range(4):
                torch.manual_seed(100 * number + rank())
                several.zero_grad()
                x = encoder(torch.randn(3, 4))
                sum(head(x).pow(2).mean() for head in heads).backward()
                nn.utils.clip_grad_norm_(several.optimizers[0].layout.slots[0].param, 0.1)
                several.step()
                assert spread_of(encoder, *heads) == 0
            assert not torch.equal(before, encoder.weight)
            assert len(several) == len(inners)
    return rank()


def uneven_ends() -> int:
    """Who has less data answers in the rounds of each, until all have ended."""
    for strategy in (ls.AllReduceSGD(), ls.LocalSGD(3), ls.EASGD(2)):
        g, d = pair()
        inners = momentum(g.parameters()), momentum(d.parameters())
        with loosestep.torch.parallel([g, d], inners, strategy) as both:
            for number in range(2 + 3 * rank()):
                torch.manual_seed(number)
                for net, optimizer, width in ((d, both.optimizers[1], 5), (g, both.optimizers[0], 4)):
                    optimizer.zero_grad()
                    net(torch.randn(3, width)).mean().backward()
                    optimizer.step()
        with both.consensus():
            assert spread_of(g, d) == 0
    return rank()


def apart() -> int:
    """Of two parallel() on one model once() shows only what both are entered for."""
    _, net = pair()
    parts = [momentum(net[0].parameters()), momentum(net[2].parameters())]
    one, other = (loosestep.torch.parallel(net, inner, ls.LocalSGD(2)) for inner in parts)
    with one, other:
        with pytest.raises(RuntimeError, match=r"show this worker's own '2.weight' beside .* \[muon, adamw\]"):
            one.once(lambda: 3)
        with other.consensus():
            assert one.once(lambda: 3, everywhere=True) == 3
    return rank()


CASES: dict[str, Callable[[], int]] = {case.__name__: case for case in (gan, shared_encoder, uneven_ends, apart)}

if __name__ == "__main__":
    say(CASES)
