"""How far predictions are from runs, on the links that a job has: measure in the job, then compare.

`mpiexec -n 4 ... python -m bench.predictions measure FILE.json`, with one process on each host, probes the cluster
and runs five methods with messages of 1 KiB, 1 MiB and 8 MiB. Steps sleep for 20 ms, so that two cores suffice
for hosts that are network namespaces. `python -m bench.predictions compare FILES... --out docs/results` predicts
each run on the cluster that the probe describes, and writes a table and a plot.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

import loosestep as ls
from loosestep.foundation import units

PAUSE = 0.02  # seconds of a step
METHODS: dict[str, ls.Strategy] = {
    "AllReduceSGD": ls.AllReduceSGD(),
    "LocalSGD": ls.LocalSGD(5),
    "EASGD": ls.EASGD(5),
    "CDSGD": ls.CDSGD(topology=ls.Ring()),
    "StreamingDiLoCo": ls.StreamingDiLoCo(period=5, fragments=2, delay=2),
}
SIZES = (1 << 10, 1 << 20, 8 << 20)
LENGTH, REPEATS = 1.5, 3  # seconds of a run, about, and how many of each are made, in alternating order
LONG = 6.0  # seconds of a run, of which one fewer is made
MOST = 2.5  # seconds of a step, beyond which a configuration is left out


@dataclass(frozen=True)
class Row:
    """One run: `seconds` of so many steps."""

    method: str
    nbytes: int
    steps: int
    seconds: float

    def is_of(self, method: str, nbytes: int) -> bool:
        return (self.method, self.nbytes) == (method, nbytes)


def measure(file: str, seconds: float, label: str) -> None:
    """Probe the cluster of this job and run all methods on it; rank 0 writes the file."""
    on = ls.MPI()
    found = ls.probe(on, seconds=seconds)
    cluster = ls.Simulated.like(found)
    rows: list[Row] = []
    for nbytes in SIZES:
        plan = {}
        for name, strategy in METHODS.items():
            step = ls.predict(strategy, nbytes // 4, cluster, steps=10).step_seconds
            if step < MOST:
                plan[name] = int(min(60, max(10, 10 * round(LENGTH / step / 10))))  # whole periods of all
        if plan:
            run(on, "AllReduceSGD", nbytes, 4)  # connections at their speed
        for repeat in range(REPEATS):
            for name, steps in list(plan.items())[:: -1 if repeat % 2 else 1]:
                if repeat == REPEATS - 1 and any(row.seconds > LONG for row in rows if row.is_of(name, nbytes)):
                    continue
                rows.append(Row(name, nbytes, steps, run(on, name, nbytes, steps)))
                if on.rank == 0:
                    print(label, *asdict(rows[-1]).values(), flush=True)
    if on.rank == 0:
        content = {"label": label, "probe": json.loads(found.text()), "rows": [asdict(row) for row in rows]}
        Path(file).write_text(json.dumps(content) + "\n")


def run(on: ls.Transport, name: str, nbytes: int, steps: int) -> float:
    """Return the seconds of a run, of which a step sleeps."""
    nothing = np.zeros(nbytes // 4, np.float32)

    def gradient(x: Any, batch: Any) -> Any:
        time.sleep(PAUSE)
        return nothing

    def batches(rank: int, size: int) -> Iterator[int]:
        yield from range(steps)

    return ls.run(METHODS[name], gradient, nothing, batches, optimizer=ls.SGD(0.1), on=on).seconds


@dataclass(frozen=True)
class Compared:
    """One configuration: seconds of a step, as measured (the median, least and most of several) and predicted."""

    label: str
    n: int
    method: str
    nbytes: int
    real: float
    least: float
    most: float
    predicted: float

    @property
    def error(self) -> float:
        return self.predicted / self.real - 1


def compared(file: str) -> list[Compared]:
    """Return all configurations of a file."""
    content = json.loads(Path(file).read_text())
    probe = ls.Probe.of(content["probe"])
    cluster = ls.Simulated.like(probe)
    groups: dict[tuple[str, int, int], list[float]] = {}
    for row in content["rows"]:
        groups.setdefault((row["method"], row["nbytes"], row["steps"]), []).append(row["seconds"] / row["steps"])
    found = []
    for (method, nbytes, steps), times in groups.items():
        draws = [ls.predict(METHODS[method], nbytes // 4, cluster, steps=steps, seed=seed) for seed in range(3)]
        predicted = fmean(draw.settled / steps for draw in draws)
        found.append(
            Compared(content["label"], probe.n, method, nbytes, median(times), min(times), max(times), predicted)
        )
    return found


def kendall(rows: list[Compared]) -> float:
    """Return Kendall's tau between measured and predicted seconds of a step."""
    pairs = [
        np.sign(one.real - other.real) * np.sign(one.predicted - other.predicted)
        for place, one in enumerate(rows)
        for other in rows[:place]
    ]
    return float(np.mean(pairs))


def compare(files: list[str], out: str | None) -> None:
    """Print the table, and write it and the plot where that is asked for."""
    rows = [row for file in files for row in compared(file)]
    errors = np.array([abs(row.error) for row in rows])
    lines = [
        f"{len(rows)} configurations: median error {100 * np.median(errors):.1f}%, "
        f"95th percentile {100 * np.quantile(errors, 0.95):.1f}%, largest {100 * errors.max():.1f}%, "
        f"Kendall's tau {kendall(rows):.3f}",
        "",
        "| hosts, links | message | method | measured ms a step (least-most) | predicted | error |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.label} | {units.size(row.nbytes)} | {row.method} | {1e3 * row.real:.4g} "
        f"({1e3 * row.least:.4g}-{1e3 * row.most:.4g}) | {1e3 * row.predicted:.4g} | {100 * row.error:+.1f}% |"
        for row in rows
    ]
    print("\n".join(lines))
    if out is not None:
        Path(out, "predictions_table.md").write_text("\n".join(lines) + "\n")
        plot(rows, Path(out, "predictions.png"))


def plot(rows: list[Compared], file: Path) -> None:
    """Draw predicted against measured seconds of a step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    ends = [0.9e3 * min(row.real for row in rows), 1.1e3 * max(row.real for row in rows)]
    axes.plot(ends, ends, color="black", linewidth=1)
    axes.fill_between(ends, [0.85 * end for end in ends], [1.15 * end for end in ends], color="0.9")
    for method in METHODS:
        mine = [row for row in rows if row.method == method]
        bars = np.array([[row.real - row.least for row in mine], [row.most - row.real for row in mine]]) * 1e3
        axes.errorbar([1e3 * row.real for row in mine], [1e3 * row.predicted for row in mine], xerr=bars,
                      fmt="o", markersize=4, linewidth=1, label=method)  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="measured ms a step (median, least and most of 3 runs)",
             ylabel="predicted ms a step", title="Predicted against measured; grey: within 15%")  # fmt: skip
    axes.legend()
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.predictions", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("measure")
    first.add_argument("file")
    first.add_argument("--seconds", type=float, default=30.0)
    first.add_argument("--label", default="")
    second = commands.add_parser("compare")
    second.add_argument("files", nargs="+")
    second.add_argument("--out")
    given = parser.parse_args()
    if given.command == "measure":
        measure(given.file, given.seconds, given.label)
    else:
        compare(given.files, given.out)


if __name__ == "__main__":
    main()
