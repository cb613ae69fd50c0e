"""Draw the speed-up of two threads over one against sparsity, from the results of a benchmark:

python -m bench hogwild --json hogwild.json
python examples/hogwild_speedup.py hogwild.json hogwild.png
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from matplotlib import pyplot

WAYS = {
    "two models, half each": "two models that share nothing",
    "2 threads": "private head, shared tail",
    "2 threads, paper": "all shared, no locks (the paper's)",
    "2 threads, deterministic": "deterministic",
    "2 threads, locked": "one lock",
    "2 threads, turns": "round robin",
}


def speedups(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return examples per second over those of one thread, by case and by way of sharing."""
    rates: dict[str, dict[str, float]] = defaultdict(dict)
    for row in rows:
        rates[row["case"]][row["library"]] = row["value"]
    return {
        case: {way: found[way] / found["1 thread"] for way in WAYS if way in found}
        for case, found in rates.items()
    }


def draw(found: dict[str, dict[str, float]], file: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(9, 0.9 + 0.55 * len(found)))
    places = range(len(found))
    for (way, words), mark in zip(WAYS.items(), "o*sD^v", strict=True):
        axes.plot([each.get(way, float("nan")) for each in found.values()], places, mark, label=words, alpha=0.85)
    axes.set_yticks(list(places), list(found))
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_xlabel("speed of two threads over one")
    axes.set_xlim(left=0)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.savefig(file, dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    draw(speedups(json.loads(source.read_text())), target)
