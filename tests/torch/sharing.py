"""One rank of a Hogwild job under mpiexec: `python sharing.py CASE` says `rank R: CASE ok` at its end."""

from __future__ import annotations

import copy
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from mpi4py import MPI
from tests.torch.training import adamw, assert_same_bits, batches, left_behind, mlp, momentum, nesterov
from torch import nn

import loosestep as ls
import loosestep.torch

WORLD = MPI.COMM_WORLD
RACY = ls.Hogwild(adds="racy")
ROWS = 6

MAKERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda params: torch.optim.SGD(params, 0.1),
    "momentum": momentum,
    "nesterov": nesterov,
    "adamw": adamw,
    "amsgrad": lambda params: torch.optim.Adam(params, 0.01, amsgrad=True, weight_decay=0.01),
    "nadam": lambda params: torch.optim.NAdam(params, 0.01),
    "rmsprop": lambda params: torch.optim.RMSprop(params, 0.01, momentum=0.9, centered=True),
    "adagrad": lambda params: torch.optim.Adagrad(params, 0.1, initial_accumulator_value=0.5),
    "rprop": lambda params: torch.optim.Rprop(params, 0.01),
}


def parallel(net: nn.Module, inner: torch.optim.Optimizer, strategy: ls.Strategy = RACY) -> Any:
    return loosestep.torch.parallel(net, inner, strategy)


def seeded() -> nn.Module:
    torch.manual_seed(0)
    return mlp()


def dense_step(net: nn.Module, optimizer: Any, x: Any, y: Any) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()


@contextmanager
def turn(number: int) -> Iterator[bool]:
    """Whether it is this rank's turn; all others wait until it is over."""
    yield number % WORLD.size == WORLD.rank
    WORLD.Barrier()


def turns() -> int:
    """Ranks that step one after another leave what plain torch leaves, bit for bit: the whole state is shared."""
    for name, make in MAKERS.items():
        alone = seeded()
        plain = make(alone.parameters())
        for x, y in batches(9):
            dense_step(alone, plain, x, y)
        net = seeded()
        inner = make(net.parameters())
        with parallel(net, inner) as optimizer:
            for number, (x, y) in enumerate(batches(9)):
                with turn(number) as mine:
                    if mine:
                        dense_step(net, optimizer, x, y)
        try:
            assert_same_bits(left_behind(net, inner), left_behind(alone, plain))
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
    return WORLD.rank


def embedding(sparse: bool = True) -> nn.Module:
    torch.manual_seed(0)
    return nn.Embedding(4 * WORLD.size, 3, sparse=sparse)


def row_step(net: nn.Module, optimizer: Any, rows: list[int]) -> None:
    optimizer.zero_grad()
    net(torch.tensor(rows)).square().sum().backward()
    optimizer.step()


def sparse_turns() -> int:
    """SparseAdam's rows and its step counter, a number in plain torch, are one for all ranks."""
    alone, net = embedding(), embedding()
    plain, inner = (torch.optim.SparseAdam(each.parameters(), 0.1) for each in (alone, net))
    with parallel(net, inner) as optimizer:
        for number in range(9):
            row_step(alone, plain, [number % 5, 6])
            with turn(number) as mine:
                if mine:
                    row_step(net, optimizer, [number % 5, 6])
    (ours,), (theirs,) = inner.state.values(), plain.state.values()
    assert ours["step"].item() == theirs["step"] == 9
    assert torch.equal(ours["exp_avg"], theirs["exp_avg"])
    torch.testing.assert_close(net.weight, alone.weight, rtol=1e-6, atol=1e-7)  # powers in torch and in Python
    assert torch.equal(net.weight[7], embedding().weight[7])
    return WORLD.rank


def rows_apart() -> int:
    """Ranks that touch rows of their own, at once, leave the sequential result; other rows never move."""
    for make in (lambda p: torch.optim.SGD(p, 0.1), lambda p: torch.optim.Adagrad(p, 0.1)):
        alone, net = embedding(), embedding()
        plain, inner = make(alone.parameters()), make(net.parameters())
        for rank in range(WORLD.size):
            for _ in range(50):
                row_step(alone, plain, [4 * rank, 4 * rank + 1])
        with parallel(net, inner) as optimizer:
            for _ in range(50):
                row_step(net, optimizer, [4 * WORLD.rank, 4 * WORLD.rank + 1])
        assert torch.equal(net.weight, alone.weight)
        for rank in range(WORLD.size):
            assert torch.equal(net.weight[4 * rank + 2 :][:2], embedding().weight[4 * rank + 2 :][:2])
        for ours, theirs in zip(inner.state.values(), plain.state.values(), strict=True):
            assert torch.equal(ours["sum"], theirs["sum"])
    return WORLD.rank


class Branches(nn.Module):
    """A layer for each rank."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.each = nn.ModuleList(nn.Linear(5, 3) for _ in range(WORLD.size))


def parameters_apart() -> int:
    """Ranks that train parameters of their own, at once, with AdamW: the sequential result, bit for bit."""
    alone, net = Branches(), Branches()
    plain, inner = adamw(alone.parameters()), adamw(net.parameters())
    for branch in alone.each:
        for x, y in batches(20):
            plain.zero_grad()
            nn.functional.cross_entropy(branch(x), y).backward()
            plain.step()
    with parallel(net, inner) as optimizer:
        for x, y in batches(20):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net.each[WORLD.rank](x), y).backward()
            optimizer.step()
    assert_same_bits(left_behind(net, inner), left_behind(alone, plain))
    return WORLD.rank


def together() -> int:
    """All at once: one memory. Counters miss at most what raced, and all ranks keep the same when it is over."""
    net = seeded()
    inner = adamw(net.parameters())
    with parallel(net, inner) as optimizer:
        places = [value.data_ptr() for state in inner.state.values() for value in state.values()]
        for x, y in batches(60):
            dense_step(net, optimizer, x, y)
    assert places == [value.data_ptr() for state in inner.state.values() for value in state.values()]
    for state in inner.state.values():
        assert 1 < state["step"].item() <= 60 * WORLD.size  # how many are lost, nobody promises
    every = WORLD.allgather([tensor.numpy() for tensor in left_behind(net, inner)])
    for other in every:
        assert_same_bits([torch.from_numpy(each) for each in other], [torch.from_numpy(each) for each in every[0]])
    own = net[0].weight.detach().clone()
    WORLD.Barrier()
    with torch.no_grad():
        net[0].weight += WORLD.rank + 1  # now each one's own
    WORLD.Barrier()
    assert torch.equal(net[0].weight, own + (WORLD.rank + 1))
    return WORLD.rank


def looked_at() -> int:
    """Inside `consensus()` the model stands still while the others go on."""
    net = seeded()
    with parallel(net, torch.optim.SGD(net.parameters(), 0.1)) as optimizer:
        before = net[0].weight.detach().clone()
        WORLD.Barrier()
        if WORLD.rank == 0:
            with optimizer.consensus():
                WORLD.Barrier()
                WORLD.Barrier()
                assert torch.equal(net[0].weight, before)
        else:
            WORLD.Barrier()
            dense_step(net, optimizer, *next(batches(1)))
            WORLD.Barrier()
        assert not torch.equal(net[0].weight, before)
        WORLD.Barrier()
    return WORLD.rank


def resumed() -> int:
    """A saved state, by dictionary and by folder, goes on in memory that is shared."""
    folder = WORLD.bcast(tempfile.mkdtemp())
    whole = by_turns(range(8))[0]
    saved = by_turns(range(4), folder=folder)[1]
    assert_same_bits(by_turns(range(4, 8), state=saved)[0], whole)
    assert_same_bits(by_turns(range(4, 8), folder=folder)[0], whole)
    return WORLD.rank


def by_turns(numbers: range, *, state: Any = None, folder: str | None = None) -> tuple[list[Any], Any]:
    """What some of the steps leave behind, and the state dictionaries before the end."""
    net = seeded()
    inner = adamw(net.parameters())
    with parallel(net, inner) as optimizer:
        if state is not None:
            net.load_state_dict(state[0])
            optimizer.load_state_dict(state[1])
        if folder and numbers.start:
            optimizer.restore(folder)
        for number, (x, y) in enumerate(batches(numbers.stop)):
            with turn(number) as mine:
                if mine and number in numbers:
                    dense_step(net, optimizer, x, y)
        if folder and not numbers.start:
            optimizer.save(folder)
        saved = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    return left_behind(net, inner), saved


def loaders() -> int:
    """Loaders fork processes that have no part in the memory; buffers='recompute' and BatchNorm beside it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    rows = [torch.randn(5) for _ in range(24)]
    optimizer = loosestep.torch.parallel(net, adamw(net.parameters()), RACY, buffers="recompute")
    loader = torch.utils.data.DataLoader(rows, batch_sampler=optimizer.shard(24, batch_size=4), num_workers=1)
    with optimizer:
        for _ in range(2):
            for x in loader:
                dense_step(net, optimizer, x, torch.zeros(len(x), dtype=torch.long))
    with optimizer.consensus(torch.stack(rows).split(4)) as model:
        out = model(torch.ones(2, 5)).detach()
    assert all(torch.isfinite(each).all() for each in (out, *net.parameters()))
    return WORLD.rank


def other_workers() -> int:
    """Saved by one worker in plain torch and restored by all, saved by all and restored by one."""
    folder = WORLD.bcast(tempfile.mkdtemp())
    if WORLD.rank == 0:
        on_from(f"{folder}/one", ls.Serial())
    WORLD.Barrier()
    on_from(f"{folder}/one", ls.MPI())
    wanted = on_from(f"{folder}/all", ls.MPI())
    WORLD.Barrier()
    if WORLD.rank == 0:
        assert_same_bits(on_from(f"{folder}/all", ls.Serial(), steps=0), wanted)
    WORLD.Barrier()
    return WORLD.rank


def on_from(folder: str, on: ls.Transport, steps: int = 5) -> list[Any]:
    """Go on from the folder, by steps in turns, save there; what is left."""
    net = seeded()
    inner = adamw(net.parameters())
    with loosestep.torch.parallel(net, inner, RACY, on) as optimizer:
        before = optimizer.restore(folder) or 0
        for number, (x, y) in enumerate(batches(steps)):
            if optimizer.size == 1:
                dense_step(net, optimizer, x, y)
                continue
            with turn(number) as mine:
                if mine:
                    dense_step(net, optimizer, x, y)
        optimizer.save(folder, before + steps)
    assert {state["step"].item() for state in inner.state.values()} == {before + steps}
    return left_behind(net, inner)


class Late(torch.optim.SGD):
    """Makes state in its second step."""

    def step(self, closure: Any = None) -> None:
        super().step()
        for group in self.param_groups:
            for param in group["params"]:
                state = self.state[param]
                state["again" if "seen" in state else "seen"] = torch.zeros(1)


REFUSED: dict[str, tuple[Callable[[Any], torch.optim.Optimizer], ls.Strategy]] = {
    "dampening makes the first step unlike": (
        lambda params: torch.optim.SGD(params, 0.1, momentum=0.9, dampening=0.5),
        RACY,
    ),
    "Hogwild() promises that no update is lost": (momentum, ls.Hogwild()),
}


def refused() -> int:
    """What cannot be shared is said before the first step, or in the step that makes it."""
    for said, (make, strategy) in REFUSED.items():
        net = seeded()
        try:
            parallel(net, make(net.parameters()), strategy)
        except ValueError as error:
            assert said in str(error), error  # noqa: PT017
        else:
            raise AssertionError(said)
    net = seeded()
    optimizer = parallel(net, Late(net.parameters(), 0.1))
    try:
        dense_step(net, optimizer, *next(batches(1)))
    except RuntimeError as error:
        assert "is not shared" in str(error)  # noqa: PT017
        optimizer.close()
        return WORLD.rank
    raise AssertionError("state of its own went unnoticed")


def two_hosts() -> int:
    net = seeded()
    try:
        loosestep.torch.parallel(net, momentum(net.parameters()), RACY, ls.MPI(hosts=(1, WORLD.size - 1)))
    except ValueError as error:
        assert "needs workers that share memory, and these are on 2 hosts" in str(error)  # noqa: PT017
        return WORLD.rank
    raise AssertionError("nobody noticed")


def killed() -> int:
    """The last rank dies in its third step; the others, who never wait for it, end all the same, and name it."""
    net = seeded()
    x, y = next(batches(1))
    with parallel(net, adamw(net.parameters())) as optimizer:
        for number in range(1_000_000):
            if number == 3 and WORLD.rank == WORLD.size - 1:
                os.kill(os.getpid(), signal.SIGKILL)
            dense_step(net, optimizer, x, y)
    return WORLD.rank


CASES: dict[str, Callable[[], int]] = {
    case.__name__: case
    for case in (
        turns,
        sparse_turns,
        rows_apart,
        parameters_apart,
        together,
        looked_at,
        resumed,
        other_workers,
        loaders,
        refused,
        two_hosts,
    )
}

if __name__ == "__main__":
    for case in sys.argv[1:] or CASES:
        print(f"rank {(CASES | {'killed': killed})[case]()}: {case} ok", flush=True)
