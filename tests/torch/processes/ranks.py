"""One rank of a job under mpiexec: `python ranks.py CASE` runs a case and says `rank R: CASE ok` at its end."""

from __future__ import annotations

import copy
import sys
import tempfile
from collections.abc import Callable
from functools import reduce
from itertools import permutations
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

import numpy as np
import torch
from mpi4py import MPI
from tests.torch.checkpoint.saving import begun_at, saved_after, values
from tests.torch.training import batches, left_behind, momentum, seeded
from torch import nn

import loosestep as ls
import loosestep.torch
from loosestep.foundation.errors import LoosestepError
from loosestep.requests import Fetch

ROWS = 24  # of the union batch: 12 or 6 a rank


def train(strategy: ls.Strategy, net: nn.Module, steps: int = 8, **options: Any) -> tuple[Any, list[Any]]:
    """Each rank takes its stride of every batch."""
    inner = momentum(net.parameters())
    optimizer = loosestep.torch.parallel(net, inner, strategy, **options)
    with optimizer:
        for x, y in batches(steps, rows=ROWS):
            optimizer.zero_grad()
            x, y = x[optimizer.rank :: optimizer.size], y[optimizer.rank :: optimizer.size]
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
            assert 0 <= optimizer.meter.waiting <= optimizer.connection.session.now(optimizer.rank)
    return optimizer, left_behind(net, inner)


def union() -> int:
    """AllReduceSGD is plain torch on the union of the batches, to rounding; ranks start from rank 0's values."""
    alone = seeded(0)
    plain = momentum(alone.parameters())
    for x, y in batches(8, rows=ROWS):
        plain.zero_grad()
        nn.functional.cross_entropy(alone(x), y).backward()
        plain.step()
    for bucket_bytes in (25 << 20, 64):
        optimizer, ours = train(ls.AllReduceSGD(bucket_bytes=bucket_bytes), seeded(MPI.COMM_WORLD.rank))
        for a, b in zip(ours, left_behind(alone, plain), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        size = optimizer.size
        assert optimizer.meter.bytes == 8 * 2 * (size - 1) * optimizer.layout.params.nbytes // size
    return optimizer.rank


def rank() -> int:
    return int(MPI.COMM_WORLD.rank)


def local_means() -> int:
    """After every third step all replicas are the same; between, they differ."""
    net = seeded(rank())
    optimizer = loosestep.torch.parallel(net, momentum(net.parameters()), ls.LocalSGD(period=3))
    with optimizer:
        for step, (x, y) in enumerate(batches(7, rows=ROWS), 1):
            optimizer.zero_grad()
            nn.functional.cross_entropy(
                net(x[optimizer.rank :: optimizer.size]), y[optimizer.rank :: optimizer.size]
            ).backward()
            optimizer.step()
            apart = spread(optimizer)
            assert (apart == 0) == (step % 3 == 0), (step, apart)
        mine = values(optimizer)
        with optimizer.consensus():
            assert spread(optimizer) == 0
            assert not torch.equal(values(optimizer), mine)
        assert torch.equal(values(optimizer), mine)
    return optimizer.rank


def spread(optimizer: Any) -> float:
    """How far replicas are apart, by MPI alone."""
    every = MPI.COMM_WORLD.allgather(optimizer.layout.params.copy())
    return float(max(abs(other - every[0]).max() for other in every))


def uneven(strategy: ls.Strategy) -> int:
    """Rank r makes 5 + 3 r steps; whoever leaves early answers until all have left, and all know the consensus."""
    net = seeded(0)
    optimizer = loosestep.torch.parallel(net, momentum(net.parameters()), strategy)
    with optimizer:
        for x, y in batches(5 + 3 * optimizer.rank):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
        assert optimizer.model.steps == 5 + 3 * optimizer.rank
    with optimizer.consensus():
        assert spread(optimizer) == 0
        assert torch.isfinite(values(optimizer)).all()
    return optimizer.rank


UNEVEN = (
    *(ls.AllReduceSGD(), ls.LocalSGD(period=4), ls.DaSGD(period=4, delay=2), ls.CDSGD(topology=ls.Complete())),
    *(ls.EASGD(period=3), ls.SyncEASGD(period=3, order="published"), ls.Downpour(period=2)),
    *(ls.AveragedDownpour(2), ls.MomentumDownpour(0.5), ls.DCASGD(0.1), ls.WeedOut(2)),  # rules at the center
    *(ls.AsyncLocalSGD(2), ls.AsyncLocalSGD(2, speeds="measured")),
    *(ls.SSP(2), ls.PartiallySynchronous(3)),  # workers that wait for each other without marching
    *(ls.RoundRobinEASGD(), ls.RoundRobinADMM()),
)


def uneven_ends() -> int:
    return max(map(uneven, UNEVEN))


def own_steps() -> int:
    """Every second rank makes half of the steps, and waits while the others make theirs."""
    steps = tuple(4 - 2 * (other % 2) for other in range(MPI.COMM_WORLD.size))
    net = seeded(0)
    optimizer = loosestep.torch.parallel(net, momentum(net.parameters()), ls.LocalSGD(4, steps=steps))
    with optimizer:
        for x, y in batches(3 * steps[rank()]):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x + optimizer.rank), y).backward()
            optimizer.step()
        assert spread(optimizer) == 0
        assert (optimizer.worker.clock, optimizer.model.steps) == (12, 3 * steps[rank()])
    return optimizer.rank


def one_sided() -> int:
    """Rank 0 evaluates the center alone; nobody waits for it."""
    net = seeded(0)
    optimizer = loosestep.torch.parallel(net, torch.optim.SGD(net.parameters(), 0.1), ls.EASGD(period=2))
    with optimizer:
        for number, (x, y) in enumerate(batches(6)):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
            if optimizer.rank == 0 and number % 2:
                mine = values(optimizer)
                with optimizer.consensus() as model:
                    assert model is net
                    assert not torch.equal(values(optimizer), mine)
                assert torch.equal(values(optimizer), mine)
    return optimizer.rank


def statistics() -> int:
    """BatchNorm's statistics: each rank's own while training, their mean in a consensus."""
    net = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    optimizer = loosestep.torch.parallel(net, momentum(net.parameters()), ls.LocalSGD(period=2))
    with optimizer:
        for x, y in batches(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x + optimizer.rank), y).backward()
            optimizer.step()
        own = net[1].running_mean.clone()
        every = MPI.COMM_WORLD.allgather(own.numpy())
        with optimizer.consensus():
            torch.testing.assert_close(net[1].running_mean, torch.tensor(sum(every) / len(every)))
        assert torch.equal(net[1].running_mean, own)
        assert abs(every[0] - every[-1]).max() > 0.01
    return optimizer.rank


def overflow() -> int:
    """One rank overflows: under AllReduceSGD all skip that step, and all scales stay the same."""
    net = seeded(0)
    optimizer = loosestep.torch.parallel(net, momentum(net.parameters()), ls.AllReduceSGD())
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    with optimizer:
        for step, (x, y) in enumerate(batches(6)):
            before = values(optimizer)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x), y)
            bad = step == 2 and optimizer.rank == optimizer.size - 1
            scaler.scale(loss * float("inf") if bad else loss).backward()
            scaler.step(optimizer)
            scaler.update()
            assert torch.equal(before, values(optimizer)) == (step == 2)
            assert spread(optimizer) == 0
    assert MPI.COMM_WORLD.allgather(scaler.get_scale()) == [4.0] * optimizer.size
    return optimizer.rank


def unused() -> int:
    """Each rank uses another branch: the mean counts the other's gradient as zero."""
    torch.manual_seed(0)
    net = nn.ModuleList([nn.Linear(5, 3, bias=False) for _ in range(2)])
    optimizer = loosestep.torch.parallel(net, torch.optim.SGD(net.parameters(), 1.0), ls.AllReduceSGD(64))
    before = [branch.weight.detach().clone() for branch in net]
    with optimizer:
        ((x, y),) = batches(1)
        mine = min(optimizer.rank, 1)
        (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(net[mine](x), y), net[mine].weight)
        nn.functional.cross_entropy(net[mine](x), y).backward()
        optimizer.step()
        for slot in optimizer.layout.slots:
            assert slot.param.grad.data_ptr() == optimizer.worker.grad.ctypes.data + slot.start * 4
        users = 1 if mine == 0 else optimizer.size - 1
        moved = before[mine] - net[mine].weight.detach()
        torch.testing.assert_close(moved, gradient * users / optimizer.size, rtol=1e-5, atol=1e-6)
        assert spread(optimizer) == 0
    return optimizer.rank


def unlike() -> int:
    """Networks that differ are refused on every rank, by the first difference."""
    net = nn.Linear(5, 3 + (rank() == 1))
    try:
        loosestep.torch.parallel(net, momentum(net.parameters()), ls.AllReduceSGD())
    except LoosestepError as error:
        assert "worker 1 has parameter 0 'weight': (4, 5)" in str(error)  # noqa: PT017
        return rank()
    raise AssertionError("nobody noticed")


def resumed() -> int:
    """Saved in the middle of a round, or with a mean under way; a fresh job goes on to the same bits."""
    late = (
        ls.DaSGD(4, 3),
        ls.CoCoDSGD(4),
        ls.OverlapLocalSGD(3),
        ls.StreamingDiLoCo(3, 2, 2),
    )  # a mean is under way
    plain = (ls.LocalSGD(period=4), ls.AllReduceSGD(), ls.CDSGD(), ls.SyncEASGD(period=4), ls.RoundRobinEASGD())
    for strategy in (*plain, *late):
        whole = resume(strategy, seeded(0), range(10))[2]
        state, model, _ = resume(strategy, seeded(0), range(6))
        net = seeded(5)
        net.load_state_dict(model)
        for a, b in zip(resume(strategy, net, range(6, 10), state)[2], whole, strict=True):
            assert torch.equal(a, b), strategy
    return rank()


def resume(strategy: ls.Strategy, net: nn.Module, steps: range, state: Any = None) -> tuple[Any, Any, list[Any]]:
    """Some of the steps; what was saved at their end, and what they left behind."""
    inner = momentum(net.parameters())
    mine = {key: value.clone() for key, value in net.state_dict().items()}
    optimizer = loosestep.torch.parallel(net, inner, strategy)
    with optimizer:
        if state is not None:
            net.load_state_dict(mine)
            optimizer.load_state_dict(state)
        for number, (x, y) in enumerate(batches(steps.stop, rows=ROWS)):
            if number in steps:
                optimizer.zero_grad()
                x, y = x[optimizer.rank :: optimizer.size], y[optimizer.rank :: optimizer.size]
                nn.functional.cross_entropy(net(x), y).backward()
                optimizer.step()
        saved = copy.deepcopy((optimizer.state_dict(), net.state_dict()))
        left = left_behind(net, inner)
    return *saved, left


def beside_backward() -> int:
    """In EASGD's published order the center has moved when backward is over, before anybody makes the step."""
    net = seeded(0)
    strategy = ls.EASGD(1, 0.1, order="published")
    optimizer = loosestep.torch.parallel(net, momentum(net.parameters()), strategy)
    center = optimizer.loop.program.state.center
    seen = np.zeros((2, center.size), np.float32)
    with optimizer:
        for number, (x, y) in enumerate(batches(4, rows=ROWS)):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x + optimizer.rank), y)
            before = MPI.COMM_WORLD.allgather(optimizer.layout.params.copy())
            optimizer.connection.run_unmetered([Fetch(center, into=seen[0])])
            MPI.COMM_WORLD.Barrier()
            loss.backward()
            MPI.COMM_WORLD.Barrier()
            optimizer.connection.run_unmetered([Fetch(center, into=seen[1])])
            met = [reduce(lambda c, x: c + 0.1 * (x - c), order, seen[0]) for order in permutations(before)]
            assert min(np.abs(seen[1] - each).max() for each in met) < 1e-6, "all of them, in some order"
            assert (number == 0) == (seen[1] == seen[0]).all()
            MPI.COMM_WORLD.Barrier()
            optimizer.step()
    return optimizer.rank


def other_workers() -> int:
    """Saved by one worker and restored by all, saved by all and restored by one: it begins at the consensus."""
    collective = (ls.LocalSGD(period=4), ls.AllReduceSGD(), ls.CDSGD(), ls.CoCoDSGD(4))
    for strategy in (*collective, ls.EASGD(period=3), ls.SSP(2), ls.AveragedDownpour(2)):
        folder = MPI.COMM_WORLD.bcast(tempfile.mkdtemp())
        if rank() == 0:
            alone = saved_after(6, strategy, f"{folder}/one", ls.Serial())
        wanted = MPI.COMM_WORLD.bcast(alone if rank() == 0 else None)
        begun_at(wanted, strategy, f"{folder}/one", ls.MPI())
        wanted = saved_after(6, strategy, f"{folder}/all", ls.MPI())
        MPI.COMM_WORLD.Barrier()
        if rank() == 0:
            begun_at(wanted, strategy, f"{folder}/all", ls.Serial())
        MPI.COMM_WORLD.Barrier()
    return rank()


CASES: dict[str, Callable[[], int]] = {
    case.__name__: case
    for case in (
        union,
        local_means,
        uneven_ends,
        own_steps,
        one_sided,
        statistics,
        overflow,
        unused,
        resumed,
        beside_backward,
        other_workers,
        unlike,  # the last one: it ends the job's session with an error
    )
}


def say(cases: dict[str, Callable[[], int]]) -> None:
    """Run those that the command line names, or all."""
    for case in sys.argv[1:] or cases:
        print(f"rank {cases[case]()}: {case} ok", flush=True)


if __name__ == "__main__":
    say(CASES)
