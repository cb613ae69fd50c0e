"""What the stall tool finds in loops whose times are known, and what a sample of a cache costs.

    python -m bench.stalls [--batches 50] [--scale 1] [--only recovery|cache]

The first table sleeps: a step, preparing and (only where data is cold) fetching take given times, in a loader that
does one after the other, in one whose threads work ahead, and in torch's DataLoader with two processes, if torch
is here. It prints what `loosestep.data.stalls` finds over what was put in. The second table reads samples from a
MinIOCache, and from files in the page cache.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np

from loosestep.data import MinIOCache, stalls

ROWS = 16
TIMES = [(0.02, 0.03, 0.04), (0.04, 0.02, 0.03), (0.03, 0.04, 0.02)]  # compute, prep, fetch of a batch, in seconds
END = object()


class Disk:
    """Where data is cold or cached, known to all processes by a file."""

    def __init__(self, folder: Path) -> None:
        self.mark = folder / "cold"

    def drop(self) -> None:
        self.mark.touch()

    def fill(self) -> None:
        self.mark.unlink(missing_ok=True)

    def seconds(self, fetch: float, prep: float) -> float:
        return prep + (fetch if self.mark.exists() else 0.0)


def serial(disk: Disk, prep: float, fetch: float) -> Callable[[], Iterator[Any]]:
    """A loader that fetches and prepares when it is asked."""

    def opened() -> Iterator[Any]:
        while True:
            time.sleep(disk.seconds(fetch, prep))
            yield [0] * ROWS

    return opened


def ahead(disk: Disk, prep: float, fetch: float) -> Callable[[], Iterator[Any]]:
    """A loader whose thread fetches and prepares up to four batches ahead."""

    def opened() -> Iterator[Any]:
        queue: Queue[Any] = Queue(4)
        ended = threading.Event()

        def work() -> None:
            while not ended.is_set():
                time.sleep(disk.seconds(fetch, prep))
                queue.put([0] * ROWS)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            while True:
                yield queue.get()
        finally:
            ended.set()
            while thread.is_alive():
                while not queue.empty():
                    queue.get()
                thread.join(0.001)

    return opened


def staged(disk: Disk, prep: float, fetch: float) -> Callable[[], Iterator[Any]]:
    """A loader with a thread that fetches and one that prepares."""

    def opened() -> Iterator[Any]:
        fetched, ready = Queue[Any](2), Queue[Any](2)
        ended = threading.Event()

        def work(take: Queue[Any] | None, put: Queue[Any], seconds: Callable[[], float]) -> None:
            while not ended.is_set():
                if take is not None:
                    take.get()
                time.sleep(seconds())
                put.put([0] * ROWS)

        stages = [(None, fetched, lambda: disk.seconds(fetch, 0.0)), (fetched, ready, lambda: prep)]
        for stage in stages:
            threading.Thread(target=work, args=stage, daemon=True).start()
        try:
            while True:
                yield ready.get()
        finally:
            ended.set()
            for queue in (fetched, ready):
                while not queue.empty():
                    queue.get()
                queue.put([0] * ROWS)  # who waits for it looks whether it has ended

    return opened


class Sleeping:
    """A map-style data set of torch's DataLoader: a sample takes its part of a batch's time, times the workers."""

    def __init__(self, disk: Disk, prep: float, fetch: float, workers: int, count: int) -> None:
        self.disk, self.prep, self.fetch, self.workers, self.count = disk, prep, fetch, workers, count

    def __len__(self) -> int:
        return self.count * ROWS

    def __getitem__(self, number: int) -> int:
        if number % ROWS == 0:
            time.sleep(self.workers * self.disk.seconds(self.fetch, self.prep))
        return number


def with_workers(disk: Disk, prep: float, fetch: float, batches: int) -> Any:
    """A DataLoader with two processes."""
    from torch.utils.data import DataLoader

    return DataLoader(Sleeping(disk, prep, fetch, 2, batches + 40), batch_size=ROWS, num_workers=2)  # type: ignore[arg-type]


def recovery(batches: int, scale: float) -> None:
    """Print what is found over what was put in, all times multiplied by `scale`."""
    kinds: dict[str, Any] = {"serial": serial, "prefetch": ahead, "staged": staged}
    try:
        import torch  # noqa: F401
    except ImportError:
        print("torch is not here: no DataLoader")
    else:
        kinds["DataLoader, 2 workers"] = lambda *times: with_workers(*times, batches)
    print(f"{'loader':24}{'compute, prep, fetch':>24}{'found / put in':>26}{'cold step / model':>20}")
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for name, make in kinds.items():
            for times in TIMES:
                compute, prep, fetch = (scale * seconds for seconds in times)
                disk = Disk(Path(folder))
                disk.fill()
                options: dict[str, Any] = {"pipeline": "staged"} if name == "staged" else {}
                found = stalls.measure(
                    make(disk, prep, fetch), lambda batch, seconds=compute: time.sleep(seconds),
                    batches=batches, cold=disk.drop, cached=disk.fill, **options,
                )  # fmt: skip
                hidden = found.fetch is None and name == "staged" and fetch < prep
                parts = [
                    found.compute / compute,
                    found.prep / prep,
                    1.0 if hidden else (found.fetch or 0.0) / fetch,
                ]
                assert found.cold is not None
                predicted = (
                    ROWS
                    / stalls.Rates(ROWS / compute, ROWS / prep, ROWS / fetch, pipeline=found.pipeline).throughput()
                )
                worst = max(worst, *(abs(part - 1) for part in parts))
                given = f"{1000 * compute:.0f}, {1000 * prep:.0f}, {1000 * fetch:.0f} ms"
                shown = ", ".join(f"{part:.3f}" for part in parts[: 2 if hidden else 3]) + ", hidden" * hidden
                print(f"{name:24}{given:>24}{shown:>26}{found.cold.each / predicted:>20.3f}", flush=True)
    print(f"worst: {100 * worst:.1f}%; load of the machine: {os.getloadavg()[0]:.1f}")


class Files:
    """Samples in files of one size."""

    def __init__(self, folder: str, size: int, count: int = 32) -> None:
        self.files = [Path(folder, f"{size}-{number}") for number in range(count)]
        for file in self.files:
            file.write_bytes(os.urandom(size))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> Any:
        return np.frombuffer(self.files[number].read_bytes(), np.uint8)


def cache(rounds: int = 15) -> None:
    """Print the microseconds of a sample: from the cache, and from a file in the page cache."""
    print(f"{'sample':>12}{'from MinIOCache':>20}{'from a cached file':>22}")
    with tempfile.TemporaryDirectory() as folder:
        for size in (1_000, 100_000, 1_000_000):
            files = Files(folder, size)
            sources = {"cache": MinIOCache(files, 2 * size * len(files) + 10_000), "files": files}
            times: dict[str, list[float]] = {name: [] for name in sources}
            for number in range(len(files)):
                assert (sources["cache"][number] == files[number]).all()
            for _ in range(rounds):
                for name, source in sources.items():
                    began = time.perf_counter()
                    for number in range(len(files)):
                        source[number]
                    times[name].append((time.perf_counter() - began) / len(files))
            shown = [f"{1e6 * statistics.median(each):.1f} us" for each in times.values()]
            print(f"{size:>12}{shown[0]:>20}{shown[1]:>22}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.stalls", description=__doc__)
    parser.add_argument("--batches", type=int, default=50)
    parser.add_argument("--scale", type=float, default=1.0, help="more, where the machine is busy")
    parser.add_argument("--only", choices=["recovery", "cache"])
    given = parser.parse_args()
    if given.only != "cache":
        recovery(given.batches, given.scale)
    if given.only != "recovery":
        cache()


if __name__ == "__main__":
    main()
