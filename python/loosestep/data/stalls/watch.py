"""A loader that measures the loop over it: it hands out batches in runs, with data at hand, cached and cold."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from loosestep.data.stalls.page_cache import PageCache
from loosestep.data.stalls.rates import PIPELINES, Pipeline
from loosestep.data.stalls.replay import Replay
from loosestep.data.stalls.report import Report, found_pipeline
from loosestep.data.stalls.run import Blocks, Run
from loosestep.data.stalls.source import Loader, Source, samples_of, synchronize
from loosestep.foundation import checks

END = object()
WARMUP = 5
Files = str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | Callable[[], Iterable[str]]


class Watch:
    """Measure where a loop waits for its data; `watch` and `measure` are the ways to make one.

    Iterating over it hands out the loader's batches, as follows; times are taken from one batch to the next.

        a rehearsal: the loader alone, untimed, which shows what there is and brings it into memory
        synthetic:   one batch, again and again
        cached:      the loader alone, then the loop
        cold:        the loader alone, then the loop, each after `cold()`

    Each begins with `warmup` batches that are not timed and draws the same samples in the same order, since random
    states are put back.
    """

    def __init__(
        self,
        loader: Loader | Source,
        *,
        batches: int = 50,
        warmup: int | None = None,
        files: Files = (),
        cold: Callable[[], object] | None = None,
        cached: Callable[[], object] | None = None,
        samples: Callable[[Any], int] = samples_of,
        pipeline: Pipeline | None = None,
        sync: Callable[[], object] = synchronize,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.source = loader if isinstance(loader, Source) else Source(loader)
        self.batches = checks.integer("batches", batches)
        self.warmup = max(WARMUP, self.source.ahead) if warmup is None else checks.integer("warmup", warmup, 0)
        if pipeline is not None:
            checks.one_of("pipeline", pipeline, PIPELINES)
        for name, given in {"cold": cold, "cached": cached}.items():
            if given is not None:
                checks.callable_(name, given)
        if cached is not None and cold is None:
            raise ValueError("cached= brings back what cold= drops: give both, or files=")
        checks.callable_("samples", samples, " of a batch")
        self.files, self.cold, self.cached = files, cold, cached
        self.samples, self.pipeline, self.sync, self.clock = samples, pipeline, sync, clock
        self.pages: PageCache | None = None
        if not callable(files):
            self._find(files)
        self.runs: dict[str, Run] = {}
        self.notes: list[str] = []
        self.during = "the rehearsal"
        self._left = False  # whether the loop was left, and entered again, since the last batch
        self._batches = self._play()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None:
            error.add_note(f"while loosestep.data.stalls measured: {self.during}")
        self._batches.close()

    def __iter__(self) -> Iterator[Any]:
        """Go on handing out batches; a loop that was left may be entered again."""
        self._left = True
        return _Handle(self._batches)

    @property
    def done(self) -> bool:
        """Whether all runs have been made."""
        return "cached" in self.runs and ((self.pages is None and self.cold is None) or "cold" in self.runs)

    @property
    def report(self) -> Report:
        """What was found. Raises RuntimeError if the loop ended before all runs were made."""
        if not self.done:
            raise RuntimeError(f"the loop was left during {self.during}: iterate to the end of what is watched")
        runs = self.runs
        synthetic, cached, alone = runs["synthetic"], runs["cached"], runs["loader_cached"]
        workers = self.source.workers
        pipeline = self.pipeline or found_pipeline(synthetic.each, alone.each, cached.each, workers)
        return Report(
            synthetic=synthetic, cached=cached, cold=runs.get("cold"),
            loader_cached=alone, loader_cold=runs.get("loader_cold"),
            samples=self.rows, pipeline=pipeline, workers=max(1, workers or 1),
            files=len(self.pages.files) if self.pages else 0, bytes=self.pages.bytes if self.pages else 0,
            notes=tuple(dict.fromkeys(self.notes)),
        )  # fmt: skip

    def _play(self) -> Generator[Any, None, None]:
        """Yield the batches of all runs that the loop sees."""
        replay = Replay(self.source.loader)
        kept = self._rehearse()
        self._find(self.files() if callable(self.files) else ())
        if self.pages is None and self.cold is None:
            self.notes.append(
                "Nothing was read cold, so fetching is not measured: say which files or folders the data is read "
                "from, or give cold=, a function that makes it cold."
            )
        for name, state in self._plan():
            self.during = f"the run {name}"
            state()
            replay.restore()
            source = iter(lambda: kept, END) if name == "synthetic" else self.source.open()
            if name.startswith("loader"):
                self.runs[name] = self._alone(source)
            else:
                yield from self._whole(name, source)
            del source
        self.during = "the end"

    def _plan(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """Yield the runs, with what brings the data into their state."""
        yield "synthetic", lambda: None
        yield "loader_cached", self._make_cached
        yield "cached", self._make_cached
        if self.pages is not None or self.cold is not None:
            yield "loader_cold", self._make_cold
            yield "cold", self._make_cold

    def _rehearse(self) -> Any:
        """Find out how many batches there are, and their rows; return the first."""
        kept, count, rows = END, 0, 0
        for batch in self.source.open():
            kept = batch if kept is END else kept
            count += 1
            if count > self.warmup:
                rows += self.samples(batch)
            if count == self.warmup + self.batches:
                break
        if kept is END:
            raise ValueError("the loader is empty: there is nothing to measure")
        if count <= self.warmup:
            raise ValueError(
                f"the loader ended after {count} batches, of which warmup={self.warmup} are not timed: give a "
                "smaller warmup or a loader with more batches"
            )
        self.batches = count - self.warmup
        self.rows = rows / self.batches
        gc.collect()  # an unfinished iterator's workers would go on preparing
        return kept

    def _alone(self, source: Iterator[Any]) -> Run:
        """Return the run of the loader alone."""
        for _ in range(self.warmup):
            self._next(source)
        blocks = Blocks(self.batches, max(1, self.source.workers or 1))
        got = self.clock()
        for number in range(self.batches):
            began = got
            self._next(source)
            got = self.clock()
            blocks.add(number, got - began, got - began)
        found = blocks.run()
        assert found is not None
        return found

    def _whole(self, name: str, source: Iterator[Any]) -> Iterator[Any]:
        """Yield the batches of a run to the loop; a step during which it was left and entered is not counted."""
        for _ in range(self.warmup):
            yield self._next(source)
        blocks = Blocks(self.batches, max(1, self.source.workers or 1))
        self.sync()
        for number in range(self.batches):
            began = self.clock()
            batch = self._next(source)
            got = self.clock()
            self._left = False
            yield batch
            if blocks.is_end(number):
                self.sync()
            if not self._left:
                blocks.add(number, self.clock() - began, got - began)
        found = blocks.run()
        if found is None:
            raise RuntimeError(f"the loop was left after every batch of the run {name}: nothing could be timed")
        self.runs[name] = found

    def _next(self, source: Iterator[Any]) -> Any:
        batch = next(source, END)
        if batch is END:
            raise RuntimeError(
                f"the loader gave fewer batches than in the rehearsal ({self.warmup + self.batches}), in "
                f"{self.during}: it must give as many each time"
            )
        return batch

    def _find(self, files: Files) -> None:
        """Look up the files that are to be dropped, if there are any."""
        given = [files] if isinstance(files, (str, os.PathLike)) else list(files)  # type: ignore[arg-type]
        if given:
            self.pages = PageCache(given)

    def _make_cold(self) -> None:
        if self.pages is not None:
            self.pages.drop()
            complaint = self.pages.complaint()
            self.notes += [complaint] if complaint else []
        if self.cold is not None:
            self.cold()

    def _make_cached(self) -> None:
        if self.pages is not None:
            self.pages.fill()
        if self.cached is not None:
            self.cached()


class _Handle:
    """An iterator whose end does not close what it hands out."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> _Handle:
        return self

    def __next__(self) -> Any:
        return next(self.batches)


def watch(loader: Loader, **options: Any) -> Watch:
    """Return a context manager over whose batches a loop is measured.

    loader: what is iterated: a `torch.utils.data.DataLoader`, a list, any iterable that can be iterated several
        times; or a function that returns a new iterator.
    batches, warmup: how many are timed in a run (fewer if the loader has fewer), after how many that are not; by
        default 5, or as many as the loader's workers prefetch, if those are more.
    files: what the loader reads: paths of files and folders. They are dropped from the page cache before the cold
        runs and read before the cached ones. Or cold, cached: functions that bring the data into either state.
    samples: a function of a batch, its rows; by default the length of its first array or tensor.
    pipeline: "serial", "prefetch" or "staged", how loader and step overlap (`Rates`); by default as the loader's
        `num_workers` says, or as its times show, which cannot tell "staged".
    sync: called after every block of batches, before the clock is read; by default it waits for what torch has
        queued on GPUs. What a batch takes is the median over ten blocks, so a pause of the machine counts little.

    The loop is as long as the measurement, five runs of warmup + batches, of which it sees three. It trains on
    the same batches again and again, so its model is of no use afterwards.

    Raises ValueError where the loader is empty or shorter than the warm-up, TypeError for an iterator, and
    whatever the loop or the loader raises.

    >>> from loosestep.data import stalls
    >>> with stalls.watch([[0.0] * 32] * 20, batches=10) as batches:
    ...     for batch in batches:
    ...         loss = sum(batch)
    >>> batches.report.samples, batches.report.fetch
    (32.0, None)
    """
    return Watch(loader, **options)


def measure(loader: Loader, step: Callable[[Any], object], **options: Any) -> Report:
    """Return where a loop that calls `step` with every batch of the loader waits; options are those of `watch`.

    >>> from loosestep.data import stalls
    >>> stalls.measure([[0.0] * 32] * 20, sum, batches=10).cached.count
    10
    """
    checks.callable_("step", step, " of a batch")
    with Watch(loader, **options) as batches:
        for batch in batches:
            step(batch)
    return batches.report
