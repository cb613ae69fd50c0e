"""EASGD against DOWNPOUR when workers communicate seldom, as in arXiv:1412.6651, at toy scale.

Handwritten digits, a small multilayer perceptron, 4 and 8 workers in virtual time, so every run is reproducible.
All methods have the learning rate that is best for DOWNPOUR at period 1; then the period grows to 64.

    pip install 'loosestep[demo]'
    python examples/easgd_against_downpour.py [--out docs/results]    # about two minutes
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

import loosestep as ls

Array = NDArray[np.float32]

PIXELS, HIDDEN, CLASSES, BATCH = 64, 32, 10, 16
WORKERS = (4, 8)
PERIODS = (1, 4, 16, 64)
STEPS = 1024  # of each worker
RATES = (0.0125, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8)
SEEDS = (0, 1, 2)
METHODS = {
    "Downpour": (ls.Downpour, ls.SGD),
    "EASGD": (ls.EASGD, ls.SGD),
    "EAMSGD": (ls.EASGD, ls.Nesterov),
}


class Digits:
    """The data, and a perceptron with one hidden layer as a flat vector of parameters."""

    def __init__(self) -> None:
        images, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(labels))
        images, labels = (images[order] / 16).astype(np.float32), labels[order]
        self.images, self.labels = images[360:], labels[360:]
        self.test_images, self.test_labels = images[:360], labels[:360]

    def start(self) -> Array:
        rng = np.random.default_rng(1)
        first = rng.normal(0, PIXELS**-0.5, (PIXELS, HIDDEN))
        second = rng.normal(0, HIDDEN**-0.5, (HIDDEN, CLASSES))
        parts = (first.ravel(), np.zeros(HIDDEN), second.ravel(), np.zeros(CLASSES))
        return np.concatenate(parts).astype(np.float32)

    def batches(self, seed: int) -> ls.adapters.numpy.Batches:
        """Every worker draws from all the data, in an order of its own."""

        def draw(rank: int, size: int) -> Iterator[tuple[Array, NDArray[np.int64]]]:
            rng = np.random.default_rng((seed, rank))
            while True:
                rows = rng.integers(len(self.labels), size=BATCH)
                yield self.images[rows], self.labels[rows]

        return draw

    def loss(self, x: Array) -> float:
        """Cross-entropy on all the training data."""
        _, scores = forward(x, self.images)
        picked = scores[np.arange(len(scores)), self.labels]
        return float(np.mean(np.log(np.exp(scores).sum(axis=1)) - picked))

    def accuracy(self, x: Array) -> float:
        """Of the test data."""
        return float(np.mean(forward(x, self.test_images)[1].argmax(axis=1) == self.test_labels))


def layers(x: Array) -> tuple[Array, Array, Array, Array]:
    """Views of the two matrices and two biases."""
    cuts = np.cumsum([PIXELS * HIDDEN, HIDDEN, HIDDEN * CLASSES])
    first, bias, second, last = np.split(x, cuts)
    return first.reshape(PIXELS, HIDDEN), bias, second.reshape(HIDDEN, CLASSES), last


def forward(x: Array, images: Array) -> tuple[Array, Array]:
    """The hidden layer, and the scores less their largest."""
    first, bias, second, last = layers(x)
    hidden = np.maximum(images @ first + bias, 0)
    scores = hidden @ second + last
    return hidden, scores - scores.max(axis=1, keepdims=True)


def gradient(x: Array, batch: tuple[Array, NDArray[np.int64]]) -> Array:
    """Of the mean cross-entropy of a batch."""
    images, labels = batch
    hidden, scores = forward(x, images)
    error = np.exp(scores)
    error /= error.sum(axis=1, keepdims=True)
    error[np.arange(len(labels)), labels] -= 1
    error /= len(labels)
    back = (error @ layers(x)[2].T) * (hidden > 0)
    return np.concatenate(
        [(images.T @ back).ravel(), back.sum(axis=0), (hidden.T @ error).ravel(), error.sum(axis=0)]
    )


def curve(
    data: Digits, method: str, workers: int, period: int, rate: float, seed: int, steps: int = STEPS
) -> list[tuple[int, float, float]]:
    """(step, training loss, test accuracy) of the center as training goes on."""
    strategy, optimizer = METHODS[method]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        result = ls.run(
            strategy(period),
            gradient,
            data.start(),
            data.batches(seed),
            optimizer=optimizer(rate),
            steps=steps,
            on=ls.Simulated(workers, stragglers=ls.LogNormal(0.2)),
            seed=seed,
            evaluate=lambda x: {"loss": data.loss(x), "accuracy": data.accuracy(x)},
            every=64,
        )
    last = {seen.step: seen.metrics for seen in result.history}
    return [(step, metrics["loss"], metrics["accuracy"]) for step, metrics in last.items()]


def best_rate(data: Digits, workers: int) -> float:
    """Of the grid, the one with which Downpour at period 1 ends with the smallest training loss."""

    def end(rate: float) -> float:
        loss = curve(data, "Downpour", workers, 1, rate, SEEDS[0])[-1][1]
        return loss if np.isfinite(loss) else np.inf

    return min(RATES, key=end)


Found = dict[tuple[int, str], dict[int, Array]]


def measure(data: Digits, rates: dict[int, float]) -> Found:
    """By (workers, method) and period: the median curve over the seeds (step, loss, accuracy)."""
    found: Found = {}
    for workers, rate in rates.items():
        for method in METHODS:
            curves = found[workers, method] = {}
            for period in PERIODS:
                runs = [curve(data, method, workers, period, rate, seed) for seed in SEEDS]
                curves[period] = np.median(np.array(runs), axis=0)
            ends = ", ".join(f"{period}: {path[-1, 1]:.3g}" for period, path in curves.items())
            print(f"{workers} workers, rate {rate}, {method}: loss by period {ends}", flush=True)
    return found


def table(found: Found, rates: dict[int, float]) -> str:
    """Markdown: test accuracy and training loss by period."""
    periods = " | ".join(f"period {period}" for period in PERIODS)
    lines = [f"| workers | method | rate | {periods} |", "|---|---|---|" + "---|" * len(PERIODS)]
    for (workers, method), curves in found.items():
        ends = (f"{path[-1, 2]:.3f} ({path[-1, 1]:.2g})" for path in curves.values())
        lines.append(f"| {workers} | {method} | {rates[workers]:g} | {' | '.join(ends)} |")
    return "\n".join(lines)


LAYOUT = {"sharex": True, "sharey": True, "layout": "constrained"}


def plot(found: Found, rates: dict[int, float], file: Path) -> None:
    """A row for each number of workers, a panel for each method, a line for each period."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(WORKERS), len(METHODS), figsize=(9, 5.2), **LAYOUT)
    colors = mpl.colormaps["viridis"](np.linspace(0.85, 0.1, len(PERIODS)))
    for (workers, method), curves, panel in zip(found, found.values(), axes.flat, strict=True):
        for (period, path), color in zip(curves.items(), colors, strict=True):
            panel.plot(path[:, 0], path[:, 1], color=color, label=f"period {period}", linewidth=1.6)
        panel.set_title(f"{method}, {workers} workers, rate {rates[workers]:g}", fontsize=10)
        panel.set_yscale("log")
        panel.axhline(np.log(CLASSES), color="gray", linestyle=":", linewidth=1, label="untrained")
        panel.set(ylim=(1e-3, 60), xlim=(0, STEPS), xticks=range(0, STEPS + 1, STEPS // 4))
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("steps of each worker", fontsize=10)
    figure.supylabel("training loss of the center", fontsize=10)
    lines = axes.flat[0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside upper center", ncols=len(PERIODS) + 1, frameon=False)
    figure.savefig(file, dpi=120)


REPORT = """# EASGD against DOWNPOUR

Digits, a {pixels}-{hidden}-{classes} perceptron, batches of {batch}, {steps} steps of each worker, in virtual
time with log-normal step durations (sigma 0.2). All methods and periods have the learning rate with which
Downpour at period 1 reaches the smallest training loss (of {grid}).
EAMSGD is EASGD with Nesterov momentum 0.9. Test accuracy of the center and, in brackets, its training loss;
medians of {seeds} seeds. Untrained, the accuracy is about 0.1 and the loss 2.3.

{table}

Downpour sums the steps of all workers: at period 1 that takes it further than EASGD in as many steps; at
periods 16 and 64 it does not learn at this rate. EASGD hardly notices the period.

![training loss by steps]({name}.png)

Made by `python examples/easgd_against_downpour.py --out docs/results`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the table and the plot to this folder")
    out = parser.parse_args().out
    data = Digits()
    rates = {workers: best_rate(data, workers) for workers in WORKERS}
    found = measure(data, rates)
    print(table(found, rates))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        name = Path(__file__).stem
        plot(found, rates, out / f"{name}.png")
        facts = {"pixels": PIXELS, "hidden": HIDDEN, "classes": CLASSES, "batch": BATCH, "steps": STEPS}
        grid = ", ".join(f"{rate:g}" for rate in RATES)
        text = REPORT.format(**facts, grid=grid, seeds=len(SEEDS), table=table(found, rates), name=name)
        (out / f"{name}.md").write_text(text)


if __name__ == "__main__":
    main()
