"""Reads sparse rows in the svmlight (libsvm) format by several threads: a whole file, or block by block."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

from loosestep import _core
from loosestep.foundation import checks
from loosestep.sparse.parameters import threads

if TYPE_CHECKING:
    from io import FileIO

    from numpy.typing import DTypeLike

LARGEST = _core.largest_feature
PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
"""How a packed file begins."""
MARKS = {
    b"\xef\xbb\xbf": "a byte order mark (the bytes ef bb bf): save it as UTF-8 without one",
    b"\xff\xfe": "the byte order mark of UTF-16 (ff fe): save it as UTF-8",
    b"\xfe\xff": "the byte order mark of UTF-16 (fe ff): save it as UTF-8",
}
"""What editors put before text, invisibly."""


def read_svmlight(
    path: str | os.PathLike[str],
    *,
    n_features: int | None = None,
    dtype: DTypeLike = np.float32,
    zero_based: bool | Literal["auto"] = "auto",
    query_id: bool = False,
    offset: int = 0,
    length: int = -1,
    n_threads: int | None = -1,
) -> tuple[Any, ...]:
    """Read rows `target feature:value feature:value # comment` as a CSR matrix and its targets.

    Values are the nearest float64 to the text, rounded once more for float32; targets are float64. Options as
    in `sklearn.datasets.load_svmlight_file`, which reads the same numbers from the same file; here files must not
    be packed, and a row has one target.

    n_features: columns of the matrix; None: the greatest in the file says.
    dtype: of the values, float32 or float64.
    zero_based: whether features are counted from 0; "auto": from 1 where the file has no feature 0.
    query_id: return the `qid:` of every row as well, int64; otherwise they are passed over.
    offset, length: only lines that begin after byte `offset` (or at byte 0) and at most `length` bytes later (-1:
        to the end), so that ranks share out a file: `n_features` is then needed, and "auto" means from 0.
    n_threads: how many read; -1: one for each processor that this process may use (the rows are the same);
        None: one.

    Raises ValueError with file and line for the first line that is not of that form: no finite number, a negative
    feature or one beyond `n_features`, features of a row that do not grow. OSError where the file cannot be read,
    or becomes shorter meanwhile. It takes as much memory as the matrix, and a little for each thread.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "train.svm")
    >>> _ = path.write_text("1 1:0.5 3:2  # the first\\n-1 2:1e-3\\n")
    >>> X, y = read_svmlight(path)
    >>> X.toarray().tolist(), y.tolist()
    ([[0.5, 0.0, 2.0], [0.0, 0.0010000000474974513, 0.0]], [1.0, -1.0])
    """
    span = _span(offset, length)
    form = _Form(n_features, _dtype(dtype), zero_based, bool(query_id), *span, threads(n_threads))
    with _opened(path) as file:
        rows = form.open(file)
        rows.fill(None)
        features, base = form.numbering(rows)
        return form.matrix(rows.take(None, base), features)


def svmlight_blocks(
    path: str | os.PathLike[str],
    rows: int = 100_000,
    *,
    n_features: int | None = None,
    dtype: DTypeLike = np.float32,
    zero_based: bool | Literal["auto"] = "auto",
    query_id: bool = False,
    offset: int = 0,
    length: int = -1,
    n_threads: int | None = -1,
) -> Iterator[tuple[Any, ...]]:
    """Yield what `read_svmlight` returns, `rows` rows at a time (the last block: the rest), for `partial_fit`.

    For files larger than memory: a block and 4 MiB of text for each thread are held. Unless both `n_features` and
    a bool `zero_based` are given, or `offset` or `length`, the file is read twice: the first time to find them,
    and any bad line, before the first block. Otherwise a bad line is found when its block is read.

    Options and errors as `read_svmlight`.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "train.svm")
    >>> _ = path.write_text("1 1:0.5 3:2\\n-1 2:1\\n1 1:1\\n")
    >>> [(X.shape, y.tolist()) for X, y in svmlight_blocks(path, rows=2)]
    [((2, 3), [1.0, -1.0]), ((1, 3), [1.0])]
    """
    checks.integer("rows", rows)
    span = _span(offset, length)
    form = _Form(n_features, _dtype(dtype), zero_based, bool(query_id), *span, threads(n_threads))
    return _blocks(path, rows, form)


def _blocks(path: str | os.PathLike[str], count: int, form: _Form) -> Iterator[tuple[Any, ...]]:
    with _opened(path) as file:
        features, base = form.found(file)
        rows = form.open(file)
        while True:
            rows.fill(count)
            block = form.matrix(rows.take(count, base), features)
            if block[1].size == 0:
                return
            yield block


@dataclass(frozen=True)
class _Form:
    """The format of a file, and which part of it is wanted."""

    n_features: int | None
    dtype: np.dtype[Any]
    zero_based: bool | Literal["auto"]
    query_id: bool
    begin: int
    end: int | None
    n_threads: int

    def __post_init__(self) -> None:
        if self.n_features is not None:
            checks.integer("n_features", self.n_features)
            if self.n_features > LARGEST:
                raise ValueError(f"n_features must be at most {LARGEST}, got {self.n_features}")
        elif self.in_part:
            raise ValueError("n_features must be given with offset or length: a part of a file does not show it")
        if not isinstance(self.zero_based, bool) and self.zero_based != "auto":
            raise ValueError(f"zero_based must be True, False or 'auto', got {self.zero_based!r}")

    @property
    def in_part(self) -> bool:
        return self.begin > 0 or self.end is not None

    @property
    def first(self) -> int | None:
        """The number of the first feature; None: the file shows it."""
        if self.zero_based == "auto":
            return 0 if self.in_part else None
        return 0 if self.zero_based else 1

    def open(self, file: FileIO) -> Any:
        first = self.first
        greatest = LARGEST if self.n_features is None else self.n_features - (first == 0)
        kind = _core.SparseFile32 if self.dtype == np.float32 else _core.SparseFile64
        return kind(file.fileno(), self.begin, self.end, first or 0, greatest, self.query_id, self.n_threads)

    def found(self, file: FileIO) -> tuple[int, int]:
        """Return the number of features and the number of the first, by a pass over the file if needed."""
        if self.n_features is not None and self.first is not None:
            return self.n_features, self.first
        rows = self.open(file)
        rows.scan()
        return self.numbering(rows)

    def numbering(self, rows: Any) -> tuple[int, int]:
        """Return the same for what was read."""
        least, greatest, line = rows.range()
        first = self.first if self.first is not None else int(least > 0)
        features = self.n_features or max(1, greatest - first + 1)
        if greatest - first >= features:
            raise ValueError(
                f"line {line}: feature {greatest} is above the greatest, {features - 1}: the file counts from 0, "
                f"and n_features={features}"
            )
        return features, first

    def matrix(self, taken: tuple[Any, ...], features: int) -> tuple[Any, ...]:
        starts, columns, values, targets, queries = taken
        matrix = sp.csr_matrix((values, columns, starts), (targets.size, features))
        matrix.has_canonical_format = True  # grown features, as the reader has made sure
        return (matrix, targets, queries) if self.query_id else (matrix, targets)


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[FileIO]:
    """Open a text file that can be read at any place; errors meanwhile name it."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{os.fspath(path)} is no regular file: it is read at several places at once")
    with Path(path).open("rb", buffering=0) as file, _named(path):
        begin = file.read(8)
        for mark, name in PACKED.items():
            if begin.startswith(mark):
                raise ValueError(f"{os.fspath(path)} is packed by {name}: unpack it first")
        for mark, name in MARKS.items():
            if begin.startswith(mark):
                raise ValueError(f"{os.fspath(path)}, line 1: begins with {name}")
        yield file


@contextmanager
def _named(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        if not str(error).startswith("line "):
            raise
        raise ValueError(f"{os.fspath(path)}, {error}") from None
    except OSError as error:
        error.filename = os.fspath(path)
        raise


def _dtype(given: DTypeLike) -> np.dtype[Any]:
    dtype = np.dtype(given)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64, got {dtype}")
    return dtype


def _span(offset: int, length: int) -> tuple[int, int | None]:
    """Return begin and end in bytes (None: the file's)."""
    checks.integer("offset", offset, 0)
    checks.integer("length", length, -1)
    if length == 0:
        raise ValueError("length must be at least 1, or -1 for all that follows; got 0")
    return offset, None if length == -1 else offset + length
