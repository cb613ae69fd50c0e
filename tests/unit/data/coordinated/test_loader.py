"""Jobs that prepare batches together: each sees every sample once an epoch, and each batch is prepared once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest

from loosestep.data import CoordinatedLoader
from loosestep.data.global_batch import order_of


class Jobs:
    """K jobs in threads of this process, over 0, 1, ..., rows - 1; counts what is prepared."""

    def __init__(
        self, jobs: int, name: str, rows: int = 23, batch: int = 4, epochs: int = 3, **options: Any
    ) -> None:
        self.count, self.name, self.rows, self.batch, self.epochs = jobs, name, rows, batch, epochs
        self.options: dict[str, Any] = {"capacity": 1 << 16, "slots": 3, "deadline": 20.0, **options}
        self.prepared: Counter[tuple[int, ...]] = Counter()
        self.seen: dict[int, list[list[list[int]]]] = {job: [] for job in range(jobs)}
        self.errors: dict[int, BaseException] = {}
        self.stats: Any = None

    def prepare(self, batches: Sequence[list[int]]) -> Iterable[Any]:
        for numbers in batches:
            self.prepared[tuple(numbers)] += 1
            yield np.array(numbers)

    def run(self, job: int, leaves_after: int = 10**9) -> None:
        """One job, which leaves after so many batches."""
        try:
            common = {"epochs": self.epochs, "job": job, "jobs": self.count, "name": self.name}
            with CoordinatedLoader(
                range(self.rows), self.batch, prepare=self.prepare, **common, **self.options
            ) as loader:
                for _ in range(self.epochs):
                    self.seen[job].append([])
                    for batch in loader:
                        self.seen[job][-1].append(batch.tolist())
                        leaves_after -= 1
                        if not leaves_after:
                            return
                self.stats = loader.stats()
        except Exception as error:
            self.errors[job] = error

    def start(self, **leaves_after: int) -> None:
        threads = [
            threading.Thread(target=self.run, args=(job, leaves_after.get(f"job_{job}", 10**9)))
            for job in range(self.count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_each_batch_is_prepared_once_and_every_job_sees_every_sample_once_an_epoch(jobs: int) -> None:
    run = Jobs(jobs, f"once {jobs}")
    run.start()
    assert run.errors == {}
    batches = run.epochs * 6
    assert sum(run.prepared.values()) == len(run.prepared) == batches
    assert run.stats.prepared == batches
    assert run.stats.taken_over == 0
    for job in range(jobs):
        assert run.seen[job] == run.seen[0]
        for epoch, seen in enumerate(run.seen[job]):
            flat = [number for numbers in seen for number in numbers]
            assert flat == order_of(run.rows, 0, epoch).tolist()
            assert [len(numbers) for numbers in seen] == [4, 4, 4, 4, 4, 3]


def test_the_share_of_a_job_that_leaves_is_taken_over() -> None:
    run = Jobs(3, "leaving", rows=40, epochs=2)
    run.start(job_1=5)
    assert run.errors == {}
    assert len(run.seen[1]) == 1
    assert len(run.seen[1][0]) == 5
    for job in (0, 2):
        assert [sorted(number for numbers in seen for number in numbers) for seen in run.seen[job]] == [
            list(range(40)), list(range(40)),
        ]  # fmt: skip
    assert run.stats.prepared == 20  # each is staged once, whoever prepared it
    assert run.stats.taken_over == 1


def test_a_loop_that_is_left_in_the_middle_of_an_epoch_holds_nobody_up() -> None:
    common: dict[str, Any] = {"epochs": 3, "jobs": 2, "name": "breaks", "capacity": 1 << 16, "slots": 2}
    seen: dict[int, list[int]] = {0: [], 1: []}

    def run(job: int) -> None:
        with CoordinatedLoader(range(20), 2, job=job, **common) as loader:
            for _ in range(3):
                for number, batch in enumerate(loader):
                    seen[job] += batch
                    if job == 1 and number == 2:
                        break

    threads = [threading.Thread(target=run, args=(job,)) for job in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert (len(seen[0]), len(seen[1])) == (60, 18)


def test_the_first_job_may_leave_first() -> None:
    run = Jobs(2, "first leaves", rows=16, epochs=2)
    run.start(job_0=1)
    assert run.errors == {}
    assert len(run.seen[1]) == 2


def test_what_prepare_raises_is_raised_in_every_job_that_needs_the_batch() -> None:
    class Failing(Jobs):
        def prepare(self, batches: Sequence[list[int]]) -> Iterable[Any]:
            for numbers in batches:
                if 7 in numbers:
                    raise KeyError(7)
                yield np.array(numbers)

    run = Failing(3, "failing")
    run.start()
    assert {job: repr(error) for job, error in run.errors.items()} == dict.fromkeys(range(3), "KeyError(7)")


def test_too_few_batches_of_prepare_are_an_error() -> None:
    class Short(Jobs):
        def prepare(self, batches: Sequence[list[int]]) -> Iterable[Any]:
            return []

    run = Short(1, "short")
    run.start()
    assert "there is none for batch 0" in str(run.errors[0])


def test_a_batch_larger_than_a_slot_is_an_error_that_says_how_much_is_needed() -> None:
    run = Jobs(2, "large", capacity=30)
    run.start()
    assert all("give capacity= at least" in str(error) for error in run.errors.values())
    assert len(run.errors) == 2


def test_a_batch_that_cannot_be_pickled_is_named() -> None:
    class Locks(Jobs):
        def prepare(self, batches: Sequence[list[int]]) -> Iterable[Any]:
            return (threading.Lock() for _ in batches)

    run = Locks(1, "locks")
    run.start()
    assert "batch 0 of range cannot be kept: cannot pickle" in str(run.errors[0])


def loader(**options: Any) -> CoordinatedLoader:
    given: dict[str, Any] = {
        "epochs": 1,
        "job": 0,
        "jobs": 2,
        "name": "one",
        "capacity": 1 << 16,
        "deadline": 0.05,
    }
    return CoordinatedLoader("abcd", 2, **{**given, **options})


def test_jobs_that_do_not_come_are_named() -> None:
    with (
        loader(jobs=3) as alone,
        pytest.raises(TimeoutError, match="that have not come: 1, 2; start"),
    ):
        next(iter(alone))


def test_jobs_must_agree_and_have_numbers_of_their_own() -> None:
    with loader():
        with pytest.raises(ValueError, match="job 1 differs from the others of this name: 3 jobs \\(others: 2\\)"):
            loader(job=1, jobs=3)
        with pytest.raises(ValueError, match="4 batches of all epochs \\(others: 2\\)"):
            loader(job=1, epochs=2)
        with pytest.raises(ValueError, match="as a digest of samples, batch and seed"):
            loader(job=1, seed=1)
        with pytest.raises(ValueError, match="job 0 of this name takes part already"):
            loader()


def test_a_loop_after_the_last_epoch_is_an_error() -> None:
    with loader(jobs=1) as alone:
        assert sorted(letter for batch in alone for letter in batch) == list("abcd")
        assert len(alone) == 2
        with pytest.raises(RuntimeError, match="all 1 epochs are over"):
            iter(alone)


def test_an_empty_data_set_has_empty_epochs() -> None:
    with CoordinatedLoader([], 2, epochs=2, job=0, jobs=1, name="empty", capacity=1 << 16) as alone:
        assert [list(alone), list(alone)] == [[], []]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"job": 2}, "job must be in 0 .. 1"),
        ({"jobs": 0}, "jobs must be at least 1"),
        ({"slots": 0}, "slots must be at least 1"),
        ({"capacity": 3}, "capacity must be at least 8"),
        ({"deadline": 0}, "deadline must be above 0"),
        ({"epochs": -1}, "epochs must be at least 0"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        loader(**options)


def test_what_is_no_data_set_and_too_much_memory_are_refused() -> None:
    with pytest.raises(TypeError, match="dataset must have __getitem__ and __len__"):
        CoordinatedLoader(iter("a"), 1, epochs=1, job=0, jobs=1, name="x")  # type: ignore[arg-type]
    with pytest.raises(MemoryError, match="give a smaller capacity"):
        loader(capacity=1 << 60, name="huge")
