"""Data dealt to workers: every row once, as many steps each, and a position that resumes."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import mlp, parallel, step  # noqa: E402
from tests.unit.in_threads import together  # noqa: E402
from torch.utils.data import (  # noqa: E402
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402
from loosestep.foundation.errors import CheckpointError, Mismatch  # noqa: E402
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


class Endless(Sampler[int]):
    def __iter__(self) -> Any:
        while True:
            yield 1


class Bucketed(Sampler[int]):
    """Draws by numpy and by Python, and wants to know its epoch."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return 64

    def __iter__(self) -> Any:
        rows = np.random.permutation(64).tolist()
        random.shuffle(rows)
        return iter([row + 100 * self.epoch for row in rows])


def dealt(size: int, given: Any, batch: int = 4, accumulate: int = 1) -> list[Any]:
    """Of every worker, whose global generators stand elsewhere."""
    made = []
    for rank in range(size):
        torch.manual_seed(rank)
        made.append(shard(given, batch, 7, True, worker(rank, size), accumulate))
    return made


KINDS = {
    "weighted": lambda: WeightedRandomSampler([0.0] * 60 + [1.0] * 4, 40),
    "subset": lambda: SubsetRandomSampler(range(30, 60)),
    "bucketed": Bucketed,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 3])
def test_a_samplers_order_is_dealt(kind: str, size: int) -> None:
    """Each item goes to one worker; passes differ, come again, and leave the global generators alone."""
    given = KINDS[kind]()
    every = dealt(size, given)
    before = random.getstate(), np.random.get_state()[2], torch.get_rng_state()
    epochs = [[list(sampler) for sampler in every] for _ in range(2)]
    assert before[:2] == (random.getstate(), np.random.get_state()[2])
    assert torch.equal(before[2], torch.get_rng_state())
    assert epochs[0] != epochs[1]
    assert [[list(sampler) for sampler in dealt(size, given)]] == epochs[:1]
    for own in epochs[0]:
        assert [len(batch) for batch in own] == [len(batch) for batch in epochs[0][0]]
        assert len(own) == len(every[0])
    rows = [row for own in epochs[0] for batch in own for row in batch]
    assert len(rows) == len(given) // size * size
    if kind == "weighted":
        assert set(rows) <= set(range(60, 64))
    else:
        assert len(set(rows)) == len(rows)
        assert set(rows) <= set(range(30, 60) if kind == "subset" else range(64))
    if kind == "bucketed":
        assert min(row for own in epochs[1] for batch in own for row in batch) >= 100


def test_batches_of_a_batch_sampler_stay_whole() -> None:
    given = BatchSampler(SequentialSampler(range(22)), 4, False)
    one, other = dealt(2, given, batch=1)
    assert list(one) == [[0, 1, 2, 3], [8, 9, 10, 11], [16, 17, 18, 19]]
    assert list(other) == [[4, 5, 6, 7], [12, 13, 14, 15], [20, 21]]
    assert len(one) == 3
    loader = DataLoader(DATA, batch_sampler=parallel(mlp()).shard(given))
    assert [len(batch) for (batch,) in loader] == [4, 4, 4, 4, 4, 2]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_dealt_order_goes_on_where_it_stood(accumulate: int) -> None:
    given = RandomSampler(DATA)
    (whole,) = dealt(1, given, accumulate=accumulate)
    wanted = list(whole)
    (one,) = dealt(1, given, accumulate=accumulate)
    seen = []
    for number, batch in enumerate(one, 1):
        seen.append(batch)
        one.worker.clock += number % accumulate == 0
        if number == 6:
            break
    (other,) = dealt(1, given, accumulate=accumulate)
    other.load_state_dict(one.state_dict())
    assert [*seen, *other] == wanted
    own = RandomSampler(DATA, generator=torch.Generator().manual_seed(1))
    (one,), (other,) = dealt(1, own), dealt(1, own)
    for _ in zip(one, range(2), strict=False):
        one.worker.clock += 1
    other.load_state_dict(one.state_dict())
    with pytest.raises(CheckpointError, match="draws another order than in the run that was saved"):
        next(iter(other))


def test_workers_that_draw_other_orders_learn_it() -> None:
    """Generators of a sampler's own that are not alike would give rows to both workers, or to none."""

    def run(on: Any) -> None:
        net = mlp()
        optimizer = loosestep.torch.parallel(net, torch.optim.SGD(net.parameters(), 0.1), ls.LocalSGD(4), on)
        own = RandomSampler(DATA, generator=torch.Generator().manual_seed(on.rank))
        with optimizer:
            sampler = optimizer.shard(own, 16)
            if on.rank:
                next(iter(sampler))  # a look is none
            optimizer.once(int)
            for _ in sampler:
                step(net, optimizer)
            with pytest.raises(
                Mismatch, match="worker 1 has the order of sampler 0 .*, worker 0 has the order of"
            ):
                optimizer.once(int)

    together(2, run)


@pytest.mark.parametrize("strategy", [ls.LocalSGD(4), ls.DBS()], ids=["shard", "shared out"])
@pytest.mark.parametrize(
    ("of_rank", "said"),
    [
        (
            lambda optimizer, rank: optimizer.shard(Subset(DATA, range(rank, 40 + rank)), 8),
            "a Subset with indices",
        ),
        (lambda optimizer, rank: optimizer.shard(DATA, 8, seed=rank), "of 64 rows with seed 1"),
        (lambda optimizer, rank: optimizer.shard(64 - rank, 8), "of 63 rows with seed 0"),
    ],
    ids=["random_split", "seed", "rows"],
)
def test_workers_that_deal_other_rows_learn_it(of_rank: Any, said: str, strategy: Any) -> None:
    """A split that each draws for itself gives one's rows of validation to another's training."""

    def run(on: Any) -> None:
        net = mlp()
        with loosestep.torch.parallel(net, torch.optim.SGD(net.parameters(), 0.1), strategy, on) as optimizer:
            of_rank(optimizer, 0)
            optimizer.once(int)
            of_rank(optimizer, on.rank)
            with pytest.raises(Mismatch, match=f"worker 1 has the order of sampler 1 .*{said}"):
                optimizer.once(int)

    together(2, run)


def test_the_length_of_a_stream_is_known_if_it_is() -> None:
    class Counted(Stream):
        epochs: ClassVar[list[int]] = []

        def __len__(self) -> int:
            return 23

        def set_epoch(self, epoch: int) -> None:
            self.epochs.append(epoch)

    items = shard(Counted(), 1, 0, True, worker(0, 2), 1)
    loader = DataLoader(items, batch_size=5)
    assert len(loader) == 3 == len(list(loader))
    items.set_epoch(4)
    assert Counted.epochs == [4]
    with pytest.raises(TypeError, match="has no len"):
        len(DataLoader(shard(Stream(), 1, 0, True, worker(0, 2), 1)))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (DataLoader(DATA), r"got a DataLoader: give it its \.dataset or its \.sampler"),
        (
            DistributedSampler(DATA, 2, 0),
            "got a DistributedSampler, which divides rows itself: give it the data set",
        ),
        (BatchSampler(RandomSampler(DATA), 4, False), "a BatchSampler makes batches itself: leave out batch_size"),
        (Endless(), r"deals the whole order of a sampler: Endless has no len\(\)\. Give shard\(\) the data set"),
        (
            RandomSampler(DATA, replacement=True, num_samples=10**10),
            "RandomSampler has 10,000,000,000 items.* let each worker draw its own rows",
        ),
        (iter(DATA), "takes a data set with len"),
    ],
    ids=["loader", "distributed", "batches", "endless", "very long", "iterator"],
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
