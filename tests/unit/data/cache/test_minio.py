"""A MinIO cache hits exactly what it holds, LRU what its formula says; what is wrong is said in sentences."""

from __future__ import annotations

import copy
import pickle
import threading
import warnings
from collections import OrderedDict
from math import log
from typing import Any

import numpy as np
import pytest

from loosestep.data import MinIOCache
from loosestep.data.cache.samples import dumped
from loosestep.data.shared_memory.segment import Segment

SIZE = len(dumped(bytes(100), 0, ()))


class Rows:
    """Samples of 100 bytes; counts how often each is read."""

    def __init__(self, count: int) -> None:
        self.reads = [0] * count

    def __len__(self) -> int:
        return len(self.reads)

    def __getitem__(self, number: int) -> bytes:
        self.reads[number] += 1
        return int(number).to_bytes(100, "little")


def epochs(dataset: Any, count: int, seed: int = 0) -> list[list[Any]]:
    """What epochs in random orders read."""
    random = np.random.default_rng(seed)
    return [[dataset[i] for i in random.permutation(len(dataset))] for _ in range(count)]


@pytest.mark.parametrize("held", [0, 1, 35, 99, 100, 1000])
def test_hits_are_exactly_the_capacity_in_every_epoch_after_the_first(held: int) -> None:
    rows = Rows(100)
    cache = MinIOCache(rows, held * SIZE + SIZE // 2)
    fits = min(held, 100)
    before = 0
    for epoch in range(5):
        found = epochs(cache, 1, seed=epoch)[0]
        assert sorted(found) == sorted(number.to_bytes(100, "little") for number in range(100))
        stats = cache.stats()
        assert stats.hits - before == (fits if epoch else 0)
        before = stats.hits
    assert stats.stored == fits
    assert stats.bytes == fits * SIZE
    assert stats.misses == sum(rows.reads) == 100 + 4 * (100 - fits)
    assert sorted(rows.reads) == [1] * fits + [5] * (100 - fits)


@pytest.mark.parametrize("share", [0.35, 0.5, 0.8])
def test_lru_hits_what_the_formula_says_and_minio_more(share: float) -> None:
    """The formula is a limit for many samples; 4 standard deviations of this many draws are allowed."""
    count, times = 2000, 12
    held = round(share * count)
    random = np.random.default_rng(3)
    recent: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for epoch in range(times + 1):
        for number in map(int, random.permutation(count)):
            there = number in recent
            hits += there and epoch > 0
            recent[number] = recent.pop(number, None)
            if len(recent) > held:
                recent.popitem(last=False)
    expected = share + (1 - share) * log(1 - share)
    error = 4 * (expected * (1 - expected) / (count * times)) ** 0.5
    assert hits / (count * times) == pytest.approx(expected, abs=error + 2 / count)
    assert expected < share


def test_samples_are_copies_and_as_writable_as_the_data_set_gives_them() -> None:
    fixed = np.arange(5.0)
    fixed.setflags(write=False)
    cache = MinIOCache([np.arange(3), fixed], 10_000)
    for _ in range(2):
        cache[0], cache[1]
    cache[0][:] = 7
    assert cache[0].tolist() == [0, 1, 2]
    assert not cache[1].flags.writeable
    assert cache[1].tolist() == fixed.tolist()


def test_ragged_samples_of_any_kind_come_back_as_they_were() -> None:
    samples = [b"", {"x": np.zeros((2, 3)), "y": 1}, ("text", None), [1, [2, [3]]], np.float32(2.5)]
    cache = MinIOCache(samples, 1 << 20)
    for _ in range(2):
        found = [cache[i] for i in range(5)]
    assert found[1]["x"].shape == (2, 3)
    assert [found[0], *found[2:]] == [samples[0], *samples[2:]]
    assert cache.stats().hits == 5


def test_the_transform_is_applied_each_time_and_not_kept() -> None:
    calls: list[bytes] = []

    def transform(sample: bytes) -> int:
        calls.append(sample)
        return len(calls)

    cache = MinIOCache([b"raw"], 100, transform=transform)
    assert [cache[0] for _ in range(3)] == [1, 2, 3]
    assert calls == [b"raw"] * 3
    assert cache.stats().misses == 1


def test_a_sample_that_cannot_be_pickled_is_named() -> None:
    with pytest.raises(TypeError, match="sample 1 of list cannot be kept: .* in transform="):
        epochs(MinIOCache([b"", threading.Lock()], 100), 1)
    assert MinIOCache([threading.Lock()], 0)[0] is not None  # nothing is kept


def test_numbers_are_those_of_a_sequence() -> None:
    cache = MinIOCache([b"a", b"b"], 100)
    assert cache[-1] == cache[np.int64(1)] == b"b"
    assert len(cache) == 2
    assert list(iter(cache.__getitem__, b"b")) == [] if cache[0] == b"b" else True
    for number in (2, -3):
        with pytest.raises(IndexError, match=f"the data set has 2 samples, got {number}"):
            cache[number]
    with pytest.raises(TypeError):
        cache["a"]  # type: ignore[index]


def test_an_empty_data_set_has_an_empty_cache() -> None:
    assert len(MinIOCache([], 100)) == 0


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((iter(()), 10), {}, TypeError, "dataset must have __getitem__ and __len__"),
        (([], -1), {}, ValueError, "capacity must be at least 0"),
        (([], 1.5), {}, TypeError, "capacity must be an integer"),
        (([], 1 << 60), {}, MemoryError, "no room for .* give a smaller capacity"),
        (([], 1), {"transform": 3}, TypeError, "transform must be a function"),
        (([], 1), {"deadline": 0}, ValueError, "deadline must be above 0"),
        (([], 1), {"hosts": ["one"]}, ValueError, "addresses with a port"),
        (([], 1), {"hosts": ["one:1", "two:2"], "host": 2, "key": "k"}, ValueError, "host must be in 0 .. 1"),
        (([], 1), {"name": "x" * 200}, ValueError, "name must be shorter"),
    ],
)
def test_bad_arguments_are_refused(
    arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        MinIOCache(*arguments, **options)


def test_several_hosts_need_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOOSESTEP_KEY", raising=False)
    with pytest.raises(ValueError, match="several hosts need a key"):
        MinIOCache([], 1, hosts=["one:1", "two:2"])


def test_caches_of_one_name_are_one_and_must_fit() -> None:
    first = MinIOCache(Rows(10), 1000, name="unit")
    second = MinIOCache(Rows(10), 1000, name="unit")
    try:
        first[3]
        assert second[3] == first[3]
        assert first.stats().misses == second.stats().misses == 1
        with pytest.raises(ValueError, match="holds up to 1000 bytes of 10 samples, and this process wants 500"):
            MinIOCache(Rows(10), 500, name="unit")
    finally:
        first.close()
    assert second[3] == first[3]
    third = MinIOCache(Rows(10), 500, name="unit")  # the name is free again
    assert third.stats().stored == 0
    third.close()


def test_copies_have_the_same_memory() -> None:
    cache = MinIOCache(Rows(4), 1000)
    cache[1]
    for other in (copy.copy(cache), pickle.loads(pickle.dumps(cache))):
        other[1]
        assert other.store.segment is cache.store.segment
    assert cache.stats().hits == 2


def test_memory_that_is_gone_while_it_fills_up_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = MinIOCache(Rows(100), 100_000)
    monkeypatch.setattr("loosestep.data.shared_memory.segment.free_memory", lambda: 10.0)
    with pytest.warns(RuntimeWarning, match="the cache stops growing at 0 of 100000 bytes: no room"):
        assert cache[3] == Rows(4)[3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        epochs(cache, 2)
    assert cache.stats().stored == 0


def test_a_lock_that_another_process_holds_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = MinIOCache(Rows(100), 100_000, deadline=0.01)
    monkeypatch.setattr(Segment, "claim", lambda segment, byte: byte != 0)
    with pytest.warns(RuntimeWarning, match="sample 3 is not kept: .* it is probably stopped"):
        assert cache[3] == Rows(4)[3]
    assert cache.store.deadline == 0.0
    monkeypatch.undo()
    cache[3]
    cache[3]
    assert cache.stats().hits == 1
