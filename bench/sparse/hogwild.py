"""Sparse linear models: examples per second and the objective reached, beside scikit-learn and Vowpal Wabbit.

All minimize mean loss + alpha |w|^2 / 2 with the same step sizes, 1 / (alpha (t0 + t)); after EPOCHS passes the
objectives and held-out accuracies are compared, before any time. A call is one pass over rows that are laid out;
seconds to an objective are passes times the median of one, feature-updates examples times a mean row's entries.
The limit of two threads is two models, each trained by one thread on half of the rows, side by side; of memory,
one thread that only reads the rows (8 bytes an entry), two that stream as many bytes through two arrays, and one
that only moves a weight for each entry, where it lies or at places drawn evenly from all features (random access).
scikit-learn draws an order of rows for every pass, where ours lie in a drawn order from the start: its row "in
order" tells how much of its time is that. "paper" is Hogwild without a head; "locked" and "turns" are what the
paper compares with. Vowpal Wabbit (`pip install vowpalwabbit`) has a row where it is installed: a pass over its
cache file, the difference of a long and a short call. Its step sizes are its own.

Every case prints omega (most entries of a row), delta (share of rows that hold the commonest feature) and rho
(share of rows that meet a row, by sampling). Real rows: 20 Newsgroups and WordNet's glosses, from the folder that
DATA names (see bench/sparse/svmlight_text.py).
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import SGDClassifier

from bench.harness import Elsewhere, Options, Row, Sample, measure
from bench.sparse.data import criteo_like, rcv1_like
from bench.sparse.svmlight_text import newsgroups, wordnet
from loosestep import _core
from loosestep.sparse import HogwildClassifier
from loosestep.sparse.linear_trainer import Examples, FeatureLayout, Trainer

EPOCHS, NEAR = 5, 1.01
LOSSES = ("log_loss", "hinge")


class Objective(NamedTuple):
    """Mean loss + alpha |w|^2 / 2."""

    loss: str
    alpha: float

    def of(self, coef: Any, margins: Any) -> float:
        losses = np.logaddexp(0, -margins) if self.loss == "log_loss" else np.maximum(0, 1 - margins)
        return float(losses.mean() + self.alpha / 2 * coef @ coef)


Case = tuple[float, Callable[[], "tuple[Any, Any] | None"]]
CASES: dict[str, Case] = {  # alpha, rows
    "RCV1-like": (1e-6, lambda: matrix(rcv1_like(200_000), 47_236)),
    "RCV1-like, in cache": (1e-6, lambda: matrix(rcv1_like(20_000), 47_236)),
    "Criteo-like, 2^20 features": (1e-4, lambda: matrix(criteo_like(400_000, 20), 1 << 20)),
    "Criteo-like, 2^24 features": (1e-4, lambda: matrix(criteo_like(400_000, 24), 1 << 24)),
    "20 Newsgroups": (1e-6, newsgroups),
    "WordNet": (1e-6, wordnet),
}
SMOKE: dict[str, Case] = {"smoke": (1e-6, lambda: matrix(rcv1_like(10_000), 47_236))}


def rows(options: Options) -> Iterator[Row]:
    for case, (alpha, load) in (SMOKE if options.smoke else CASES).items():
        if options.only in case and (found := load()) is not None:
            print(f"{case}: {sparsity(found[0])}")
            for loss in LOSSES:
                yield from linear(f"{case}, {loss}", *found, Objective(loss, alpha), options)


def matrix(examples: Any, features: int) -> tuple[Any, Any]:
    starts, columns, values, targets = examples
    return csr_matrix((values, columns, starts.astype(np.int32)), (targets.size, features)), targets


def sparsity(rows: Any, seen: int = 200) -> str:
    """The three numbers of Niu et al. 2011, all but the first as shares of the rows."""
    lengths, columns = np.diff(rows.indptr), rows.tocsc()
    meets = []
    for row in np.random.default_rng(0).choice(rows.shape[0], seen):
        met = np.zeros(rows.shape[0], bool)
        for j in rows.indices[rows.indptr[row] : rows.indptr[row + 1]]:
            met[columns.indices[columns.indptr[j] : columns.indptr[j + 1]]] = True
        meets.append(float(met.mean()))
    delta = np.diff(columns.indptr).max() / rows.shape[0]
    mean = f"mean row of {lengths.mean():.1f} entries"
    return (
        f"{mean}, omega {lengths.max()}, delta {delta:.3g}, rho {max(meets):.3g} (mean row: {np.mean(meets):.3g})"
    )


# --- one case ----------------------------------------------------------------------------------------------


def linear(case: str, rows: Any, targets: Any, objective: Objective, options: Options) -> Iterator[Row]:
    held = rows.shape[0] // 10
    learn, test = (rows[held:], targets[held:]), (rows[:held], targets[:held])
    ways: dict[str, dict[str, Any]] = {
        "1 thread": {},
        "2 threads": {"n_threads": 2},
        "2 threads, paper": {"n_threads": 2, "head": 0},
        "2 threads, deterministic": {"n_threads": 2, "deterministic": True},
        "1 thread, bfloat16": {"dtype": "bfloat16"},
    }
    runs: dict[str, Any] = {name: Run(*learn, objective, **way) for name, way in ways.items()}
    runs |= {
        f"2 threads, {kind}": Run(*learn, objective, kind, n_threads=2, head=0) for kind in ("locked", "turns")
    }
    runs["scikit-learn"] = Rival(*learn, objective)
    runs["scikit-learn, rows in order"] = Rival(*learn, objective, shuffle=False)
    if importlib.util.find_spec("vowpalwabbit") and case.startswith("RCV1"):
        runs["Vowpal Wabbit"] = Wabbit(*learn, objective)
    checked, passes = compare(case, runs, learn, test, objective)
    both = "two models, half each"
    runs[both] = Pair(*learn, objective)
    runs |= machine(learn[0])
    measured = measure(runs, options, at_least=0.0)
    for name, count in passes.items():
        print(f"  {name:28} {count * measured.seconds[name].median:8.3f} s to {NEAR} of scikit-learn's objective")
    amount = float(learn[0].shape[0])
    yield from measured.rows(
        "hogwild", case, threads=2, n=int(amount), amount=amount, unit="examples/s", limits=[both], checked=checked
    )


def machine(rows: Any) -> dict[str, Callable[[], object] | Elsewhere]:
    """What one thread reaches that only touches as much memory as a pass: in order, and place by place."""
    places = rows.indices.astype(np.uint32)
    evenly = np.random.default_rng(0).integers(0, rows.shape[1], places.size, np.uint32)
    weights = np.zeros(rows.shape[1], np.float32)
    one, other = (aligned(places.size // 32 * 16) for _ in range(2))  # 16 bytes an element: 8 an entry
    return {
        "reading the rows": lambda: float(rows.data @ rows.data) + int(rows.indices.max()),
        "streaming as many bytes": lambda: _core.streams.update(one, other),
        "moving their weights": Touch(weights, places),
        "moving places drawn evenly": Touch(weights, evenly),
    }


def aligned(n: int) -> Any:
    return _core.allocate(4 * n).view(np.float32)


class Touch(Elsewhere):
    """x[at] += 1, timed inside the call: it checks the places first."""

    def __init__(self, x: Any, at: Any) -> None:
        self.x, self.at = x, at

    def sample(self, repeats: int) -> Sample:
        return Sample(sum(_core.streams.touch(self.x, self.at) for _ in range(repeats)) / repeats)


def compare(
    case: str, runs: Mapping[str, Any], learn: Any, test: Any, objective: Objective
) -> tuple[bool, dict[str, int]]:
    """Whether two threads reach the objective of one within 1% (or a better one), and who needs how many passes
    to come near scikit-learn's last; prints all."""
    paths = {
        name: [quality(*run.after(count), learn, test, objective) for count in range(1, EPOCHS + 1)]
        for name, run in runs.items()
    }
    goal = NEAR * paths["scikit-learn"][-1][0]
    print(f"{case}: objective and held-out accuracy after {EPOCHS} passes")
    for name, path in paths.items():
        print(f"  {name:28} {path[-1][0]:.5f}  {path[-1][1]:.4f}", flush=True)
    near = {name: [k for k, (reached, _) in enumerate(path, 1) if reached <= goal] for name, path in paths.items()}
    fine = paths["2 threads"][-1][0] <= 1.01 * paths["1 thread"][-1][0]
    return fine, {name: counts[0] for name, counts in near.items() if counts}


def quality(coef: Any, intercept: float, learn: Any, test: Any, objective: Objective) -> tuple[float, float]:
    margins = learn[1] * (learn[0] @ coef + intercept)
    right = test[1] * (test[0] @ coef + intercept) > 0
    return objective.of(coef, margins), float(right.mean())


class Run:
    """Calls are passes."""

    def __init__(
        self, rows: Any, targets: Any, objective: Objective, discipline: str = "free", **options: Any
    ) -> None:
        given = {**objective._asdict(), "random_state": 0} | options
        settings = HogwildClassifier(**given)._settings(1, sparse=True)
        settings.discipline = discipline
        examples = Examples.of(rows, targets, None)
        layout = FeatureLayout.of(settings, examples.counts(settings.threads), len(examples))
        self.trainer = Trainer(settings, layout)
        self.rows = self.trainer.lay(examples)

    def __call__(self) -> float:
        return self.trainer.epoch((self.rows,))

    def after(self, passes: int) -> tuple[Any, float]:
        """The model after so many passes from the start."""
        while self.trainer.epochs < passes:
            self()
        coef, intercept = self.trainer.read()
        return coef[0], float(intercept[0])


class Pair:
    """Two models that share nothing."""

    def __init__(self, rows: Any, targets: Any, objective: Objective) -> None:
        half = rows.shape[0] // 2
        self.runs = [Run(rows[part], targets[part], objective) for part in (slice(0, half), slice(half, None))]
        self.pool = ThreadPoolExecutor(2)

    def __call__(self) -> list[float]:
        return list(self.pool.map(lambda run: run(), self.runs))


class Rival:
    """scikit-learn's, one pass a call. It visits rows in a drawn order unless told otherwise."""

    def __init__(self, rows: Any, targets: Any, objective: Objective, shuffle: bool = True) -> None:
        self.rows, self.targets = rows, targets
        self.model, self.done = SGDClassifier(**objective._asdict(), random_state=0, shuffle=shuffle), 0

    def __call__(self) -> None:
        self.model.partial_fit(self.rows, self.targets, classes=(-1, 1))
        self.done += 1

    def after(self, passes: int) -> tuple[Any, float]:
        while self.done < passes:
            self()
        return self.model.coef_[0], float(self.model.intercept_[0])


class Wabbit(Elsewhere):
    """Vowpal Wabbit over its cache: float32 weights, its own adaptive and normalized steps, one core."""

    def __init__(self, rows: Any, targets: Any, objective: Objective) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.data, self.rows = Path(self.folder.name) / "rows.vw", rows
        bits = max(18, int(np.ceil(np.log2(rows.shape[1] + 1))))
        kind = {"log_loss": "logistic", "hinge": "hinge"}[objective.loss]
        self.options = (
            f"-d {self.data} --cache_file {self.data}.cache --loss_function {kind} -b {bits} --holdout_off"
        )
        self.options += f" --l2 {objective.alpha} --quiet --hash strings"
        self.write(targets)
        self.passes(1)

    def write(self, targets: Any) -> None:
        """Columns as numbers: they are the hashes."""
        starts = self.rows.indptr
        with self.data.open("w") as out:
            for row, target in enumerate(targets):
                part = slice(starts[row], starts[row + 1])
                pairs = zip(self.rows.indices[part], self.rows.data[part], strict=True)
                out.write(f"{int(target)} | " + " ".join(f"{j}:{x:.6g}" for j, x in pairs) + "\n")

    def passes(self, count: int) -> tuple[float, Any]:
        from vowpalwabbit import Workspace

        began = time.perf_counter()
        model = Workspace(f"{self.options} --passes {count}")
        return time.perf_counter() - began, model

    def sample(self, repeats: int) -> Sample:
        long, short = self.passes(3)[0], self.passes(1)[0]
        return Sample(max(long - short, 1e-9) / 2)

    def after(self, passes: int) -> tuple[Any, float]:
        _, model = self.passes(passes)
        words = [str(j) for j in range(self.rows.shape[1])]
        space = model.hash_space(" ")
        coef = np.array([model.get_weight(model.hash_feature(word, space)) for word in words])
        return coef, float(model.get_weight(model.hash_feature("Constant", 0)))
