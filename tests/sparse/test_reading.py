"""Files of sparse rows: the numbers of scikit-learn's reader, and what is wrong by file and line."""

from __future__ import annotations

import _thread
import gzip
import itertools
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sp = pytest.importorskip("scipy.sparse")
from sklearn.datasets import dump_svmlight_file, load_svmlight_file  # noqa: E402

from loosestep.sparse import read_svmlight, svmlight_blocks  # noqa: E402

PLAIN = "1 1:0.5 3:2\n-1 2:1e-3 4:-7\n"


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def to_file(text: str | bytes) -> Path:
        path = tmp_path / "train.svm"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return to_file


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """3000 rows of 500 features, 60 a row and some of them none; 2 MB, so that there are many parts."""
    rng = np.random.default_rng(0)
    rows = sp.random(3000, 500, 0.12, "csr", np.float64, rng)
    rows.data[:] = rng.standard_normal(rows.nnz) * 10.0 ** rng.integers(-12, 12, rows.nnz)
    rows.data[rows.indptr[70] : rows.indptr[75]] = 0
    rows.eliminate_zeros()
    path = tmp_path / "random.svm"
    dump_svmlight_file(rows, rng.standard_normal(3000), str(path), query_id=np.arange(3000), comment="so\n1 2:3")
    return path


def same(found: tuple[Any, ...], wanted: tuple[Any, ...]) -> None:
    assert found[0].shape == wanted[0].shape
    assert found[0].dtype == wanted[0].dtype
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(found[0], name), getattr(wanted[0], name))
    for one, other in zip(found[1:], wanted[1:], strict=True):
        np.testing.assert_array_equal(one, other)


# --- the same as scikit-learn ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_threads", [1, 2, 7])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_reads_what_scikit_learn_reads(written: Path, dtype: Any, n_threads: int) -> None:
    wanted = load_svmlight_file(str(written), dtype=dtype, query_id=True)
    same(read_svmlight(written, dtype=dtype, query_id=True, n_threads=n_threads), wanted)
    same(read_svmlight(written, dtype=dtype), wanted[:2])


@pytest.mark.parametrize(
    "text",
    [
        PLAIN, PLAIN.rstrip(), PLAIN.replace("\n", "\r\n"), PLAIN.replace(" ", " \t "),
        f"\n  \n# all\n{PLAIN}\n#\n", "1 1:2# at once\n", "+1\n", "0 qid:3\n2.5e0 qid:-4 7:1\n", "  3  0:4  \n",
        "1 2:0 3:-0.0\n", "", "# no row\n", "1 007:1\n", "1 1:1\n0 0:1\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("zero_based", ["auto", True, False])
def test_every_layout_is_read_as_by_scikit_learn(write: Any, text: str, zero_based: Any) -> None:
    path = write(text)
    if zero_based is False and " 0:" in text:
        with pytest.raises(ValueError, match="'0:.' is below the least feature, 1"):
            read_svmlight(path, zero_based=zero_based)
        return
    wanted = load_svmlight_file(str(path), dtype=np.float32, zero_based=zero_based)
    same(read_svmlight(path, zero_based=zero_based), wanted)


@pytest.mark.parametrize("ranks", [2, 3, 50])
def test_ranks_share_out_a_file_by_bytes(written: Path, ranks: int) -> None:
    step = -(-written.stat().st_size // ranks)
    parts = [read_svmlight(written, n_features=500, offset=i * step, length=step) for i in range(ranks)]
    for i in (0, ranks - 1):
        given = {"n_features": 500, "offset": i * step, "length": step}
        same(parts[i], load_svmlight_file(str(written), dtype=np.float32, **given))
    whole = read_svmlight(written, n_features=500, zero_based=True)
    same((sp.vstack([rows for rows, _ in parts], "csr"), np.concatenate([y for _, y in parts])), whole)


def test_shares_may_be_cut_at_any_byte(write: Any) -> None:
    path = write("1 1:1\n\n2 1:2 # two\n3 1:3\n\r\n4 1:4")
    for cut in range(1, path.stat().st_size + 3):
        head = read_svmlight(path, n_features=2, length=cut)[1]
        tail = read_svmlight(path, n_features=2, offset=cut)[1]
        assert [*head, *tail] == [1, 2, 3, 4]


# --- numbers -----------------------------------------------------------------------------------------------


FORMS = ["{!r}", "{:.6f}", "{:.3e}", "{:.17g}", "{:.25e}", "{:g}"]


def spellings(count: int) -> list[str]:
    """Numbers of three kinds and both signs, a sixth of them in each form."""
    rng = np.random.default_rng(0)
    drawn = np.stack([rng.random(count), rng.normal(0, 1e6, count), 10 ** rng.uniform(-320, 308, count)])
    values = drawn[rng.integers(3, size=count), np.arange(count)] * rng.choice([1, -1], count)
    parts = zip(FORMS, np.array_split(values, len(FORMS)), strict=True)
    return [form.format(value) for form, part in parts for value in part.tolist()]


def test_a_million_numbers_are_rounded_as_python_rounds(write: Any) -> None:
    texts = spellings(1_000_000)
    path = write("".join(f"{t}\n" for t in texts))
    wanted = np.array([float(t) for t in texts])
    assert read_svmlight(path)[1].tobytes() == wanted.tobytes()
    fits = [t for t, v in zip(texts, wanted, strict=True) if abs(v) < 3e38]
    path = write("".join(f"0 1:{t}\n" for t in fits))
    assert read_svmlight(path)[0].data.tobytes() == np.float32([float(t) for t in fits]).tobytes()


NUMBERS = [
    "0", "-0", "+1", "1.", ".5", "-.5e1", "1E5", "1e+05", "1e-05", "9007199254740993", "9007199254740992.5",
    "18446744073709551616", "0.1", "1e22", "1e23", "123456789012345678901234567890", "1e-400", "4.9e-324",
    "2e-324", "2.2250738585072011e-308", "1.7976931348623157e308", "0e999", "0." + "0" * 400 + "1",
    "1" + "0" * 400 + ".5e-390", "0." + "0" * 800 + "1e400", "0" * 500 + "1e-400", "1e-99999999999999999999",
    "3" * 300,
]  # fmt: skip


@pytest.mark.parametrize("text", NUMBERS)
def test_odd_spellings_are_rounded_as_python_rounds(write: Any, text: str) -> None:
    found = read_svmlight(write(f"{text} 1:{text}\n"), dtype=np.float64)
    wanted = np.float64(float(text)).tobytes()
    assert found[1].tobytes() == wanted
    assert found[0].data.tobytes() == wanted


def test_the_largest_float32_is_read_and_what_rounds_beyond_is_not(write: Any) -> None:
    assert read_svmlight(write("1 1:3.4028235e38\n"))[0].data.tolist() == [np.finfo(np.float32).max]
    path = write("1 1:3.4028236e38\n")
    with pytest.raises(
        ValueError, match="train.svm, line 1: '1:3.4028236e38' holds a value too large for float32$"
    ):
        read_svmlight(path)
    assert read_svmlight(path, dtype=np.float64)[0].data.tolist() == [3.4028236e38]


# --- what is wrong, by file and line -----------------------------------------------------------------------

REFUSED = {
    "x 1:1": "'x' is no target",
    "1,2 1:1": "'1,2' is no target",
    "nan 1:1": "'nan' is no target",
    "1 a:1": "'a:1' is no entry: FEATURE:VALUE is wanted",
    "1 12": "'12' is no entry",
    "1 :1": "':1' is no entry",
    "1 1 :2": "'1' is no entry",
    "1 1.5:2": "'1.5:2' is no entry",
    "1 1:": "'1:' has no finite number behind its colon",
    "1 1:nan": "'1:nan' has no finite number",
    "1 1:-inf": "'1:-inf' has no finite number",
    "1 1:1e999": "'1:1e999' has no finite number",
    "1 1:" + "9" * 400: f"'1:{'9' * 38}...' has no finite number",
    "1 1:2:3": "'1:2:3' has no finite number",
    "1 1:0x10": "'1:0x10' has no finite number",
    "1 1:1e": "'1:1e' has no finite number",
    "1 1:.": "'1:.' has no finite number",
    "1 1:--1": "'1:--1' has no finite number",
    "1 1:1_0": "'1:1_0' has no finite number",
    "1 -1:3": "'-1:3' is below the least feature, 0",
    "1 3:1 3:2": "'3:2' follows feature 3: within a row features must grow",
    "1 3:1 2:2": "'2:2' follows feature 3",
    "1 2147483647:1": "'2147483647:1' is above the greatest feature, 2147483646",
    "1 18446744073709551617:1": "'18446744073709551617:1' is above the greatest feature",
    "1 qid:x 1:1": "'qid:x' is no query: qid:INTEGER is wanted",
    "1 qid:99999999999999999999 1:1": "'qid:99999999999999999999' is no query",
    "1 1:1 qid:2": "'qid:2' is no entry",
    "1 1:\0": r"'1:\\x00' has no finite number",
    "\x1b[2J 1:1": r"'\\x1b\[2J' is no target",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_be_read_is_named_by_file_and_line(write: Any, line: str) -> None:
    path = write(f"{PLAIN}\n# comment\n{line}\n{PLAIN}nor this\n")
    with pytest.raises(ValueError, match=f"train.svm, line 5: {REFUSED[line]}"):
        read_svmlight(path)


@pytest.mark.parametrize("n_threads", [1, 2, 8])
def test_of_many_bad_lines_the_first_is_named(written: Path, n_threads: int) -> None:
    lines = written.read_text().split("\n")
    for number in (2999, 1700, 1234):
        lines[number - 1] = f"1 x{number}"
        written.write_text("\n".join(lines))
        with pytest.raises(ValueError, match=f"random.svm, line {number}: 'x{number}' is no entry"):
            read_svmlight(written, n_threads=n_threads)
        with pytest.raises(ValueError, match=f"random.svm, line {number}: 'x{number}' is no entry"):
            read_svmlight(written, n_threads=n_threads, n_features=500, offset=100_000)


@pytest.fixture(scope="module")
def large(tmp_path_factory: Any) -> Path:
    """10 million entries, 100 a row."""
    path = tmp_path_factory.mktemp("large") / "large.svm"
    row = "1 " + " ".join(f"{i * 37}:0.{i:04d}" for i in range(100)) + "\n"
    path.write_text(row * 100_000)
    return path


def test_ten_million_entries_and_one_that_cannot_be_read(large: Path, tmp_path: Path) -> None:
    rows, targets = read_svmlight(large)
    assert (rows.nnz, targets.sum()) == (10_000_000, 100_000)
    assert rows.sum() == pytest.approx(100_000 * 0.495, rel=1e-5)
    text, bad = large.read_bytes(), tmp_path / "bad.svm"
    at = text.index(b"\n", 48_212 * (len(text) // 100_000))
    bad.write_bytes(text[:at] + b" a:1" + text[at:])
    with pytest.raises(ValueError, match="bad.svm, line 48213: 'a:1' is no entry"):
        read_svmlight(bad)
    with pytest.raises(ValueError, match="bad.svm, line 48213: 'a:1' is no entry"):
        next(iter(svmlight_blocks(bad, rows=10)))


@pytest.mark.usefixtures("ctrl_c_is_heard")
def test_ctrl_c_ends_it(large: Path) -> None:
    timer = threading.Timer(0.1, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        all(len(read_svmlight(path)) for path in itertools.repeat(large))


def test_features_beyond_those_asked_for_are_refused(write: Any) -> None:
    path = write("1 1:1 4:1\n")
    assert read_svmlight(path, n_features=9)[0].shape == (1, 9)
    assert read_svmlight(path, n_features=4)[0].indices.tolist() == [0, 3]
    assert read_svmlight(path, n_features=5, zero_based=True)[0].indices.tolist() == [1, 4]
    for given in (
        {"n_features": 3},
        {"n_features": 4, "zero_based": True},
        {"n_features": 3, "zero_based": False},
    ):
        with pytest.raises(ValueError, match="train.svm, line 1: '4:1' is above the greatest feature, 3"):
            read_svmlight(path, **given)
    path = write("1 1:1\n2 1:1 4:1\n3 4:1\n4 0:1\n")
    with pytest.raises(
        ValueError, match="train.svm, line 2: feature 4 is above the greatest, 3: the file counts from"
    ):
        read_svmlight(path, n_features=4)


def test_a_row_without_a_query_is_refused_where_queries_are_wanted(write: Any) -> None:
    with pytest.raises(ValueError, match="train.svm, line 2: has no qid: after its target"):
        read_svmlight(write("1 qid:1 1:1\n1 1:1\n"), query_id=True)


def test_a_packed_file_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "train.svm.gz"
    path.write_bytes(gzip.compress(PLAIN.encode()))
    with pytest.raises(ValueError, match="train.svm.gz is packed by gzip: unpack it first"):
        read_svmlight(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            PLAIN.encode("utf-8-sig"),
            "line 1: begins with a byte order mark .the bytes ef bb bf.: save it as UTF-8 with",
        ),
        (b"\xef\xbb\xbf", "line 1: begins with a byte order mark"),
        (PLAIN.encode("utf-16"), "line 1: begins with the byte order mark of UTF-16 .ff fe.: save it as UTF-8"),
        (b"\xfe\xff" + PLAIN.encode("utf-16-be"), "line 1: begins with the byte order mark of UTF-16 .fe ff."),
        (PLAIN.encode() + PLAIN.encode("utf-8-sig"), r"line 3: '\\xef\\xbb\\xbf1' is no target"),
        (PLAIN.encode() + b"1 1:2\xc2\xa0\n", r"line 3: '1:2\\xc2\\xa0' has no finite number"),
    ],
)
def test_marks_that_an_editor_does_not_show_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "train.svm"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"train.svm, {words}"):
        read_svmlight(path)
    with pytest.raises(ValueError, match=f"train.svm, {words}"):
        list(svmlight_blocks(path))


def test_what_is_no_file_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing.svm"):
        read_svmlight(tmp_path / "nothing.svm")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ValueError, match="is no regular file"):
            read_svmlight(path)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"dtype": np.int32}, "dtype must be float32 or float64, got int32"),
        ({"zero_based": "no"}, "zero_based must be True, False or 'auto', got 'no'"),
        ({"n_features": 0}, "n_features must be at least 1, got 0"),
        ({"n_features": 2**31}, "n_features must be at most 2147483646"),
        ({"offset": 3}, "n_features must be given with offset or length"),
        ({"offset": -1}, "offset must be at least 0, got -1"),
        ({"length": 0, "n_features": 3}, "length must be at least 1, or -1 for all that follows; got 0"),
        ({"n_threads": 0}, "n_threads must be at least 1, got 0"),
    ],
)
def test_bad_options_are_refused(write: Any, given: dict[str, Any], sentence: str) -> None:
    path = write(PLAIN)
    with pytest.raises(ValueError, match=sentence):
        read_svmlight(path, **given)
    with pytest.raises(ValueError, match=sentence):
        svmlight_blocks(path, **given)


# --- long lines, long files, files that change -------------------------------------------------------------


@pytest.mark.parametrize("n_threads", [1, 3])
def test_rows_longer_than_a_window_are_read(write: Any, n_threads: int) -> None:
    long = "1 " + " ".join(f"{i}:{i % 7}.25" for i in range(1, 120_001))
    path = write(f"{PLAIN}{long}\n{PLAIN}{long}\n# {'comment ' * 100_000}\n{PLAIN}{long}")
    rows, targets = read_svmlight(path, n_threads=n_threads)
    assert targets.tolist() == [1, -1, 1, 1, -1, 1, 1, -1, 1]
    assert np.diff(rows.indptr).tolist() == [2, 2, 120_000, 2, 2, 120_000, 2, 2, 120_000]
    assert rows[8].sum() == rows[2].sum() == sum(i % 7 + 0.25 for i in range(1, 120_001))


@pytest.mark.parametrize("rows", [1, 999, 1000, 3000, 10_000])
@pytest.mark.parametrize("given", [{}, {"n_features": 500, "zero_based": True}])
def test_blocks_put_together_are_the_whole(written: Path, rows: int, given: dict[str, Any]) -> None:
    blocks = list(svmlight_blocks(written, rows=rows, query_id=True, **given))
    sizes = [len(targets) for _, targets, _ in blocks]
    assert sizes == [rows] * (3000 // rows) + ([3000 % rows] if 3000 % rows else [])
    matrices, targets, queries = zip(*blocks, strict=True)
    joined = (sp.vstack(matrices, "csr"), np.concatenate(targets), np.concatenate(queries))
    same(joined, read_svmlight(written, query_id=True, **given))


def test_blocks_of_a_file_of_many_waves(large: Path) -> None:
    sizes = [(len(y), rows.shape[1], rows.nnz) for rows, y in svmlight_blocks(large, rows=30_001, n_threads=1)]
    assert sizes == [(30_001, 3664, 3_000_100)] * 3 + [(9_997, 3664, 999_700)]


def test_blocks_of_a_part_are_those_of_the_file(written: Path) -> None:
    given = {"n_features": 500, "offset": 10_000, "length": 400_000}
    blocks = list(svmlight_blocks(written, rows=100, **given))
    assert np.array_equal(np.concatenate([y for _, y in blocks]), read_svmlight(written, **given)[1])


def test_a_bad_line_is_found_before_the_first_block_or_in_its_own(write: Any) -> None:
    path = write("1 1:1\n" * 1_000_000 + "nor this\n")
    with pytest.raises(ValueError, match="train.svm, line 1000001: 'nor' is no target"):
        next(iter(svmlight_blocks(path, rows=10)))
    blocks = svmlight_blocks(path, rows=500_000, n_features=1, zero_based=False, n_threads=1)
    assert next(blocks)[1].sum() == 500_000
    with pytest.raises(ValueError, match="train.svm, line 1000001: 'nor' is no target"):
        list(blocks)


def test_an_empty_file_has_no_block(write: Any) -> None:
    assert list(svmlight_blocks(write("# nothing\n"))) == []


def test_a_file_that_becomes_shorter_is_an_error(write: Any) -> None:
    path = write("1 1:1\n" * 3_000_000)
    blocks = svmlight_blocks(path, rows=100_000, n_features=1, zero_based=False, n_threads=1)
    next(blocks)
    os.truncate(path, 5_000_000)
    with pytest.raises(OSError, match="it became shorter while it was read: '.*train.svm'"):
        list(blocks)
