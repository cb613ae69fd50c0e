"""One rank of a job under mpiexec: what users do that several workers must notice together."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

import pytest
import torch
from tests.torch.processes.ranks import rank, say, spread
from tests.torch.training import adamw, assert_same_bits, batches, left_behind, momentum, seeded
from torch import nn
from torch.utils.checkpoint import checkpoint

import loosestep as ls
import loosestep.torch
from loosestep.foundation.errors import LoosestepError, Mismatch


def made(net: nn.Module, strategy: ls.Strategy | None = None, inner: Any = None) -> Any:
    return loosestep.torch.parallel(net, inner or momentum(net.parameters()), strategy or ls.AllReduceSGD())


def backward(net: nn.Module, number: int = 0) -> None:
    """Each rank has rows of its own."""
    x, y = list(batches(number + 1))[number]
    nn.functional.cross_entropy(net(x + rank()), y).backward()


def step(net: nn.Module, optimizer: Any, number: int = 0) -> None:
    optimizer.zero_grad()
    backward(net, number)
    optimizer.step()


def run(net: nn.Module, optimizer: Any, numbers: range) -> None:
    for number in numbers:
        step(net, optimizer, number)


def frozen_by_all() -> int:
    """What all freeze rests to the bit, and is trained again later; the rest goes on alike."""
    for strategy in (ls.AllReduceSGD(), ls.AllReduceSGD(bucket_bytes=64), ls.LocalSGD(1)):
        net = seeded(0)
        with made(net, strategy, adamw(list(net.parameters()))) as optimizer:
            for number in range(9):
                rests = 3 <= number < 6
                net[0].requires_grad_(not rests)
                before = [param.detach().clone() for param in net.parameters()]
                step(net, optimizer, number)
                same = [torch.equal(param, old) for param, old in zip(net.parameters(), before, strict=True)]
                assert same == [rests, rests, False, False], (strategy, number, same)
                assert (net[0].weight.grad is None) == rests
                assert spread(optimizer) == 0
    return rank()


def passes_of_others() -> int:
    """A model that is frozen meanwhile sends nothing of a pass of another's loss; two passes must be said."""
    torch.manual_seed(0)
    g, d = nn.Linear(4, 5), nn.Linear(5, 1)
    with ExitStack() as both:
        of_g, of_d = (both.enter_context(made(net)) for net in (g, d))
        torch.manual_seed(rank())
        for _ in range(4):
            fake = g(torch.randn(3, 4))
            of_d.zero_grad()
            (d(fake.detach()).mean() - d(torch.randn(3, 5)).pow(2).mean()).backward()
            of_d.step()
            d.requires_grad_(False)
            of_g.zero_grad()
            d(fake).mean().backward()
            of_g.step()
            d.requires_grad_(True)
            assert spread(of_g) == spread(of_d) == 0
        d(g(torch.randn(3, 4))).mean().backward()
        said = r"again, and its gradient is being sent .* accumulate=2\) .* with model\.requires_grad_\(False\)"
        with pytest.raises(RuntimeError, match=said):
            d(torch.randn(3, 5)).mean().backward()
    return rank()


def begun() -> int:
    """A step begins in backward(): nothing comes between."""
    net = seeded(0)
    with made(net) as optimizer:
        backward(net)
        with pytest.raises(RuntimeError, match=r"consensus\(\) belongs between steps"), optimizer.consensus():
            pass
        with pytest.raises(RuntimeError, match=r"state_dict\(\) belongs between steps"):
            optimizer.state_dict()
        with pytest.raises(RuntimeError, match=r"save\(\) belongs between steps"):
            optimizer.save("nowhere")
        optimizer.step()
        assert spread(optimizer) == 0
        backward(net)
        optimizer.zero_grad()
        optimizer.once(lambda: None)
        assert optimizer.worker.clock == 1
    return rank()


def thrown_away() -> int:
    """zero_grad() of the model is seen, also where the gradients were averaged."""
    for strategy in (ls.LocalSGD(2), ls.AllReduceSGD(), ls.AllReduceSGD(bucket_bytes=64)):
        for set_to_none in (True, False):
            net, other = seeded(0), seeded(0)
            with made(net, strategy) as optimizer, made(other, strategy) as plain:
                for number in range(4):
                    for _ in range(2):
                        backward(net, 7)
                        net.zero_grad(set_to_none)
                    backward(net, number)
                    optimizer.step()
                    net.zero_grad(set_to_none)
                    step(other, plain, number)
                assert spread(optimizer) == 0
                assert optimizer.worker.clock == plain.worker.clock == 4
                assert_same_bits(left_behind(net, optimizer.inner), left_behind(other, plain.inner))
    return rank()


def recomputed() -> int:
    """Backward within backward: as it is under local steps, and refused with its name where gradients are sent."""

    def loss(net: nn.Module, x: Any) -> Any:
        for _ in range(3):
            x = checkpoint(lambda h: torch.cat([net(h), h[:, :2]], 1), x, use_reentrant=True)
        return x.pow(2).mean()

    x = torch.ones(2, 5, requires_grad=True)
    net = seeded(0)
    with made(net, ls.LocalSGD(2)) as optimizer:
        for _ in range(4):
            optimizer.zero_grad()
            loss(net, x + rank()).backward()
            optimizer.step()
        assert spread(optimizer) == 0
    optimizer = made(net)
    with pytest.raises(RuntimeError, match=r"again, .*torch\.utils\.checkpoint\(use_reentrant=True\).*=False"):
        loss(net, x).backward()
    optimizer.model.sent.clear()
    optimizer.close()
    return rank()


def drifted() -> int:
    """Rates that drift apart are noticed where workers meet, and nothing is lost."""
    net = seeded(0)
    with made(net, ls.LocalSGD(2)) as optimizer:
        step(net, optimizer)
        optimizer.param_groups[0]["lr"] = 0.1 / (1 + rank())
        for meeting in (lambda: optimizer.once(lambda: None), lambda: optimizer.save("nowhere")):
            with pytest.raises(Mismatch, match=r"worker 1 has group 0's lr 0\.05, worker 0 has group 0's lr 0\.1"):
                meeting()
        assert not Path("nowhere").exists()
        optimizer.param_groups[0]["lr"] = torch.tensor(0.05)
        optimizer.once(lambda: None)
        step(net, optimizer)
        assert spread(optimizer) == 0
    return rank()


def refused(said: str, net: nn.Module, inner: Any = None, strategy: ls.Strategy | None = None) -> None:
    with pytest.raises(LoosestepError, match=said):
        made(net, strategy, inner)


def other_options() -> int:
    """Any option, and what is not trained, must be alike at the start."""
    own, net = rank() == 1, seeded(0)
    refused("worker 1 has group 0's lr 0.2, worker 0 has", net, torch.optim.SGD(net.parameters(), 0.1 + 0.1 * own))
    sgd = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9 * own)
    refused("worker 1 has group 0's momentum 0.9, worker 0 has group 0's momentum 0", net, sgd)
    decays = [{"params": net[0].parameters()}, {"params": net[2].parameters(), "weight_decay": 0.1 * own}]
    refused("worker 1 has group 1's weight_decay 0.1, worker 0 has", net, torch.optim.AdamW(decays, 0.1))
    weights, biases = (list(net.parameters())[place::2] for place in (0, 1))
    weights, biases = (biases, weights) if own else (weights, biases)
    groups = [{"params": weights}, {"params": biases}]
    refused("worker 1 has parameter '0.weight' in group 1, worker 0", net, torch.optim.SGD(groups, 0.1))
    net.register_buffer("mask", torch.zeros(3 + own))
    refused(r"worker 1 has buffer 'mask' \(4,\) torch.float32, worker 0 has buffer 'mask' \(3,\)", net)
    return rank()


def other_code() -> int:
    """The same name, and other code."""
    from loosestep.transports import matching

    plain = matching.source
    matching.source = lambda code: plain(code) + " " * (rank() == 1)
    try:
        refused("worker 1 has the strategy's source .checksum. .*, worker 0 has", seeded(0))
    finally:
        matching.source = plain
    return rank()


def frozen_by_one() -> int:
    """Who freezes alone would stay behind."""
    net = seeded(0)
    said = "worker 1" if rank() != 1 else "parameter '0.weight' is frozen on worker 1, and others train it"
    optimizer = made(net)
    net[0].requires_grad_(rank() != 1)
    with pytest.raises((RuntimeError, LoosestepError), match=said), optimizer:
        run(net, optimizer, range(3))
    return rank()


CASES: dict[str, Callable[[], int]] = {
    case.__name__: case
    for case in (
        *(frozen_by_all, passes_of_others, begun, thrown_away, recomputed, drifted),
        *(other_options, other_code, frozen_by_one),  # these end a session with an error
    )
}

if __name__ == "__main__":
    say(CASES)
