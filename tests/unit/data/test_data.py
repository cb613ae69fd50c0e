"""Data sets: what is read, what is refused, and how rows are dealt."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tracemalloc
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loosestep.data import Dataset, find, load, names, shards, steps_per_epoch
from loosestep.data.sets import fashion_mnist

ROWS = np.arange(40, dtype=float).reshape(20, 2)
LABELS = np.arange(20) % 2


def saved(folder: Path, **arrays: object) -> str:
    np.savez(folder / "some.npz", **arrays)
    return str(folder / "some.npz")


def test_the_sets_are_found_by_scanning() -> None:
    assert names() == ["digits", "fashion-mnist"]


def test_digits_are_scaled_and_split_in_proportion() -> None:
    pytest.importorskip("sklearn")
    digits = load("digits")
    assert str(digits) == "digits (1438 + 359 rows of 64 features, 10 classes)"
    assert (digits.x_train.dtype, digits.y_train.dtype) == (np.float32, np.int64)
    assert digits.x_train.mean() == pytest.approx(0, abs=1e-5)
    assert digits.x_train.std() == pytest.approx(1, abs=1e-5)
    counts = np.bincount(digits.y_test)
    assert counts.max() - counts.min() <= 2
    np.testing.assert_array_equal(load("digits").x_test, digits.x_test)


def test_a_file_with_its_own_test_rows(tmp_path: Path) -> None:
    file = saved(tmp_path, x_train=ROWS, y_train=LABELS, x_test=ROWS[:5], y_test=LABELS[:5])
    loaded = load(file)
    np.testing.assert_array_equal(loaded.x_train, ROWS)
    assert (loaded.features, loaded.classes, len(loaded.y_test)) == (2, 2, 5)


def test_a_file_without_test_rows_is_split_once_for_all(tmp_path: Path) -> None:
    loaded = load(saved(tmp_path, x=ROWS, y=LABELS))
    assert (len(loaded.y_train), len(loaded.y_test)) == (16, 4)
    assert np.bincount(loaded.y_test).tolist() == [2, 2]
    together = np.sort(np.concatenate([loaded.x_train[:, 0], loaded.x_test[:, 0]]))
    np.testing.assert_array_equal(together, ROWS[:, 0])


def test_pictures_are_flattened_and_whole_float_labels_are_taken(tmp_path: Path) -> None:
    loaded = load(saved(tmp_path, x=np.zeros((10, 4, 4), np.uint8), y=np.arange(10) % 2 * 1.0))
    assert loaded.x_train.shape == (8, 16)
    assert loaded.y_train.dtype == np.int64


def damaged(**changes: object) -> dict[str, object]:
    arrays = {"x_train": ROWS.copy(), "y_train": LABELS, "x_test": ROWS, "y_test": LABELS, **changes}
    return {name: array for name, array in arrays.items() if array is not None}


def with_bad(*values: float) -> np.ndarray:
    rows = ROWS.copy()
    for row, value in enumerate(values, start=7):
        rows[row, 1] = value
    return rows


BAD = {
    "x_train holds 1 value that is not finite .* first in row 7": damaged(x_train=with_bad(np.nan)),
    "x_test holds 2 values that are not finite .* first in row 7": damaged(x_test=with_bad(np.inf, np.nan)),
    "x_train holds 1 value that is not finite": damaged(x_train=with_bad(1e300)),
    "x_train has 20 rows but y_train has 19": damaged(y_train=LABELS[:19]),
    "x_train has 2 features but x_test has 1": damaged(x_test=ROWS[:, :1]),
    r"x_train must be at least one row of features, got shape \(0, 2\)": damaged(x_train=ROWS[:0]),
    r"x_train must be at least one row of features, got shape \(20,\)": damaged(x_train=ROWS[:, 0]),
    r"y_test must be one label a row, got shape \(0,\)": damaged(y_test=LABELS[:0]),
    r"y_test must be one label a row, got shape \(20, 1\)": damaged(y_test=LABELS[:, None]),
    "y_train must hold whole numbers, got 0.5 in row 0": damaged(y_train=LABELS + 0.5),
    "y_train must hold whole numbers, got nan in row 0": damaged(y_train=LABELS * np.nan),
    "y_train must hold whole numbers, got dtype <U21": damaged(y_train=LABELS.astype(str)),
    "y_train must hold labels from 0 on, got -1 in row 0": damaged(y_train=LABELS - 1),
    "label 100 is more than there are rows": damaged(y_train=LABELS + 99),
    "x_train must hold numbers, got dtype <U4": damaged(x_train=ROWS.astype("U4")),
    "y_train missing; wanted x_train, y_train, x_test, y_test or x, y; found x_": damaged(y_train=None),
    "y_test cannot be read as a plain array": damaged(y_test=np.array([object()] * 20)),
}


@pytest.mark.parametrize("sentence", BAD)
def test_bad_data_is_refused_naming_file_and_array(sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        load(saved(tmp_path, **BAD[sentence]))
    assert str(caught.value).startswith(str(tmp_path / "some.npz"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("x", "y"), [(ROWS, LABELS[:3]), (ROWS[:3], LABELS[:3]), (np.zeros(()), LABELS)])
def test_undivided_data_is_checked_before_it_is_split(x: np.ndarray, y: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"some\.npz: x has"):
        load(saved(tmp_path, x=x, y=y))


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 cut"])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.npz: not a complete \.npz file"):
        load(str(tmp_path / "bad.npz"))


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    whole = Path(saved(tmp_path, x=ROWS, y=LABELS)).read_bytes()
    for length in range(0, len(whole), 37):
        (tmp_path / "cut.npz").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.npz: "):
            load(str(tmp_path / "cut.npz"))


def header(text: str) -> bytes:
    """An array's bytes with that header."""
    filled = text.encode() + b" " * (63 - (len(text) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(filled)) + filled + bytes(400)


HEADERS = [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (10, 1000000000000), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (10,), }",
    "{'descr': [('a','<f4'),('b','|O')], 'fortran_order': False, 'shape': (10,), }",
    "{'descr': '<f4', 'fortran_order': 1, 'shape': [10], }",
    "__import__('os').getpid()",
    "{" * 5000,
    "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1," * 70 + "), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 5000 + ",), }",
    "{'descr': 'nonsense', 'fortran_order': False, 'shape': (10,), }",
    "(",
    '"""',
]


@pytest.mark.parametrize("text", HEADERS, ids=lambda text: text[:60])
def test_an_array_with_a_bad_header_is_named(text: str, tmp_path: Path) -> None:
    file = tmp_path / "odd.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", header(text))
    with pytest.raises(ValueError, match=r"odd\.npz: x "):
        load(str(file))


def test_a_packing_that_python_lacks_is_named(tmp_path: Path) -> None:
    file = Path(saved(tmp_path, x=ROWS, y=LABELS))
    content = bytearray(file.read_bytes())
    for place in (content.index(b"PK\x01\x02") + 10, 8):  # the method, in the directory and before the first array
        content[place : place + 2] = struct.pack("<H", 97)
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"some\.npz: x cannot be read as a plain array \(NotImplementedError"):
        load(str(file))


def test_no_bit_of_a_packed_file_ends_without_its_name(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "some.npz", x=ROWS, y=LABELS)
    whole, file = (tmp_path / "some.npz").read_bytes(), tmp_path / "bit.npz"
    told = []
    for bit in range(0, 8 * len(whole), 5):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        try:
            load(str(file))
        except ValueError as error:
            told.append(str(error))
    assert len(told) > 100
    assert [words for words in told if not words.startswith(f"{file}: ")] == []


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown data set 'digit' .*digits.*did you mean digits?"):
        find("digit")
    with pytest.raises(ValueError, match=r"there is no file nothing\.npz"):
        find("nothing.npz")


def idx_bytes(array: np.ndarray) -> bytes:
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def tiny_set(folder: Path, rows: int = 6) -> Path:
    pictures = np.arange(rows * 9).reshape(rows, 3, 3)
    for name in fashion_mnist.FILES:
        array = pictures if "images" in name else np.arange(rows) % 3
        (folder / name).write_bytes(gzip.compress(idx_bytes(array)))
    return folder


def test_idx_files_are_read_from_a_folder(tmp_path: Path) -> None:
    loaded = load("fashion-mnist", tiny_set(tmp_path))
    assert str(loaded) == "fashion-mnist (6 + 6 rows of 9 features, 3 classes)"
    pixels = np.arange(54).reshape(6, 9)
    np.testing.assert_allclose(loaded.x_train, (pixels - pixels.mean()) / pixels.std(), rtol=1e-5)


def test_a_folder_that_lacks_files_is_named(tmp_path: Path) -> None:
    (tiny_set(tmp_path) / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ValueError, match=r"fashion-mnist: .* lacks t10k-labels-idx1-ubyte\.gz"):
        load("fashion-mnist", tmp_path)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda whole: whole[: len(whole) // 2], "not a complete gzip file"),
        (lambda whole: gzip.compress(gzip.decompress(whole)[:-1]), "53 bytes where the header promises"),
        (lambda whole: gzip.compress(gzip.decompress(whole)[:9]), "ends within its header, after 9 bytes"),
        (lambda whole: gzip.compress(b"\0\0\x0d\3" + gzip.decompress(whole)[4:]), "not an IDX file"),
        (lambda whole: gzip.compress(b""), "not an IDX file .* begins with nothing"),
        (lambda whole: gzip.compress(gzip.decompress(whole) + b"1"), "more bytes where the header promises"),
        (lambda whole: gzip.compress(b"\0\0\x08\xff" + b"\0\0\0\1" * 255 + b"1"), "255 dimensions, where 1 to 8"),
        (lambda whole: gzip.compress(b"\0\0\x08\0" + b"1"), "0 dimensions, where 1 to 8 are wanted"),
        (lambda whole: gzip.compress(b"\0\0\x08\3" + b"\xff" * 12 + b"1"), "1 bytes where the header promises"),
    ],
)
def test_truncated_idx_files_are_named(damage: object, sentence: str, tmp_path: Path) -> None:
    file = tiny_set(tmp_path) / "train-images-idx3-ubyte.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=rf"train-images-idx3-ubyte\.gz: {sentence}"):
        load("fashion-mnist", tmp_path)


def test_no_more_of_an_idx_file_is_unpacked_than_its_header_promises(tmp_path: Path) -> None:
    """Of 50 MB in 50 kB, what was promised: 54 numbers and one more."""
    file = tiny_set(tmp_path) / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(idx_bytes(np.zeros((6, 3, 3))) + bytes(50_000_000), 6))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"more bytes where the header promises shape \(6, 3, 3\)"):
            load("fashion-mnist", tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without the data set, and a server that has it."""
    server = tmp_path / "server"
    server.mkdir()
    tiny_set(server)
    checksums = {name: hashlib.md5((server / name).read_bytes()).hexdigest() for name in fashion_mnist.FILES}
    monkeypatch.setattr(fashion_mnist, "FILES", checksums)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "no-debian")
    monkeypatch.setattr(fashion_mnist, "_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: (server / Path(url).name).open("rb"))
    return server


def test_a_download_is_verified_and_kept(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(load("fashion-mnist").y_train) == 6
    monkeypatch.setattr(urllib.request, "urlopen", None)
    assert len(load("fashion-mnist").y_train) == 6


def test_a_download_with_another_checksum_is_not_kept(elsewhere: Path, tmp_path: Path) -> None:
    name = "train-labels-idx1-ubyte.gz"
    (elsewhere / name).write_bytes(gzip.compress(idx_bytes(np.zeros(6))))
    with pytest.raises(OSError, match=f"{name} has the checksum"):
        load("fashion-mnist")
    assert not (tmp_path / "cache" / name).exists()


def test_without_a_network_one_sentence_tells_all_three_ways(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(url: str, timeout: float) -> io.BytesIO:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    ways = r"folder of its four files.*package dataset-fashion-mnist.*network"
    with pytest.raises(OSError, match=ways) as caught:
        load("fashion-mnist")
    assert "\n" not in str(caught.value)


def taken(size: int, batch: int, epochs: int = 1, rows: int = 20, **options: int) -> list[list[np.ndarray]]:
    """The first feature of every row, by worker and batch."""
    data = np.arange(rows)[:, None], np.arange(rows) % 3
    batches = shards(data, batch, epochs, **options)
    return [[x[:, 0] for x, _ in batches(rank, size)] for rank in range(size)]


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 8), st.integers(0, 3), st.booleans())
def test_each_row_goes_to_one_worker_once_an_epoch(rows: int, size: int, batch: int, seed: int, by: bool) -> None:
    dealt = taken(size, batch, rows=rows, seed=seed, by_label=by)
    counts = [sum(map(len, worker)) for worker in dealt]
    assert max(counts) - min(counts) <= 1
    assert max(map(len, dealt)) == steps_per_epoch(rows, batch, size)
    everything = np.concatenate([part for worker in dealt for part in worker])
    np.testing.assert_array_equal(np.sort(everything), np.arange(rows))


def test_the_last_batch_is_what_is_left() -> None:
    assert [len(part) for part in taken(2, batch=4)[0]] == [4, 4, 2]


def test_orders_depend_on_seed_and_epoch_alone() -> None:
    first, again, other = (np.concatenate(taken(2, 5, 3, seed=seed)[0]) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first[:10] != first[10:20]).any()
    np.testing.assert_array_equal(first[:10], np.concatenate(taken(2, 5, 1, seed=7)[0]))


def test_by_label_workers_keep_their_own_labels() -> None:
    data = np.zeros((30, 1)), np.repeat([2, 0, 1], 10)
    batches = shards(data, 4, 2, by_label=True)
    seen = [set(np.concatenate([y for _, y in batches(rank, 3)])) for rank in range(3)]
    assert seen == [{0}, {1}, {2}]


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 20), st.integers(0, 3), st.booleans())
def test_a_worker_keeps_its_fraction_and_together_they_see_all(
    rows: int, size: int, twentieths: int, seed: int, by: bool
) -> None:
    fraction = max(twentieths / 20, 1 / size)
    batches = shards((np.arange(rows)[:, None], np.arange(rows)), 4, 2, seed, by_label=by, fraction=fraction)
    first, second = ([epoch_of(batches(rank, size), epoch) for rank in range(size)] for epoch in (0, 1))
    for kept, again in zip(first, second, strict=True):
        assert sorted(kept) == sorted(again), "the same rows in every epoch"
        assert len(kept) == len(set(kept)), "each once"
    counts = [len(kept) for kept in first]
    assert max(counts) <= max(-(-rows // size), rows * fraction + 1)
    assert min(counts) >= max(rows // size, rows * fraction - 1e-6)
    assert {row for kept in first for row in kept} == set(range(rows)), "nothing is lost"
    assert steps_per_epoch(rows, 4, size, fraction) in (-(-max(counts) // 4), -(-(max(counts) + 1) // 4))


def epoch_of(batches: Iterator[tuple[np.ndarray, np.ndarray]], epoch: int) -> list[int]:
    """The labels of one of two epochs of equal length."""
    taken = [list(y) for _, y in batches]
    half = taken[len(taken) // 2 * epoch : len(taken) // 2 * (epoch + 1)]
    return [int(label) for part in half for label in part]


def test_fractions_of_half_and_of_a_quarter_as_in_the_split_experiment() -> None:
    rows = np.arange(1200)
    for size, fraction, times in ((3, 0.5, 1.5), (6, 0.25, 1.5)):
        batches = shards((rows[:, None], rows), 100, 1, fraction=fraction)
        seen = np.concatenate([y for rank in range(size) for _, y in batches(rank, size)])
        counts = np.bincount(seen)
        assert counts.mean() == times
        assert set(counts) == {1, 2}


def test_rows_and_labels_stay_together() -> None:
    for x, y in shards((ROWS, LABELS), 3, 2)(1, 3):
        np.testing.assert_array_equal(x[:, 0] / 2 % 2, y)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: shards((ROWS, LABELS), 0, 1), "batch must be at least 1, got 0"),
        (lambda: shards((ROWS, LABELS), 2, -1), "epochs must be at least 0, got -1"),
        (lambda: shards((ROWS, LABELS[:3]), 2, 1), "as many rows as labels, at least one, got 20 and 3"),
        (lambda: shards((ROWS[:0], LABELS[:0]), 2, 1), "at least one, got 0 and 0"),
        (lambda: shards((ROWS, LABELS), 2, 1, fraction=0.0), "fraction must be above 0 and finite, got 0.0"),
        (lambda: steps_per_epoch(9, 2, 2, float("nan")), "fraction must be above 0 and finite, got nan"),
        (lambda: shards((ROWS, LABELS), 2, 1, fraction=1.5), "fraction must be at most 1, got 1.5"),
        (lambda: next(shards((ROWS, LABELS), 2, 1, fraction=0.3)(0, 3)), "at least 1/3, or nobody sees some rows"),
        (lambda: next(shards((ROWS, LABELS), 2, 1)(3, 3)), "rank must be from 0 to 2, got 3"),
    ],
)
def test_bad_dealing_is_refused(call: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        call()


def test_a_data_set_prints_in_one_line() -> None:
    assert "\n" not in str(Dataset("mine", ROWS, LABELS, ROWS, LABELS))
