"""Data dealt to workers: every row once, as many steps each, and a position that resumes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import mlp, parallel, step  # noqa: E402
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, TensorDataset  # noqa: E402

from loosestep.foundation.errors import CheckpointError  # noqa: E402
from loosestep.torch.data.samplers import rows_of, shard  # noqa: E402


def worker(rank: int = 0, size: int = 1) -> Any:
    return SimpleNamespace(rank=rank, size=size, clock=0)


def samplers(size: int, rows: int, batch: int = 4, **options: Any) -> list[Any]:
    return [shard(rows, batch, 7, True, worker(rank, size), 1) for rank in range(size)]


@pytest.mark.parametrize("size", [1, 3, 4])
@pytest.mark.parametrize("rows", [12, 50])
def test_a_row_goes_to_one_worker_and_steps_are_equal(size: int, rows: int) -> None:
    every = [list(sampler) for sampler in samplers(size, rows)]
    assert len({len(own) for own in every}) == 1
    assert [[len(batch) for batch in own] for own in every] == [[len(batch) for batch in every[0]]] * size
    dealt = [row for own in every for batch in own for row in batch]
    assert len(dealt) == len(set(dealt)) == rows // size * size
    assert set(dealt) <= set(range(rows))
    assert len(samplers(size, rows)[0]) == len(every[0])


def test_epochs_differ_and_come_again() -> None:
    one, other = samplers(1, 40)[0], samplers(1, 40)[0]
    epochs = [list(one) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert [list(other) for _ in range(3)] == epochs
    assert list(shard(6, 4, 0, False, worker(), 1)) == [[0, 1, 2, 3], [4, 5]]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_position_is_what_steps_consumed_though_a_loader_reads_ahead(accumulate: int) -> None:
    data, owner = TensorDataset(torch.arange(80)), worker()
    sampler = shard(data, 4, 3, True, owner, accumulate)
    whole = [batch.tolist() for _ in range(2) for (batch,) in DataLoader(data, batch_sampler=sampler)]
    sampler, owner.clock = shard(data, 4, 3, True, owner, accumulate), 0
    loader = DataLoader(data, batch_sampler=sampler, num_workers=1, prefetch_factor=4)
    seen = []
    for number, (batch,) in enumerate(loader, 1):
        seen.append(batch.tolist())
        owner.clock += number % accumulate == 0
        if number == 6:
            break
    state = sampler.state_dict()
    assert (state["epoch"], state["used"]) == (0, 24)
    resumed = shard(data, 4, 3, True, worker(), accumulate)
    resumed.load_state_dict(state)
    seen += [batch.tolist() for _ in range(2) for (batch,) in DataLoader(data, batch_sampler=resumed)]
    assert seen == whole


def test_another_samplers_state_is_refused() -> None:
    with pytest.raises(CheckpointError, match="of rows 40, and its rows is 41"):
        samplers(1, 41)[0].load_state_dict(samplers(1, 40)[0].state_dict())


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8, int])
def test_a_number_of_rows_is_any_integer(kind: Any) -> None:
    assert rows_of(kind(100), 2) == 100
    with pytest.raises(TypeError, match="data must be an integer, got True"):
        rows_of(True, 1)


def test_too_few_rows() -> None:
    with pytest.raises(ValueError, match="at least a row for each of 4 workers, got 3"):
        shard(3, 1, 0, True, worker(0, 4), 1)


class Stream(IterableDataset):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter(range(23))


@pytest.mark.parametrize("processes", [0, 2])
def test_a_stream_is_dealt_in_turn(processes: int) -> None:
    own = []
    for rank in range(2):
        items = shard(Stream(), 1, 0, True, worker(rank, 2), 1)
        own.append(sorted(int(x) for x in DataLoader(items, batch_size=None, num_workers=processes)))
    assert len(own[0]) == len(own[1])
    together = sorted(own[0] + own[1])
    assert together == list(range(22 if processes == 0 else 20))


# --- from an optimizer ----------------------------------------------------------------------------------------

DATA = TensorDataset(torch.arange(64))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (DataLoader(DATA), r"got a DataLoader: give it its \.dataset"),
        (RandomSampler(DATA), "got a RandomSampler: give it what it draws from"),
        (BatchSampler(RandomSampler(DATA), 4, False), "got a BatchSampler"),
        (iter(DATA), "takes a data set with len"),
    ],
    ids=["loader", "sampler", "batches", "iterator"],
)
def test_what_shard_refuses(given: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        parallel(mlp()).shard(given, 4)


def test_a_look_at_a_batch_is_no_pass() -> None:
    net = mlp()
    optimizer = parallel(net)
    sampler = optimizer.shard(DATA, 8)
    sampler.set_epoch(17)  # of no effect
    whole = list(optimizer.shard(DATA, 8))
    for _ in range(3):
        assert next(iter(sampler)) == whole[0]
    passed = []
    for number, batch in enumerate(sampler):
        step(net, optimizer)
        passed.append(batch)
        if number == 4:
            break
    assert passed == whole[:5]
    resumed = optimizer.shard(DATA, 8)
    resumed.load_state_dict(sampler.state_dict())
    next(iter(resumed))
    assert list(resumed) == whole[5:]
    assert next(iter(sampler)) != whole[0], "a pass that made steps is over when the next begins"
    assert sampler.epoch == 1
