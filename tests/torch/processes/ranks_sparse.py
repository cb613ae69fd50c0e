"""One rank of a job under mpiexec: tables with sparse gradients, beside those with dense ones and beside DDP."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

import numpy as np
import torch
from mpi4py import MPI
from tests.contract.parametrize import near
from tests.contract.test_sparse_gradients import crowded, trained
from tests.torch.processes.ranks import rank, say, spread
from tests.torch.processes.ranks_device import REAL, on_device
from tests.torch.training import assert_same_bits
from torch import Tensor, nn

import loosestep as ls
import loosestep.torch
from loosestep.foundation.errors import Mismatch
from loosestep.strategies.base import mean_gradient

STEPS, WORDS, BAGS, WIDTH = 4, 60, 20, 3
Ids = list[list[int]]


class Reader(nn.Module):
    """A table of words; one of bags, which not every batch has; one of which most rows are used; a layer."""

    def __init__(self, *, sparse: bool = True, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(WORDS, WIDTH, sparse=sparse, dtype=dtype)
        self.bags = nn.EmbeddingBag(BAGS, WIDTH, mode="sum", sparse=sparse)
        self.small = nn.Embedding(4, WIDTH, sparse=sparse)
        self.linear = nn.Linear(WIDTH, 2)

    def forward(self, words: Tensor, bags: Tensor | None, small: Tensor) -> Tensor:
        # Without the factors both tables' gradients have the same values in memory, and DDP divides these twice.
        read = 2 * self.words(words).float() + 3 * self.small(small)
        out: Tensor = self.linear(read).tanh().mean()
        return out if bags is None else out + self.bags(bags[None]).pow(2).mean()

    def tables(self) -> list[nn.Parameter]:
        return [self.words.weight, self.bags.weight, self.small.weight]


def batch(step: int, of: int) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return what a rank reads: some words twice, bags on even ranks alone in every other step."""
    draw = torch.Generator().manual_seed(10 * step + of)
    words = torch.randint(6, (5,), generator=draw) * 7
    bags = torch.randint(BAGS, (2 + of,), generator=draw) if step % 2 == 0 or of % 2 == 0 else None
    return words, bags, torch.randint(4, (5,), generator=draw)


def train(
    net: Reader,
    make: Callable[..., Any] = torch.optim.SGD,
    strategy: ls.Strategy | None = None,
    device: str = "cpu",
    **options: Any,
) -> tuple[Any, list[Tensor]]:
    """Train the tables; return the optimizer and the tables."""
    inner, passes = make(net.tables(), 0.5), options.get("accumulate", 1)
    with loosestep.torch.parallel(net.to(device), inner, strategy or ls.AllReduceSGD(), **options) as optimizer:
        for step in range(STEPS):
            optimizer.zero_grad()
            for number in range(passes):
                words, bags, small = batch(step + 100 * number, rank())
                net(words.to(device), None if bags is None else bags.to(device), small.to(device)).backward()
            optimizer.step()
            assert strategy or not isinstance(optimizer.worker.params, np.ndarray) or spread(optimizer) == 0
    return optimizer, [param.detach().cpu() for param in net.tables()]


def like_dense_ones() -> int:
    """The bits of dense embeddings: alone or on a host each, cast or not; with several passes to rounding."""
    for options in ({}, {"on": ls.MPI(hosts=(1, MPI.COMM_WORLD.size - 1))}, {"strategy": ls.AllReduceSGD(32)}):
        assert_same_bits(*(train(Reader(sparse=sparse), **options)[1] for sparse in (True, False)))
    for dtype in (torch.float64, torch.bfloat16):
        sparse, dense = (train(Reader(sparse=each, dtype=dtype))[1] for each in (True, False))
        assert sparse[0].dtype == dtype
        tolerance = 1e-6 if dtype == torch.float64 else 2e-2  # rows of what is cast are added up in the wider type
        torch.testing.assert_close(sparse[0], dense[0], rtol=tolerance, atol=tolerance)
    sparse, dense = (train(Reader(sparse=each), accumulate=2)[1] for each in (True, False))
    torch.testing.assert_close(sparse, dense, rtol=1e-5, atol=1e-6)
    return rank()


def used(step: int) -> list[list[int]]:
    """How many rows each rank has of each table."""
    return [[0 if ids is None else len(ids.unique()) for ids in batch(step, of)] for of in range(ranks())]


def ranks() -> int:
    return int(MPI.COMM_WORLD.size)


def bytes_are_those_of_the_formula() -> int:
    """Counts of all, then lists of the tables that are shorter so, then the others whole."""
    if ranks() != 2:  # of more, rows may have owners
        return rank()
    optimizer, _ = train(Reader())
    n, sizes = ranks(), (WORDS, BAGS, 4)
    gathered = whole = 0
    for step in range(STEPS):
        longest = [max(each) for each in zip(*used(step), strict=True)]
        short = [n * k * (4 * WIDTH + 4) < 2 * size * WIDTH * 4 for k, size in zip(longest, sizes, strict=True)]
        assert short[:2] == [True, True]
        words = sum(k * (4 * WIDTH + 4) for k, is_short in zip(longest, short, strict=True) if is_short)
        gathered += (n - 1) * (8 * 4 + -(-words // 8) * 8)
        whole += sum(not is_short for is_short in short)
    assert whole
    assert optimizer.meter.requests["AllGather"][2] == gathered
    assert optimizer.meter.requests["Start"][0] == whole
    dense, _ = train(Reader(sparse=False))
    assert optimizer.meter.bytes < dense.meter.bytes
    return rank()


def rows_of_all_are_moved() -> int:
    """By SparseAdam, and SGD with momentum: one process with all batches comes to the same tables."""
    for make in (torch.optim.SparseAdam, partial(torch.optim.SGD, momentum=0.9)):
        _, ours = train(Reader(), make)
        alone = Reader()
        plain = make(alone.tables(), 0.5)
        for step in range(STEPS):
            plain.zero_grad()
            for of in range(ranks()):
                (alone(*batch(step, of)) / ranks()).backward()
            plain.step()
        torch.testing.assert_close(ours, [param.detach() for param in alone.tables()], rtol=1e-4, atol=1e-5)
    return rank()


def local_steps() -> int:
    """Where parameters are averaged a sparse gradient stays sparse, and each worker's own."""
    for strategy in (ls.LocalSGD(2), ls.SyncEASGD(2), ls.ErrorFeedback(codec=ls.TopK(0.9))):
        optimizer, sparse = train(Reader(), strategy=strategy)
        assert strategy != ls.LocalSGD(2) or "AllGather" not in optimizer.meter.requests
        torch.testing.assert_close(sparse, train(Reader(sparse=False), strategy=strategy)[1], rtol=1e-5, atol=1e-6)
    return rank()


@dataclass(frozen=True, repr=False)
class Decaying(ls.Strategy):
    """A strategy of a user's, which writes all rows of the mean gradient."""

    def round(self, worker: Any, state: Any) -> Iterator[Any]:
        yield from mean_gradient(worker)
        worker.grad += 0.1 * worker.params
        yield ls.requests.Update()


def a_strategy_that_writes_other_rows() -> int:
    """No row of the update is left out, and none of what was written is there in the next step."""
    for strategy in (Decaying(), ls.EntropySGD(2, pull=0.5)):
        assert_same_bits(*(train(Reader(sparse=sparse), strategy=strategy)[1] for sparse in (True, False)))
    return rank()


def a_table_that_is_tied() -> int:
    """A table whose gradient is dense on some rank: it is also the weight of a layer, in some steps."""

    def trained(*, sparse: bool) -> list[Tensor]:
        torch.manual_seed(0)
        table = nn.Embedding(9, 2, sparse=sparse)
        with loosestep.torch.parallel(table, torch.optim.SGD(table.parameters(), 0.5), ls.AllReduceSGD()) as made:
            for step in range(4):
                made.zero_grad()
                loss = table(torch.tensor([step, rank(), step])).pow(2).sum()
                if step % 2 == rank():
                    loss = loss + nn.functional.linear(torch.ones(1, 2), table.weight[3:5]).sum()
                loss.backward()
                made.step()
                assert spread(made) == 0
        return [table.weight.detach()]

    assert_same_bits(trained(sparse=True), trained(sparse=False))
    return rank()


def thrown_away_and_skipped() -> int:
    """Means that no step uses, steps left out, and a rank whose data ends before that of the others."""

    def trained(*, sparse: bool) -> list[Tensor]:
        net = Reader(sparse=sparse)
        made = loosestep.torch.parallel(net, torch.optim.SGD(net.tables(), 0.5), ls.AllReduceSGD())
        with made:
            for step in range(6 if rank() else 4):
                made.zero_grad()
                net(*batch(step, rank())).backward()
                if step == 1:
                    made.zero_grad()
                    net(*batch(9, rank())).backward()
                made.skip() if step == 2 else made.step()
        return [param.detach() for param in net.tables()]

    assert_same_bits(trained(sparse=True), trained(sparse=False))
    return rank()


def in_several_passes() -> int:
    """Losses of separate tables, a pass each; passes inside no_sync(); a scaler that divides before the step."""

    def trained(*, sparse: bool) -> list[Tensor]:
        net = Reader(sparse=sparse)
        made = loosestep.torch.parallel(net, torch.optim.SGD(net.tables(), 0.5), ls.AllReduceSGD())
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        with made:
            for step in range(4):
                made.zero_grad()
                words, _, small = batch(step, rank())
                scaler.scale(net.words(words).pow(2).sum()).backward()
                scaler.scale(net.small(small).pow(2).sum()).backward()
                scaler.step(made)
                scaler.update()
                assert spread(made) == 0
                made.zero_grad()
                with made.no_sync():
                    net(*batch(step, rank())).backward()
                net(*batch(step + 50, rank())).backward()
                made.step()
                assert spread(made) == 0
        return [param.detach() for param in net.tables()]

    torch.testing.assert_close(trained(sparse=True), trained(sparse=False), rtol=1e-5, atol=1e-6)
    return rank()


def like_ddp() -> int:
    """Two ranks: what torch's DistributedDataParallel over Gloo makes of sparse gradients."""
    if ranks() != 2:
        return rank()
    place = MPI.COMM_WORLD.bcast(tempfile.mkdtemp())
    store = torch.distributed.FileStore(f"{place}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank(), world_size=2)
    try:
        for make in (torch.optim.SGD, torch.optim.SparseAdam):
            net = Reader()
            net.linear.requires_grad_(False)
            model = nn.parallel.DistributedDataParallel(net)
            inner = make(net.tables(), 0.5)
            for step in range(0, 2 * STEPS, 2):  # DDP wants every table in every pass
                inner.zero_grad()
                model(*batch(step, rank())).backward()
                inner.step()
            ours = Reader()
            with loosestep.torch.parallel(ours, make(ours.tables(), 0.5), ls.AllReduceSGD()) as optimizer:
                for step in range(0, 2 * STEPS, 2):
                    optimizer.zero_grad()
                    ours(*batch(step, rank())).backward()
                    optimizer.step()
            torch.testing.assert_close(
                [param.detach() for param in ours.tables()],
                [param.detach() for param in net.tables()],
                rtol=1e-5,
                atol=1e-6,
            )
    finally:
        torch.distributed.destroy_process_group()
    return rank()


def in_the_loop_of_the_library() -> int:
    """`run` over MPI: the bits of the simulator, and its bytes."""
    for hosts in ((), (1,) * ranks()):
        on = ls.MPI(hosts=hosts) if hosts else ls.MPI()
        for how in ("rows", "scanned"):
            got, wanted = (trained(ls.AllReduceSGD(), each, how) for each in (on, near(ls.Simulated, ranks())))
            np.testing.assert_array_equal(got.params, wanted.params)
            assert (
                hosts or got.bytes_sent == wanted.bytes_sent
            )  # between hosts short means are sent in other forms
        got, wanted = (crowded(each, (0, 2)) for each in (on, ls.Simulated(ranks())))  # of four, rows have owners
        np.testing.assert_array_equal(got.params, wanted.params)
    return rank()


def several_optimizers() -> int:
    """SparseAdam for the tables, AdamW for the rest: one process with all batches comes to the same."""
    net, alone = Reader(), Reader()
    made = [
        [torch.optim.SparseAdam(each.tables(), 0.1), torch.optim.AdamW(each.linear.parameters(), 0.1)]
        for each in (net, alone)
    ]
    with loosestep.torch.parallel(net, made[0], ls.AllReduceSGD()) as both:
        for step in range(STEPS):
            both.zero_grad()
            net(*batch(step, rank())).backward()
            both.step()
    for step in range(STEPS):
        for of in range(ranks()):
            (alone(*batch(step, of)) / ranks()).backward()
        for plain in made[1]:
            plain.step()
            plain.zero_grad()
    torch.testing.assert_close(list(net.parameters()), list(alone.parameters()), rtol=1e-3, atol=1e-4)
    return rank()


def on_a_gpu() -> int:
    """As on the CPU, to rounding: there what comes twice is added up by torch."""
    _, wanted = train(Reader())
    with on_device() as device:
        optimizer, got = train(Reader(), device=device)
    assert optimizer.meter.requests["AllGather"][2] > 0
    assert REAL or type(optimizer.worker.grad).__name__ == "DeviceBuffer"
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    return rank()


def sparse_on_one_rank_alone() -> int:
    """A table that is sparse on one rank and dense on another: refused on all, by name."""
    try:
        train(Reader(sparse=rank() == 0))
    except Mismatch as error:
        assert "sparse gradients" in str(error)  # noqa: PT017
        return rank()
    raise AssertionError("not refused")


def a_row_is_the_mean_over_all() -> int:
    """By hand: each rank reads row 5 and one of its own."""
    table = nn.Embedding(50, 2, sparse=True)
    made = loosestep.torch.parallel(table, torch.optim.SGD(table.parameters(), 1.0), ls.AllReduceSGD())
    table(torch.tensor([5, rank(), 5])).sum().backward()
    grad = table.weight.grad.coalesce()  # type: ignore[union-attr]
    expected = np.array([*[1 / ranks()] * ranks(), 2.0])
    assert grad.indices()[0].tolist() == [*range(ranks()), 5]
    np.testing.assert_array_equal(grad.values()[:, 0].numpy(), expected.astype(np.float32))
    made.step()
    made.close()
    return rank()


CASES: dict[str, Callable[[], int]] = {
    case.__name__: case
    for case in (
        *(
            a_row_is_the_mean_over_all,
            like_dense_ones,
            bytes_are_those_of_the_formula,
            rows_of_all_are_moved,
            local_steps,
        ),
        *(
            a_table_that_is_tied,
            thrown_away_and_skipped,
            in_several_passes,
            like_ddp,
            several_optimizers,
            on_a_gpu,
            a_strategy_that_writes_other_rows,
        ),
        *(in_the_loop_of_the_library, sparse_on_one_rank_alone),
    )
}

if __name__ == "__main__":
    say(CASES)
