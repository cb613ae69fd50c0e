"""Implicit feedback: seconds to an AUC of 0.85, beside the methods of `implicit` (`pip install implicit`).

Pairs are those of Netflix-like popularity that a low rank approves of; a tenth is held out. AUC: how often a
held-out pair has a higher score than the same user with an item that was not met. A call is a whole fit at rank
32, of the fewest epochs that reach the target, with options that were the best of a small grid on these pairs;
who does not reach it has no row. Alternating least squares minimizes the weighted squares over all pairs (Hu,
Koren, Volinsky 2008), ours over those that were met and as many others, drawn; BPR a ranking loss (Rendle et al.
2009).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from bench.harness import Options, Processor, Row, measure
from bench.sparse.data import BLOCK, NetflixLike
from loosestep.sparse import MatrixFactorization

RANK, TARGET = 32, 0.85
EPOCHS = (1, 2, 3, 4, 5, 7, 10, 15, 20, 40)
SIZE, SMOKE = (1_000_000, 20_000, 1_800), (50_000, 500, 200)

Score = Callable[[Any, Any], Any]
Fit = Callable[[int], Score]
"""Epochs to a function of users and items."""


class Pairs(NamedTuple):
    learn: Any
    """(n, 2): users and items."""
    test: Any
    others: Any
    """Of the same users, pairs that nobody met."""
    shape: tuple[int, int]

    def auc(self, score: Score) -> float:
        return float(np.mean(score(*self.test.T) > score(*self.others.T)))


def rows(options: Options) -> Iterator[Row]:
    case = f"rank {RANK}, to an AUC of {TARGET}"
    if options.only not in case:
        return
    data = pairs(*(SMOKE if options.smoke else SIZE))
    fits: dict[str, Fit] = {f"loosestep, {n} thread(s)": ours(data, n) for n in (1, 2)} | rivals(data)
    runs: dict[str, Any] = {}
    for name, fit in fits.items():
        epochs = 2 if options.smoke else fewest(name, fit, data)  # so few pairs say little
        if epochs is not None:
            runs[name] = lambda fit=fit, epochs=epochs: fit(epochs)
    on_processor = {name: Processor(run) for name, run in runs.items()}
    for how, contestants in ((case, runs), (f"processor time, {case}", on_processor)):
        yield from measure(contestants, options).rows(
            "implicit_feedback", how, threads=2, n=len(data.learn), amount=1.0, unit="fits/s"
        )


def pairs(n: int, users: int, items: int) -> Pairs:
    made, random = NetflixLike(users, items), np.random.default_rng(0)
    u, i = (np.concatenate(part) for part in zip(*(made.block(k)[:2] for k in range(n // BLOCK)), strict=True))
    liked = np.einsum("nk,nk->n", made.p[u], made.q[i]) > 0.3
    keys = np.unique(u[liked].astype(np.int64) * items + i[liked])
    held = random.random(len(keys)) < 0.1
    test = keys[held]
    others = test - test % items + random.integers(items, size=len(test))
    new = ~np.isin(others, keys)
    learn, test, others = (np.stack(np.divmod(each, items), 1) for each in (keys[~held], test[new], others[new]))
    return Pairs(learn, test, others, (users, items))


def fewest(name: str, fit: Fit, data: Pairs) -> int | None:
    """Epochs to the target; prints every AUC on the way."""
    seen = {}
    for epochs in EPOCHS:
        seen[epochs] = data.auc(fit(epochs))
        if seen[epochs] >= TARGET:
            break
    print(f"{name}: AUC " + ", ".join(f"{auc:.4f} after {epochs}" for epochs, auc in seen.items()), flush=True)
    return epochs if seen[epochs] >= TARGET else None


def ours(data: Pairs, threads: int) -> Fit:
    ones = np.ones(len(data.learn), np.float32)

    def fit(epochs: int) -> Score:
        model = MatrixFactorization(
            RANK,
            feedback="implicit",
            l2=0.01,
            max_iter=epochs,
            n_threads=threads,
            shape=data.shape,
            random_state=0,
        ).fit(data.learn, ones)
        return lambda users, items: model.predict(np.stack([users, items], 1))

    return fit


def rivals(data: Pairs) -> dict[str, Fit]:
    if importlib.util.find_spec("implicit") is None:
        print("no rows of implicit, which is not installed (pip install implicit)")
        return {}
    met = csr_matrix((np.ones(len(data.learn), np.float32), tuple(data.learn.T)), data.shape)
    squares = {"regularization": 30.0, "alpha": 1.0, "calculate_training_loss": False}
    ranking = {"learning_rate": 0.05, "regularization": 0.01}
    return {
        "implicit, ALS, 1 thread": rival(met, "als", "AlternatingLeastSquares", squares),
        "implicit, BPR, 1 thread": rival(met, "bpr", "BayesianPersonalizedRanking", ranking),
    }


def rival(met: Any, module: str, kind: str, given: dict[str, Any]) -> Fit:
    made = getattr(importlib.import_module(f"implicit.cpu.{module}"), kind)

    def fit(epochs: int) -> Score:
        model = made(RANK, iterations=epochs, num_threads=1, random_state=0, **given)
        model.fit(met, show_progress=False)
        return lambda users, items: np.einsum("nk,nk->n", model.user_factors[users], model.item_factors[items])

    return fit
