"""Factorization machines: examples per second, and the loss reached, beside numba's compilation of the same loop.

Both learn two classes at rank 16, by AdaGrad with one sum a feature, the same rates and l2: Criteo-like rows (39
entries of 2^20 features), and Netflix-like ones (a user and an item: liked or not), where pairs are what
matters. A call is one pass over rows that are laid out. Held-out losses after EPOCHS passes are compared before
time is; a linear model's (scikit-learn's SGDClassifier) is printed beside them. The limit of two threads is two
machines, each trained by one thread on half of the rows, side by side. `pip install numba`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import SGDClassifier

from bench.harness import Options, Processor, Row, measure
from bench.sparse.compiled import compiled, learn_machine
from bench.sparse.data import criteo_like, netflix_like
from loosestep.sparse import FactorizationMachineClassifier
from loosestep.sparse.factorization_machine import FitRows
from loosestep.sparse.parameters import generator

RANK, EPOCHS = 16, 2


class Case(NamedTuple):
    rate: float
    l2: float
    load: Callable[[], tuple[Any, Any]]


CASES = {
    "Criteo-like, 2^20 features": Case(0.01, 1e-3, lambda: clicks(200_000, 20)),
    "Netflix-like, a user and an item": Case(0.05, 1e-2, lambda: likes(1_000_000, 10_000, 1_800)),
}
SMOKE = {"smoke": Case(0.01, 1e-3, lambda: clicks(10_000, 16))}


def rows(options: Options) -> Iterator[Row]:
    for name, case in (SMOKE if options.smoke else CASES).items():
        if options.only in name:
            yield from machines(name, case, *split(*case.load()), options)


def clicks(count: int, bits: int) -> tuple[Any, Any]:
    starts, columns, values, targets = criteo_like(count, bits)
    return csr_matrix((values, columns, starts.astype(np.int32)), (targets.size, 1 << bits)), targets


def likes(count: int, users: int, items: int) -> tuple[Any, Any]:
    u, i, stars = netflix_like(count, users, items)
    columns = np.stack([u, users + i], 1).astype(np.int32).ravel()
    starts = np.arange(0, columns.size + 1, 2, dtype=np.int32)
    rows = csr_matrix((np.ones(columns.size, np.float32), columns, starts), (count, users + items))
    return rows, np.where(stars >= 4, 1, -1).astype(np.float32)


def split(every: Any, targets: Any) -> tuple[FitRows, FitRows]:
    """A tenth is held out."""
    held = targets.size // 10
    parts = (slice(held, None), slice(0, held))
    learn, test = (FitRows(every[part], [targets[part]], None, "logistic") for part in parts)
    return learn, test


def machines(name: str, case: Case, learn: FitRows, test: FitRows, options: Options) -> Iterator[Row]:
    runs: dict[str, Any] = {f"{threads} thread(s)": Run(case, learn, threads) for threads in (1, 2)}
    if (native := compiled(learn_machine, name)) is not None:
        runs["numba, 1 thread"] = Numba(case, learn, native)
    losses = {run: loss(runs[run].trained(test), test) for run in runs} | {"linear": linear(learn, test)}
    print(f"{name}: held-out loss after {EPOCHS} passes: " + ", ".join(f"{k} {v:.4f}" for k, v in losses.items()))
    alike = all(abs(losses[run] - losses["1 thread(s)"]) < 0.01 * losses["1 thread(s)"] for run in runs)
    both = "two machines, half each"
    runs[both] = Pair(case, learn)
    amount = float(learn.X.shape[0])
    on_processor = {run: Processor(runs[run]) for run in runs}
    for how, contestants in ((name, runs), (f"processor time, {name}", on_processor)):
        yield from measure(contestants, options, at_least=0.0).rows(
            "machines",
            how,
            threads=2,
            n=int(amount),
            amount=amount,
            unit="examples/s",
            limits=[both],
            checked=alike,
        )


def loss(scores: Any, rows: FitRows) -> float:
    return float(np.logaddexp(0, -scores * rows.targets[0]).mean())


def linear(learn: FitRows, test: FitRows) -> float:
    """The best of a few regularizations."""
    models = [SGDClassifier("log_loss", alpha=alpha, random_state=0) for alpha in (1e-6, 1e-5, 1e-4)]
    return min(loss(m.fit(learn.X, learn.targets[0]).decision_function(test.X), test) for m in models)


class Run:
    """Calls are passes."""

    def __init__(self, case: Case, rows: FitRows, threads: int) -> None:
        self.model = FactorizationMachineClassifier(RANK, l2=case.l2, random_state=0)
        drawn = self.model._drawn(rows)
        (self.arrays,) = drawn.arrays
        self.native, self.threads, self.epoch = self.model._native(self.arrays, drawn), threads, 0
        self.rate = case.rate
        (self.examples,) = rows.examples(np.random.default_rng(0).permutation(rows.X.shape[0]))

    def __call__(self) -> float:
        self.epoch += 1
        return self.native.learn(self.examples, "logistic", self.rate, self.threads, 0, self.epoch)

    def trained(self, test: FitRows) -> Any:
        for _ in range(EPOCHS):
            self()
        return self.native.score(*test.examples(), self.threads)


class Pair:
    """Two machines that share nothing."""

    def __init__(self, case: Case, rows: FitRows) -> None:
        half = rows.X.shape[0] // 2
        parts = (slice(0, half), slice(half, None))
        halves = [FitRows(rows.X[part], [rows.targets[0][part]], None, "logistic") for part in parts]
        self.runs = [Run(case, half, 1) for half in halves]
        self.pool = ThreadPoolExecutor(2)

    def __call__(self) -> list[float]:
        return list(self.pool.map(lambda run: run(), self.runs))


class Numba:
    """The same method, as a plain loop; factors that are not padded."""

    def __init__(self, case: Case, rows: FitRows, native: Any) -> None:
        model = FactorizationMachineClassifier(RANK)
        v, heads, b = model._arrays(rows.X.shape[1], generator(0))
        order = np.random.default_rng(0).permutation(rows.X.shape[0])
        shuffled = rows.X[order]
        self.rows = shuffled.indptr, shuffled.indices, shuffled.data, rows.targets[0][order]
        self.v, self.w, self.b = np.ascontiguousarray(v[:, :RANK]), heads[:, 0].copy(), b
        self.sums = np.ones_like(self.w), np.ones_like(self.w)
        self.native, self.terms = native, tuple(map(np.float32, (case.l2, model.l2_linear, case.rate)))

    def __call__(self) -> None:
        room = np.empty(RANK, np.float32)
        self.native(*self.rows, self.v, self.w, *self.sums, self.b, room, *self.terms)

    def trained(self, test: FitRows) -> Any:
        for _ in range(EPOCHS):
            self()
        pairs = (test.X @ self.v) ** 2 - test.X.power(2) @ self.v**2
        return self.b[0] + test.X @ self.w + pairs.sum(axis=1) / 2
