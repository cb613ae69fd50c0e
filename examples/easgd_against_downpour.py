"""Compare EASGD with DOWNPOUR when workers communicate seldom, as in arXiv:1412.6651, at small scale.

Handwritten digits, a small multilayer perceptron, 4 and 8 workers in virtual time, so every run is reproducible.
The learning rate is the best for DOWNPOUR at period 1; then the period grows to 64. Momentum 0.9 makes steps ten
times as long, so EAMSGD has a tenth of the rate.

    python examples/easgd_against_downpour.py [--out docs/results]    # about two minutes
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import loosestep as ls
from loosestep.data import Dataset, load, shards
from loosestep.data.models import MLP

WORKERS = (4, 8)
PERIODS = (1, 4, 16, 64)
STEPS = 1024  # of each worker
BATCH = 16
RATES = (0.0125, 0.025, 0.05, 0.1, 0.2, 0.4)
SEEDS = (0, 1, 2)
MODEL = MLP(32)
METHODS: dict[str, tuple[Callable[[int], ls.Strategy], Callable[[float], Any]]] = {
    "Downpour": (ls.Downpour, ls.SGD),
    "EASGD": (ls.EASGD, ls.SGD),
    "EAMSGD": (ls.EASGD, lambda rate: ls.Nesterov(rate / 10, momentum=0.9)),
}

Curve = NDArray[np.float64]  # rows of (step, training loss, test accuracy) of the center
Found = dict[tuple[int, str], dict[int, Curve]]  # by (workers, method), by period


def curve(
    data: Dataset, method: str, workers: int, period: int, rate: float, seed: int, steps: int = STEPS
) -> Curve:
    """Return the curve of one run."""
    strategy, optimizer = METHODS[method]
    classifier = MODEL.build(data.features, data.classes)
    with np.errstate(over="ignore", invalid="ignore"):
        result = ls.run(
            strategy(period),
            lambda x, batch: classifier.gradient(x, batch)[1],  # without the loss: let it diverge
            classifier.init(seed=0),
            shards(data.train, BATCH, steps, seed),
            optimizer=optimizer(rate),
            steps=steps,
            on=ls.Simulated(workers, stragglers=ls.stragglers.LogNormal(0.2)),
            seed=seed,
            evaluate=lambda x: {
                "loss": classifier.evaluate(x, data.train)["loss"],
                "accuracy": classifier.evaluate(x, data.test)["test_accuracy"],
            },
            every=64,
        )
    last = {seen.step: seen.metrics for seen in result.history}
    return np.array([(step, metrics["loss"], metrics["accuracy"]) for step, metrics in last.items()])


def best_rate(data: Dataset, workers: int) -> float:
    """Return the rate with which Downpour at period 1 ends with the smallest training loss."""

    def end(rate: float) -> float:
        loss = curve(data, "Downpour", workers, 1, rate, SEEDS[0])[-1, 1]
        return loss if np.isfinite(loss) else np.inf

    return min(RATES, key=end)


def measure(data: Dataset, rates: dict[int, float]) -> Found:
    """Return the median curve over the seeds (step, loss, accuracy), by (workers, method) and period."""
    found: Found = {}
    for workers, rate in rates.items():
        for method in METHODS:
            curves = found[workers, method] = {}
            for period in PERIODS:
                runs = [curve(data, method, workers, period, rate, seed) for seed in SEEDS]
                curves[period] = np.median(runs, axis=0)
            ends = ", ".join(f"{period}: {path[-1, 1]:.3g}" for period, path in curves.items())
            print(f"{workers} workers, rate {rate}, {method}: loss by period {ends}", flush=True)
    return found


def table(found: Found) -> str:
    """Return a Markdown table of test accuracy and training loss by period."""
    periods = " | ".join(f"period {period}" for period in PERIODS)
    lines = [f"| workers | method | {periods} |", "|---|---|" + "---|" * len(PERIODS)]
    for (workers, method), curves in found.items():
        ends = (f"{path[-1, 2]:.3f} ({path[-1, 1]:.2g})" for path in curves.values())
        lines.append(f"| {workers} | {method} | {' | '.join(ends)} |")
    return "\n".join(lines)


LAYOUT: dict[str, Any] = {"sharex": True, "sharey": True, "layout": "constrained"}


def plot(found: Found, file: Path) -> None:
    """Draw a row for each number of workers, a panel for each method, a line for each period."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(WORKERS), len(METHODS), figsize=(9, 5.2), **LAYOUT)
    colors = mpl.colormaps["viridis"](np.linspace(0.85, 0.1, len(PERIODS)))
    for (workers, method), curves, panel in zip(found, found.values(), axes.flat, strict=True):
        for (period, path), color in zip(curves.items(), colors, strict=True):
            panel.plot(path[:, 0], path[:, 1], color=color, label=f"period {period}", linewidth=1.6)
        panel.set_title(f"{method}, {workers} workers", fontsize=10)
        panel.set_yscale("log")
        panel.axhline(np.log(10), color="gray", linestyle=":", linewidth=1, label="untrained")
        panel.set(ylim=(1e-3, 60), xlim=(0, STEPS), xticks=range(0, STEPS + 1, STEPS // 4))
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("steps of each worker", fontsize=10)
    figure.supylabel("training loss of the center", fontsize=10)
    lines = axes.flat[0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside upper center", ncols=len(PERIODS) + 1, frameon=False)
    figure.savefig(file, dpi=120)


REPORT = """# EASGD against DOWNPOUR

Digits, {model}, batches of {batch}, {steps} steps of each worker, in virtual time with log-normal step durations
(sigma 0.2). At every period Downpour and EASGD have the learning rate, of {grid},
with which Downpour at period 1 reaches the smallest training loss: {chosen}.
EAMSGD is EASGD with Nesterov momentum 0.9, which makes steps ten times as long, and a tenth of that rate.
Test accuracy of the center and, in brackets, its training loss; medians of {seeds} seeds. Untrained, the accuracy
is about 0.1 and the loss 2.3.

{table}

Downpour sums the steps of all workers: at period 1 that takes it further than EASGD in as many steps; at
periods 16 and 64 it does not learn at this rate. EASGD hardly notices the period.

The same on Fashion-MNIST, with spread and every run: [EASGD and EAMSGD against DOWNPOUR](easgd.md).

![training loss by steps]({name}.png)

Made by `python examples/easgd_against_downpour.py --out docs/results`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the table and the plot to this folder")
    out = parser.parse_args().out
    data = load("digits")
    rates = {workers: best_rate(data, workers) for workers in WORKERS}
    found = measure(data, rates)
    print(table(found))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        name = Path(__file__).stem
        plot(found, out / f"{name}.png")
        facts = {"model": MODEL, "batch": BATCH, "steps": STEPS, "seeds": len(SEEDS), "name": name}
        chosen = " and ".join(f"{rate:g} with {workers} workers" for workers, rate in rates.items())
        grid = ", ".join(f"{rate:g}" for rate in RATES)
        text = REPORT.format(**facts, grid=grid, chosen=chosen, table=table(found))
        (out / f"{name}.md").write_text(text)


if __name__ == "__main__":
    main()
