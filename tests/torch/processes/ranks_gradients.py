"""One rank of a job under mpiexec: gradients are final when backward() returns, and may be thrown away."""

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
from tests.torch.processes.ranks import ROWS, rank, say, spread
from tests.torch.training import (
    Mixed,
    assert_same_bits,
    batches,
    left_behind,
    momentum,
    normalized,
    seeded,
)
from torch import nn
from torch.utils.checkpoint import checkpoint

import loosestep as ls
import loosestep.torch
from loosestep.foundation.errors import LoosestepError


def made(net: nn.Module, strategy: ls.Strategy | None = None, inner: Any = None, **options: Any) -> Any:
    inner = inner or momentum(net.parameters())
    return loosestep.torch.parallel(net, inner, strategy or ls.AllReduceSGD(64), **options)


def loss_of(net: nn.Module, x: Any, y: Any) -> Any:
    """Return the loss of this rank's rows."""
    size = MPI.COMM_WORLD.size
    return nn.functional.cross_entropy(net(x[rank() :: size]), y[rank() :: size])


def check_final(net: nn.Module) -> None:
    """All ranks see the same gradients."""
    mine = [None if param.grad is None else param.grad.clone() for param in net.parameters()]
    for other in MPI.COMM_WORLD.allgather(mine):
        for one, another in zip(mine, other, strict=True):
            assert one is another is None or torch.equal(one, another)


def clipped() -> int:
    """Clipping between backward() and step() is that of plain torch on the union of the batches."""
    alone = seeded(0)
    plain = momentum(alone.parameters())
    for x, y in batches(6, rows=ROWS):
        plain.zero_grad()
        nn.functional.cross_entropy(alone(x), y).backward()
        nn.utils.clip_grad_norm_(alone.parameters(), 0.05)
        plain.step()
    for bucket_bytes in (25 << 20, 64):
        net = seeded(rank())
        with made(net, ls.AllReduceSGD(bucket_bytes)) as optimizer:
            for x, y in batches(6, rows=ROWS):
                optimizer.zero_grad()
                loss_of(net, x, y).backward()
                check_final(net)
                nn.utils.clip_grad_norm_(net.parameters(), 0.05)
                optimizer.step()
                assert spread(optimizer) == 0
        for a, b in zip(left_behind(net, optimizer.inner), left_behind(alone, plain), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    return rank()


def written_by_hand() -> int:
    """What the user makes of a mean is what the optimizer sees: scaled, in another tensor, or taken away."""
    for make in (lambda: seeded(0), lambda: seeded_mixed()):
        net, other = make(), make()
        changes: list[Callable[[Any], None]] = [
            lambda param: param.grad.mul_(0.5),
            lambda param: setattr(param, "grad", param.grad * 0.5),
            lambda param: setattr(param, "grad", None),
        ]
        of_net, of_other = (made(each, inner=torch.optim.SGD(each.parameters(), 0.5)) for each in (net, other))
        with of_net, of_other:
            for change in changes:
                before = [param.detach().clone() for param in net.parameters()]
                for model, optimizer in ((net, of_net), (other, of_other)):
                    optimizer.zero_grad()
                    loss_of(model, *next(batches(1, rows=ROWS))).backward()
                    for param in model.parameters():
                        change(param)
                    optimizer.step()
                assert spread(of_net) == 0
                same = [torch.equal(param, old) for param, old in zip(net.parameters(), before, strict=True)]
                assert all(same) == (change is changes[2])
        assert_same_bits(left_behind(net, of_net.inner), left_behind(other, of_other.inner))
    return rank()


def seeded_mixed() -> nn.Module:
    torch.manual_seed(0)
    return Mixed()


def unscaled() -> int:
    """GradScaler.unscale_ and clipping after backward(), as in plain torch; an overflow of one rank is all's."""
    net = seeded(0)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    with made(net) as optimizer:
        for step, (x, y) in enumerate(batches(5, rows=ROWS)):
            before = [param.detach().clone() for param in net.parameters()]
            optimizer.zero_grad()
            bad = step == 2 and rank() == 1
            scaler.scale(loss_of(net, x, y) * (float("inf") if bad else 1)).backward()
            scaler.unscale_(optimizer)
            check_final(net) if step != 2 else None
            nn.utils.clip_grad_norm_(net.parameters(), 0.05)
            scaler.step(optimizer)
            scaler.update()
            same = [torch.equal(param, old) for param, old in zip(net.parameters(), before, strict=True)]
            assert all(same) == (step == 2)
            assert spread(optimizer) == 0
    assert MPI.COMM_WORLD.allgather(scaler.get_scale()) == [4.0] * optimizer.size
    return rank()


class Branches(nn.Module):
    """Each rank uses a branch of its own, and nobody uses the last."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 5)
        self.branches = nn.ModuleList([nn.Linear(5, 3) for _ in range(3)])

    def forward(self, x: Any) -> Any:
        return self.branches[min(rank(), 1)](self.first(x))


def unused() -> int:
    """Parameters that no pass of this rank reached have their mean too when backward() returns."""
    torch.manual_seed(0)
    net = Branches()
    with made(net) as optimizer:
        for x, y in batches(4, rows=ROWS):
            optimizer.zero_grad()
            loss_of(net, x, y).backward()
            check_final(net)
            assert net.branches[0].weight.grad.any()
            assert not net.branches[2].weight.grad.any()
            nn.utils.clip_grad_norm_(net.parameters(), 0.05)
            optimizer.step()
            assert spread(optimizer) == 0
    return rank()


def accumulated() -> int:
    """With accumulate= the last pass ends with the means, also where passes reach different parts."""
    torch.manual_seed(0)
    net = Branches()
    with made(net, accumulate=3) as optimizer:
        for x, y in batches(3, rows=ROWS):
            optimizer.zero_grad()
            first = loss_of(net, x, y)
            first.backward(retain_graph=True)
            net.branches[2](x).sum().backward()
            assert spread_of(net.first.weight.grad) > 0
            first.backward()
            check_final(net)
            nn.utils.clip_grad_norm_(net.parameters(), 0.05)
            optimizer.step()
            assert spread(optimizer) == 0
        loss_of(net, x, y).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.05)
        said = r"was changed before it was averaged: 1 backward passes came .* accumulate=3"
        with pytest.raises(RuntimeError, match=said):
            optimizer.step()
        net.zero_grad()
        loss_of(net, x, y).backward()
        optimizer.synchronize()  # fewer passes than a step has
        check_final(net)
        optimizer.step()
        assert spread(optimizer) == 0
    return rank()


def held_back() -> int:
    """no_sync(): as many passes as a step wants, the last one outside, as with accumulate=."""
    net, other = seeded(0), seeded(0)
    one, two = made(net), made(other, accumulate=3)
    with one, two:
        for x, y in batches(3, rows=ROWS):
            for model, optimizer in ((net, one), (other, two)):
                optimizer.zero_grad()
                for _ in range(2):
                    with one.no_sync():
                        loss_of(model, x, y).backward()
                assert spread_of(model[0].weight.grad) > 0
                loss_of(model, x, y).backward()
                check_final(model)
                nn.utils.clip_grad_norm_(model.parameters(), 0.05)
                optimizer.step()
        two.zero_grad()
        with two.no_sync():  # fewer passes than accumulate
            pass
        loss_of(other, x, y).backward()
        check_final(other)
        two.step()
        one.zero_grad()
        loss_of(net, x, y).backward()
        check_final(net)
        one.step()
        assert_same_bits(left_behind(net, one.inner)[:2], left_behind(other, two.inner)[:2])
    net = seeded(0)
    with made(net, ls.LocalSGD(2)) as optimizer:
        for x, y in batches(4, rows=ROWS):
            optimizer.zero_grad()
            for _ in range(2):
                with optimizer.no_sync():
                    loss_of(net, x, y).backward()
            loss_of(net, x, y).backward()
            optimizer.step()
        assert spread(optimizer) == 0
    return rank()


def spread_of(tensor: Any) -> float:
    every = MPI.COMM_WORLD.allgather(tensor)
    return float(max((other - every[0]).abs().max() for other in every))


def parts() -> int:
    """Losses of separate parts, one pass each: the means of the first take part in those of the second."""
    torch.manual_seed(0)
    net = nn.ModuleList([nn.Linear(5, 3), nn.Linear(5, 3)])
    other = nn.ModuleList([nn.Linear(5, 3), nn.Linear(5, 3)])
    other.load_state_dict(net.state_dict())
    one, two = made(net), made(other, accumulate=2)
    with one, two:
        for x, y in batches(3, rows=ROWS):
            for nets, optimizer in ((net, one), (other, two)):
                optimizer.zero_grad()
                for each in nets:
                    loss_of(each, x, y).backward()
                check_final(nets)
                optimizer.step()
            assert one.worker.clock == two.worker.clock
    for a, b in zip(left_behind(net, one.inner), left_behind(other, two.inner), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
    return rank()


def nested() -> int:
    """Passes within a pass: the outermost one completes the means."""
    layers = nn.ModuleList([nn.Linear(5, 5) for _ in range(4)])
    for first_is_inside in (True, False):
        with made(layers) as optimizer:
            for x, _ in batches(3, rows=ROWS):
                optimizer.zero_grad()
                x = x.requires_grad_(True) + rank()
                for number, layer in enumerate(layers):
                    inside = number != 0 or first_is_inside
                    x = checkpoint(layer, x, use_reentrant=True) if inside else layer(x)
                x.pow(2).mean().backward()
                check_final(layers)
                nn.utils.clip_grad_norm_(layers.parameters(), 0.05)
                optimizer.step()
                assert spread(optimizer) == 0
    return rank()


def compiled() -> int:
    """One node of the graph makes all gradients."""
    net = seeded(0)
    graph = torch.compile(net, backend="aot_eager")
    with made(net) as optimizer:
        for x, y in batches(3, rows=ROWS):
            optimizer.zero_grad()
            loss_of(graph, x, y).backward()
            check_final(net)
            optimizer.step()
    return rank()


def one_loss_of_a_gan() -> int:
    """The generator's loss passes through the discriminator, whose zero_grad() throws that away, as in torch."""
    for by_model in (False, True):
        torch.manual_seed(0)
        nets = nn.Linear(4, 5), nn.Linear(5, 1)
        plain = [nn.Linear(4, 5), nn.Linear(5, 1)]
        for net, copy in zip(nets, plain, strict=True):
            copy.load_state_dict(net.state_dict())
        ours, theirs = [made(net) for net in nets], [momentum(net.parameters()) for net in plain]
        for step in range(4):
            for (g, d), (of_g, of_d), alone in ((nets, ours, False), (plain, theirs, True)):
                torch.manual_seed(10 * step + rank())
                fake = g(torch.randn(3, 4))
                (d if by_model else of_d).zero_grad()
                (d(fake.detach()).mean() - d(torch.randn(3, 5)).pow(2).mean()).backward()
                average(d) if alone else None
                of_d.step()
                of_g.zero_grad()
                d(fake).pow(2).mean().backward()
                average(g) if alone else None
                of_g.step()
        ours[1].zero_grad()
        ours[1].once(lambda: None)  # between its steps, since its gradient is thrown away
        assert [optimizer.worker.clock for optimizer in ours] == [4, 4]
        for net, copy in zip(nets, plain, strict=True):
            torch.testing.assert_close(list(net.parameters()), list(copy.parameters()), rtol=1e-5, atol=1e-6)
        nets[1](nets[0](torch.randn(3, 4))).mean().backward()
        kept = [param.detach().clone() for net in nets for param in net.parameters()]
        for optimizer in ours:
            optimizer.close()  # makes no step with what nobody used
        assert_same_bits(kept, [param.detach() for net in nets for param in net.parameters()])
    return rank()


def average(net: nn.Module) -> None:
    for param in net.parameters():
        every = MPI.COMM_WORLD.allgather(param.grad)
        param.grad = torch.stack(every).mean(0)


def skipped() -> int:
    """A step that all leave out moves nothing, moments neither; where gradients are own, each decides."""
    net = seeded(0)
    with made(net) as optimizer:
        for number, (x, y) in enumerate(batches(6, rows=ROWS)):
            before = left_behind(net, optimizer.inner)
            optimizer.zero_grad()
            loss_of(net, x * (float("nan") if number == 3 and rank() == 0 else 1), y).backward()
            norm = nn.utils.clip_grad_norm_(net.parameters(), 0.05)
            if norm.isfinite():
                optimizer.step()
                continue
            assert number == 3
            optimizer.skip()
            assert all(param.grad is None for param in net.parameters())
            assert_same_bits(before, left_behind(net, optimizer.inner))
        assert spread(optimizer) == 0
        assert optimizer.worker.clock == 6
    with made(net, ls.LocalSGD(3)) as optimizer:
        for number, (x, y) in enumerate(batches(6, rows=ROWS)):
            optimizer.zero_grad()
            loss_of(net, x, y).backward()
            optimizer.skip() if number == 2 * rank() else optimizer.step()
            assert (spread(optimizer) == 0) == (number in (2, 5))
        assert optimizer.worker.clock == 6
    return rank()


class Bag(nn.Module):
    def __init__(self, *, sparse: bool) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 4, sparse=sparse)
        self.unseen = nn.Embedding(3, 4, sparse=sparse)
        self.linear = nn.Linear(4, 3)


def sparse() -> int:
    """Sparse gradients: the rows that any rank has used, with the bits of dense gradients."""
    sgd = lambda params: torch.optim.SGD(params, 0.5)  # noqa: E731
    for strategy in (ls.AllReduceSGD(), ls.AllReduceSGD(64), ls.LocalSGD(2), ls.CDSGD(ls.Complete()), ls.EASGD(2)):
        torch.manual_seed(0)
        nets = Bag(sparse=True), Bag(sparse=False), Bag(sparse=True)
        for net in nets[1:]:
            net.load_state_dict(nets[0].state_dict())
        params = [[net.words.weight, net.unseen.weight] for net in nets]
        averaged = isinstance(strategy, ls.AllReduceSGD)
        ours = [
            made(net, strategy, make(mine))
            for net, make, mine in zip(nets, (sgd, sgd, torch.optim.SparseAdam), params, strict=True)
        ]
        for step in range(4):
            for net, optimizer in zip(nets, ours, strict=True):
                optimizer.zero_grad()
                net.linear(net.words(torch.tensor([rank(), 3, step + 4]))).pow(2).mean().backward()
                if averaged and net is not nets[1]:
                    used = sorted({*range(optimizer.size), 3, step + 4})
                    assert net.words.weight.grad.coalesce().indices()[0].tolist() == used
                optimizer.step()
                assert not averaged or spread(optimizer) == 0
        for optimizer in ours:
            optimizer.close()
        if not isinstance(strategy, ls.EASGD):  # where workers move the center in any order
            assert_same_bits(*([param.detach() for param in mine] for mine in params[:2]))
            assert torch.equal(params[0][1], params[2][1])
    return rank()


def in_the_order_of_ddp() -> int:
    """Two ranks: the bits of torch's DistributedDataParallel over Gloo."""
    if MPI.COMM_WORLD.size != 2:
        return rank()
    place = MPI.COMM_WORLD.bcast(tempfile.mkdtemp())
    store = torch.distributed.FileStore(f"{place}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank(), world_size=2)
    try:
        for make, accumulate, clip in (
            *((lambda: seeded(0), passes, clip) for passes in (1, 2) for clip in (None, 0.05)),
            *((seeded_normalized, passes, clip) for passes in (1, 2) for clip in (None, 0.05)),
        ):
            theirs, ours = (as_ddp(make(), accumulate, clip, wrapped=wrapped) for wrapped in (True, False))
            assert_same_bits(theirs, ours)
    finally:
        torch.distributed.destroy_process_group()
    return rank()


def seeded_normalized() -> nn.Module:
    torch.manual_seed(0)
    return normalized()


def as_ddp(net: nn.Module, accumulate: int, clip: float | None, *, wrapped: bool) -> list[Any]:
    """Train with DDP and no_sync(), or with ours, and return parameters and moments."""
    inner = momentum(net.parameters())
    model: Any = nn.parallel.DistributedDataParallel(net) if wrapped else net
    optimizer: Any = inner if wrapped else made(net, ls.AllReduceSGD(), inner, accumulate=accumulate)
    for step, data in enumerate(zip(*[batches(8 * accumulate, rows=ROWS)] * accumulate, strict=True)):
        optimizer.zero_grad()
        for number, (x, y) in enumerate(data, 1):
            model.require_backward_grad_sync = number == accumulate
            (loss_of(model, x, y) / accumulate).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimizer.step()
        assert step < 8
    optimizer.close() if not wrapped else None
    return [param.detach().clone() for param in net.parameters()] + [
        state["momentum_buffer"].clone() for state in inner.state_dict()["state"].values()
    ]


def failed_in_the_middle() -> int:
    """A pass that ends with an error has sent a part: the next one is refused, and nothing is repeated."""
    net = nn.Sequential(*[nn.Linear(5, 5) for _ in range(4)])
    optimizer = made(net)

    def fail(grad: Any) -> None:
        raise MemoryError

    x = torch.ones(2, 5)
    middle = net[1](net[0](x))
    middle.register_hook(fail)
    with pytest.raises(MemoryError):
        net[3](net[2](middle)).sum().backward()
    with pytest.raises(RuntimeError, match="again, and its gradient is being sent"):
        net(x).sum().backward()
    optimizer.model.sent.clear()  # all go on with what was sent
    optimizer.close()
    return rank()


def skipped_by_one() -> int:
    """One rank leaves a step out where the others make it: an error on all that names the call."""
    net = seeded(0)
    optimizer = made(net)
    with pytest.raises(LoosestepError) as caught, optimizer:  # noqa: PT012
        for x, y in batches(3, rows=ROWS):
            optimizer.zero_grad()
            loss_of(net, x, y).backward()
            optimizer.skip() if rank() == 0 else optimizer.step()
    told = " ".join(MPI.COMM_WORLD.allgather(str(caught.value)))
    assert "worker 0 is in skip() after step 1; worker 1 is in step() 2: all workers must make the same" in told
    return rank()


CASES: dict[str, Callable[[], int]] = {
    case.__name__: case
    for case in (
        *(clipped, written_by_hand, unscaled, unused, accumulated, held_back, parts, nested, compiled),
        *(one_loss_of_a_gan, skipped, sparse, in_the_order_of_ddp),
        *(failed_in_the_middle, skipped_by_one),  # the last ends a session with an error
    )
}

if __name__ == "__main__":
    say(CASES)
