"""MinIOCache and CoordinatedLoader with DataLoader: workers share one cache, and prepare batches for all jobs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from tests.unit.data.cache.test_service import free_ports

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader, Dataset  # noqa: E402

from loosestep.data import CoordinatedLoader, MinIOCache  # noqa: E402
from loosestep.data.cache.samples import dumped, loaded  # noqa: E402


class Rows(Dataset[Any]):
    """Samples of a tensor and a label; each read is a line of a file."""

    def __init__(self, reads: Path, count: int = 40) -> None:
        self.reads, self.count = reads, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Any:
        with open(self.reads, "a") as reads:
            reads.write(f"{number}\n")
        return torch.full((50,), float(number)), number


def lines(file: Path) -> int:
    return len(file.read_text().split())


def test_workers_have_one_cache_over_all_epochs(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "reads")
    size = len(dumped(rows[0], 0, rows))
    cache = MinIOCache(rows, 25 * size + size // 2)
    loader = DataLoader(cache, batch_size=4, shuffle=True, num_workers=2, multiprocessing_context="fork")
    for epoch in range(3):  # workers of each epoch are new ones
        seen = [int(label) for x, labels in loader for label in labels if (x == labels[:, None]).all()]
        assert sorted(seen) == list(range(40))
        assert cache.stats().hits == 25 * epoch
    assert cache.stats().stored == 25
    assert lines(rows.reads) == 1 + 40 + 2 * 15


def test_forked_workers_ask_other_hosts_by_connections_of_their_own(tmp_path: Path) -> None:
    names, rows = free_ports(2), Rows(tmp_path / "reads")
    caches = [MinIOCache(rows, 1 << 20, hosts=names, host=host, key="k") for host in range(2)]
    assert [caches[0][number][1] for number in (0, 1)] == [0, 1]  # so that there is a connection already
    loader = DataLoader(caches[0], batch_size=4, num_workers=2, multiprocessing_context="fork")
    for _ in range(2):
        assert [int(label) for _, labels in loader for label in labels] == list(range(40))
    assert caches[0][1][1] == 1  # nor was that connection disturbed
    stats = caches[0].stats()
    assert (stats.failures, stats.misses, stats.hits, stats.remote_hits) == (0, 40, 21, 22)
    assert [cache.stats().stored for cache in caches] == [20, 20]
    assert lines(rows.reads) == 40
    for cache in caches:
        cache.close()


@pytest.mark.slow
def test_a_worker_that_was_not_forked_has_it_too(tmp_path: Path) -> None:
    cache = MinIOCache(Rows(tmp_path / "reads", 4), 1 << 20)
    list(DataLoader(cache, num_workers=1, multiprocessing_context="spawn"))
    assert [cache[number][1] for number in range(4)] == list(range(4))
    assert (cache.stats().misses, cache.stats().hits) == (4, 4)


@pytest.mark.parametrize(
    "sample",
    [
        torch.arange(6.0).reshape(2, 3).T,
        torch.zeros(3, dtype=torch.bfloat16),
        torch.eye(2).to_sparse(),
        torch.ones(2, requires_grad=True),
        torch.tensor(5),
        torch.zeros(0, 4),
    ],
    ids=str,
)
def test_tensors_of_all_kinds_come_back(sample: Any) -> None:
    back = loaded(dumped({"x": sample}, 0, ()))["x"]
    assert (back.dtype, back.shape, back.layout) == (sample.dtype, sample.shape, sample.layout)
    assert back.requires_grad == sample.requires_grad
    assert torch.equal(back.to_dense(), sample.to_dense())


def test_a_stream_is_refused() -> None:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(())

    with pytest.raises(TypeError, match="as a map-style data set"):
        MinIOCache(Stream(), 100)  # type: ignore[arg-type]


def test_jobs_prepare_by_dataloaders_with_workers(tmp_path: Path) -> None:
    rows, found = Rows(tmp_path / "reads"), {}

    def job(number: int) -> None:
        def prepare(batches: Any) -> Any:
            return DataLoader(rows, batch_sampler=batches, num_workers=number)

        options: dict[str, Any] = {
            "job": number,
            "jobs": 2,
            "name": "torch",
            "prepare": prepare,
            "capacity": 1 << 20,
        }
        with CoordinatedLoader(rows, 8, epochs=2, **options) as loader:
            found[number] = [[labels.tolist() for _, labels in loader] for _ in range(2)]

    threads = [threading.Thread(target=job, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found[0] == found[1]
    assert [sorted(number for labels in epoch for number in labels) for epoch in found[0]] == [list(range(40))] * 2
    assert lines(rows.reads) == 2 * 40  # not 2 * 2 * 40
