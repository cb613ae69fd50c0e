"""What an embedding's gradient costs as rows and whole: `python -m bench.sparse.embeddings [--out docs/results]`.

Each worker reads a batch of words, drawn by Zipf's law (exponent 1.1) from a table of 20,000 rows of 64 float32,
in the library's own loop on the simulator (1 Gbit/s, 50 us a message, 5 ms a step). Bytes are metered and exact;
times are virtual. "Not merged" is what gathering every word's row and an 8-byte number would send, by formula.
Results of both ways are compared to the last bit.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

import loosestep as ls
from loosestep.requests.row_gradients import RowTensor

ROWS, WIDTH, EXPONENT, STEPS = 20_000, 64, 1.1, 2
WORKERS, WORDS, SEEDS = (2, 8, 16), (64, 1024, 16_384), (0, 1, 2)
HEAD = """\
| workers | words a batch | longest list | form | sent | whole | not merged | times fewer | s | s, whole |
|---|---|---|---|---|---|---|---|---|---|"""


class Cell(NamedTuple):
    """One setting: means over seeds, of a worker and a step."""

    workers: int
    words: int
    longest: float
    sparse: float  # bytes
    whole: float
    seconds: tuple[float, float]

    def line(self) -> str:
        unmerged = (self.workers - 1) * self.words * (4 * WIDTH + 8)
        form = RowTensor(0, ROWS * WIDTH, (ROWS, WIDTH)).form(self.workers, round(self.longest), 4, owners=True)
        return (
            f"| {self.workers} | {self.words:,} | {self.longest:,.0f} | {form.value} | {self.sparse / 1e6:.3f} | "
            f"{self.whole / 1e6:.3f} | {unmerged / 1e6:.3f} | {self.whole / self.sparse:.2f} | "
            f"{self.seconds[0]:.4f} | {self.seconds[1]:.4f} |"
        )


def batches(words: int, seed: int) -> Any:
    chances = np.arange(1, ROWS + 1) ** -EXPONENT
    edges = np.cumsum(chances / chances.sum())

    def of(rank: int, size: int) -> Iterator[Any]:
        draw = np.random.default_rng([seed, rank])
        for _ in range(STEPS):
            rows = np.searchsorted(edges, draw.random(words))
            yield rows, draw.standard_normal((words, WIDTH), dtype=np.float32)

    return of


def measured(workers: int, words: int) -> Cell:
    """Run both ways with every seed, and compare what they come to."""
    found = []
    for seed in SEEDS:
        data = batches(words, seed)
        longest = max(len(np.unique(rows)) for rank in range(workers) for rows, _ in data(rank, workers))
        on = ls.Simulated(workers, step_time=5e-3, latency=5e-5, bandwidth=1.25e8)
        start = np.zeros(ROWS * WIDTH, np.float32)
        ways = [
            ls.run(
                ls.AllReduceSGD(),
                lambda x, batch: [ls.Rows(*batch)],
                start,
                data,
                on=on,
                shapes=[(ROWS, WIDTH)],
                sparse=sparse,
            )
            if sparse
            else ls.run(ls.AllReduceSGD(), whole, start, data, on=on)
            for sparse in ((0,), ())
        ]
        assert np.array_equal(ways[0].params, ways[1].params)
        found.append((longest, *(way.bytes_sent / STEPS for way in ways), *(way.seconds / STEPS for way in ways)))
    rows, sparse, dense, *seconds = map(fmean, zip(*found, strict=True))
    return Cell(workers, words, rows, sparse, dense, (seconds[0], seconds[1]))


def whole(x: Any, batch: Any) -> Any:
    """The same gradient as an array like the table."""
    rows, values = batch
    gradient = np.zeros((ROWS, WIDTH), np.float32)
    np.add.at(gradient.reshape(-1), (rows[:, None] * WIDTH + np.arange(WIDTH)).reshape(-1), values.reshape(-1))
    return gradient.reshape(-1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.sparse.embeddings", description=__doc__)
    parser.add_argument("--out", type=Path, help="a folder: the table is written into sparse_gradients.md there")
    out = parser.parse_args().out
    begin = time.process_time()
    lines = [HEAD]
    print(HEAD)
    for workers in WORKERS:
        for words in WORDS:
            lines.append(measured(workers, words).line())
            print(lines[-1], flush=True)
    if out is not None:
        page = out / "sparse_gradients.md"
        before, _, rest = page.read_text().partition("<!-- table -->\n")
        _, _, after = rest.partition("<!-- end -->\n")
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        )
        spent, seeds = time.process_time() - begin, ", ".join(map(str, SEEDS))
        made = (
            f"Made by `python -m bench.sparse.embeddings --out docs/results` in {spent:.0f} s of processor time, "
            f"at\ncommit {commit.stdout.strip()}, Python {platform.python_version()}, numpy {np.__version__}; "
            f"means over the seeds {seeds}."
        )
        table = "\n".join(lines)
        page.write_text(f"{before}<!-- table -->\n{made}\n\n{table}\n\n<!-- end -->\n{after}")


if __name__ == "__main__":
    main()
