"""Matrix factorization: ratings per second and the error reached, Hogwild and rotation, beside LIBMF.

All factor the same Netflix-like ratings at rank 32 with AdaGrad and one l2; ours with biases, which LIBMF does
not know: they cost us time and spare us epochs. Wall-clock time, and processor time. LIBMF's epoch is the
difference of a long and a short call, so that reading and laying out are left out on both sides. Held-out errors
after as many epochs are compared before time is. The limit of two threads is two runs of one thread, each of
ratings and factors of its own, side by side. LIBMF's row is there where LIBMF_OBJ names its shared library:

    pip download --no-binary :all: --no-deps libmf==0.9.2 && tar xf libmf-0.9.2.tar.gz && cd libmf-0.9.2/src_cpp
    g++ -O3 -march=native -DUSEAVX -std=c++11 -pthread -shared -fPIC mf.cpp libmf_interface.cpp -o libmf.so

and numba's (`pip install numba`), of the same method as a plain loop, where it is installed.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np

from bench.harness import Elsewhere, Options, Processor, Row, Sample, measure
from bench.sparse.compiled import compiled, factorize
from bench.sparse.data import netflix_like
from loosestep.sparse import MatrixFactorization
from loosestep.sparse.mf_trainer import Training
from loosestep.sparse.ratings import Ratings

RANK, L2, RATE, EPOCHS = 32, 0.05, 0.1, 8

SIZES = {  # ratings, users, items
    "factors in cache": (2_000_000, 48_000, 1_800),
    "factors out of cache": (10_000_000, 480_189, 17_770),
}
SMOKE = {"smoke": (20_000, 500, 100)}
WIDE = (10_000_000, 480_189, 17_770)
"""Of the comparison of float32 and bfloat16 at rank 128: 246 MB of users in float32."""


def rows(options: Options) -> Iterator[Row]:
    for case, size in (SMOKE if options.smoke else SIZES).items():
        if options.only in case:
            yield from netflix(case, size, options)
    for case in ("bfloat16, out of cache", "bfloat16, in cache"):
        if options.only in case:
            yield from precision(case, options)


# --- Hogwild, rotation, LIBMF -------------------------------------------------------------------------------


def netflix(case: str, size: tuple[int, int, int], options: Options) -> Iterator[Row]:
    learn, held = split(*size)
    runs: dict[str, Any] = {
        f"{algorithm}, {threads} thread(s)": Run(learn, algorithm=algorithm, n_threads=threads)
        for algorithm in ("hogwild", "rotation")
        for threads in (1, 2)
    }
    if "LIBMF_OBJ" in os.environ:
        runs["LIBMF, 1 thread(s)"] = LIBMF(learn)  # with 2, some calls never return
    if (native := compiled(factorize, case)) is not None:
        runs["numba, 1 thread(s)"] = Numba(learn, native)
    errors = {name: run.error(held) for name, run in runs.items()}
    print(f"{case}: held-out RMSE after {EPOCHS} epochs: " + ", ".join(f"{k} {v:.4f}" for k, v in errors.items()))
    if not options.smoke:  # so few ratings say little
        same_quality(errors)
    both = "two runs of one thread"
    runs[both] = Pair(learn)
    amount = dict.fromkeys(runs, float(len(learn))) | {both: 2.0 * len(learn)}
    on_processor = {
        name: LIBMF(learn, time.process_time) if isinstance(run, LIBMF) else Processor(run)
        for name, run in runs.items()
    }
    for how, contestants in ((f"rank {RANK}, {case}", runs), (f"processor time, {case}", on_processor)):
        yield from measure(contestants, options).rows(
            "factors", how, threads=2, n=len(learn), amount=amount, unit="ratings/s", limits=[both]
        )


def split(n: int, users: int, items: int) -> tuple[Ratings, Ratings]:
    u, i, r = netflix_like(n, users, items)
    ratings = Ratings(u, i, r, (users, items))
    return ratings.held_out(0.1, np.random.default_rng(0))


def same_quality(errors: Mapping[str, float]) -> None:
    """Ours within 0.005 of the sequential run, and of LIBMF's if not below it."""
    sequential = errors["hogwild, 1 thread(s)"]
    for name, error in errors.items():
        off = sequential - error if name.startswith("LIBMF") else abs(error - sequential)
        if off > 0.005:
            raise AssertionError(f"{name}: held-out RMSE {error:.4f}, the sequential run's is {sequential:.4f}")


class Run:
    """Calls are epochs."""

    def __init__(self, ratings: Ratings, rank: int = RANK, **options: Any) -> None:
        self.model = MatrixFactorization(rank, l2=L2, learning_rate=RATE, **options)
        self.mean = self.model._mean(ratings)
        tables = self.model._begun(ratings, np.random.default_rng(0))
        self.training = Training.of(self.model, tables, ratings, self.mean, 0)
        self.epoch = 0

    def __call__(self) -> float:
        self.epoch += 1
        return self.training.epoch(self.model._rate(self.epoch), self.epoch)

    def error(self, held: Ratings, epochs: int = EPOCHS) -> float:
        for _ in range(epochs):
            self()
        return self.training.error(held, self.mean)


class Pair:
    """Two runs of one thread that share nothing."""

    def __init__(self, ratings: Ratings) -> None:
        self.runs = [Run(ratings, n_threads=1) for _ in range(2)]
        self.pool = ThreadPoolExecutor(2)

    def __call__(self) -> list[float]:
        return list(self.pool.map(lambda run: run(), self.runs))


class Numba:
    """The same method, as a plain loop over ratings that were shuffled once; no grid, rows that are not padded."""

    def __init__(self, ratings: Ratings, native: Callable[..., Any]) -> None:
        like, order = Run(ratings), np.random.default_rng(0).permutation(len(ratings))
        self.mean, self.native = like.mean, native
        self.ratings = tuple(
            each[order] for each in (ratings.users, ratings.items, ratings.values - np.float32(like.mean))
        )
        tables = like.training.users, like.training.items
        self.rows = tuple(np.ascontiguousarray(table.factors()) for table in tables)
        self.others = tuple(np.full(len(table), value, np.float32) for value in (0, 1) for table in self.rows)

    def __call__(self) -> None:
        self.native(*self.ratings, *self.rows, *self.others, np.float32(L2), np.float32(RATE))

    def error(self, held: Ratings) -> float:
        for _ in range(EPOCHS):
            self()
        (p, q), (bias_p, bias_q) = self.rows, self.others[:2]
        said = bias_p[held.users] + bias_q[held.items]
        said += np.einsum("nk,nk->n", p[held.users], q[held.items])
        return float(np.sqrt(np.mean((held.values - np.float32(self.mean) - said) ** 2)))


class LIBMF(Elsewhere):
    """Chin, Yuan, et al., LIBMF: A Matrix-factorization Library for Recommender Systems, JMLR 17, 2016."""

    Options_: ClassVar[list[tuple[str, Any]]] = [
        *((name, ctypes.c_int) for name in ("fun", "k", "nr_threads", "nr_bins", "nr_iters")),
        *((name, ctypes.c_float) for name in ("l1_p", "l2_p", "l1_q", "l2_q", "eta")),
        *((name, ctypes.c_bool) for name in ("do_nmf", "quiet", "copy_data")),
    ]

    def __init__(self, ratings: Ratings, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.table = np.stack([ratings.users, ratings.items, ratings.values], 1).astype(np.float32)
        self.library = ctypes.CDLL(os.environ["LIBMF_OBJ"])
        self.library.fit_interface.restype = ctypes.POINTER(_libmf_model())

    def fit(self, epochs: int) -> Any:
        kind = type("Options", (ctypes.Structure,), {"_fields_": self.Options_})
        options = kind(0, RANK, 1, 20, epochs, 0, L2, 0, L2, RATE, False, True, False)
        data = self.table.ctypes.data_as(ctypes.c_void_p)
        return self.library.fit_interface(len(self.table), data, ctypes.byref(options))

    def seconds(self, epochs: int) -> float:
        start = self.clock()
        self.library.mf_destroy_model(ctypes.byref(self.fit(epochs)))
        return self.clock() - start

    def sample(self, repeats: int) -> Sample:
        return Sample((self.seconds(1 + 6) - self.seconds(1)) / 6)

    def error(self, held: Ratings) -> float:
        model = self.fit(EPOCHS)
        p, q = (np.ctypeslib.as_array(x, (n, model[0].k)) for x, n in model[0].tables())
        known = (held.users < len(p)) & (held.items < len(q))
        said = np.einsum("nk,nk->n", p[held.users[known]], q[held.items[known]])
        self.library.mf_destroy_model(ctypes.byref(model))
        return float(np.sqrt(np.nanmean((said - held.values[known]) ** 2)))


def _libmf_model() -> Any:
    class Model(ctypes.Structure):
        _fields_ = (
            *((name, ctypes.c_int) for name in ("fun", "m", "n", "k")),
            ("b", ctypes.c_float),
            *((name, ctypes.POINTER(ctypes.c_float)) for name in ("p", "q")),
        )

        def tables(self) -> tuple[tuple[Any, int], tuple[Any, int]]:
            return (self.p, self.m), (self.q, self.n)

    return Model


# --- bfloat16 ----------------------------------------------------------------------------------------------


def precision(case: str, options: Options) -> Iterator[Row]:
    """Users and items evenly popular, so that rows are seldom met again in a cache."""
    n, users, items = (20_000, 1_000, 200) if options.smoke else WIDE
    users, items = (users, items) if case.endswith("out of cache") else (users // 60, items // 60)
    learn, held = evenly(n, users, items).held_out(0.1, np.random.default_rng(0))
    runs = {dtype: Run(learn, 128, dtype=dtype, n_threads=1) for dtype in ("float32", "bfloat16")}
    errors = {name: run.error(held, 4) for name, run in runs.items()}
    print(f"{case}: held-out RMSE after 4 epochs: " + ", ".join(f"{k} {v:.4f}" for k, v in errors.items()))
    if not options.smoke and abs(errors["float32"] - errors["bfloat16"]) > 0.003 * errors["float32"]:
        raise AssertionError(f"{case}: {errors}")
    measured = measure(runs, options)
    yield from measured.rows(
        "factors", f"rank 128, {case}", threads=1, n=len(learn), amount=len(learn), unit="ratings/s"
    )


def evenly(n: int, users: int, items: int) -> Ratings:
    random = np.random.default_rng(0)
    u = random.integers(users, size=n, dtype=np.uint32)
    i = random.integers(items, size=n, dtype=np.uint32)
    p, q = (random.normal(size=(k, 4)).astype(np.float32) for k in (users, items))
    values = np.einsum("nk,nk->n", p[u], q[i]) + random.normal(size=n).astype(np.float32)
    return Ratings(u, i, values.astype(np.float32), (users, items))
