"""A file of sparse rows in the svmlight format: ours with one thread and with all, beside scikit-learn's reader.

The limit is to read the file's bytes from the page cache, and no more, in one thread, through a window that stays
in the processor's cache. Numbers as text are what it costs: so a case for short ones, one for long ones (which
are what scikit-learn writes, and need more than a multiplication to be rounded correctly), and one without any.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.datasets import load_svmlight_file

from bench.harness import Contestant, Options, Row, measure
from loosestep.sparse import read_svmlight, svmlight_blocks

WINDOW = 256 << 10
FEATURES = 47_236  # RCV1's

CASES = {
    "75 entries a row, 6 digits": (75, "{:.6f}"),
    "75 entries a row, 16 digits": (75, "{:.16g}"),
    "39 entries a row, all 1": (39, "1"),
}
"""Entries of a row, and how a value is written."""


def write(path: Path, rows: int, entries: int, form: str) -> None:
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        for _ in range(rows):
            features = np.unique(rng.integers(1, FEATURES + 1, entries)).tolist()
            values = rng.random(len(features)).tolist()
            row = " ".join(f"{j}:{form.format(v)}" for j, v in zip(features, values, strict=True))
            file.write(f"{rng.choice((-1, 1))} {row}\n")


def limit(path: Path) -> Contestant:
    window = bytearray(WINDOW)

    def run() -> None:
        with path.open("rb", buffering=0) as file:
            while file.readinto(window):
                pass

    return run


def contestants(path: Path, threads: int) -> dict[str, Contestant]:
    given: dict[str, Any] = {"n_features": FEATURES, "zero_based": False, "dtype": np.float32}
    readers: dict[str, Contestant] = {
        f"loosestep, {n} thread(s)": lambda n=n: read_svmlight(path, **given, n_threads=n)  # type: ignore[misc]
        for n in sorted({1, threads})
    }
    readers["loosestep, in blocks"] = lambda: list(svmlight_blocks(path, 1000, **given))
    readers["scikit-learn"] = lambda: load_svmlight_file(str(path), **given)
    return readers


def joined(found: Any) -> tuple[Any, Any]:
    """Of blocks, or of a whole."""
    if isinstance(found, tuple):
        return found
    matrices, targets = zip(*found, strict=True)
    return sp.vstack(matrices, "csr"), np.concatenate(targets)


def check(readers: dict[str, Contestant]) -> None:
    """All read the same bits."""
    rows, targets = joined(readers["scikit-learn"]())
    for name, read in readers.items():
        found = joined(read())
        np.testing.assert_array_equal(found[1], targets, err_msg=name)
        for part in ("indptr", "indices", "data"):
            np.testing.assert_array_equal(getattr(found[0], part), getattr(rows, part), err_msg=name)


def rows(options: Options) -> Iterator[Row]:
    threads, count = os.cpu_count() or 1, 500 if options.smoke else 10_000
    for case, (entries, form) in CASES.items():
        if options.only in case:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "rows.svm"
                write(path, count, entries, form)
                readers = contestants(path, threads)
                check(readers)
                measured = measure(readers | {"limit": limit(path)}, options)
                yield from measured.rows(
                    "reading", case, threads=threads, amount=count, unit="rows/s", n=count,
                    bytes=path.stat().st_size, limits=["limit"],
                )  # fmt: skip
