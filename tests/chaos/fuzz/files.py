"""Mutated files of data: a ValueError that names the file, or numbers that another reader finds there too."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
from tests.chaos.draw import sentence

from loosestep.data import idx, npz
from loosestep.sparse import read_svmlight, svmlight_blocks

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from tests.chaos.draw import Draw

ALL = 6000
ROWS = 40


# --- bytes -------------------------------------------------------------------------------------------------


def mutated(draw: Draw, raw: bytes) -> bytes:
    """With a few bits flipped, bytes lost, put in or overwritten, or without its end."""
    content = bytearray(raw)
    for _ in range(draw.choice((1, 1, 1, 2, 5, 20))):
        place = draw.randrange(len(content) + 1)
        how = draw.randrange(10)
        if how < 5 and place < len(content):
            content[place] ^= 1 << draw.randrange(8)
        elif how < 7:
            del content[place : place + draw.choice((1, 2, 8, 50))]
        elif how < 8:
            content[place:place] = draw.randbytes(draw.choice((1, 2, 8)))
        elif how < 9:
            content[place : place + 1] = bytes([draw.choice((0, 127, 128, 255))])
        else:
            del content[place:]
    return bytes(content)


class Planted:
    """What a reader that unpickles would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("unpickled",)


# --- .npz --------------------------------------------------------------------------------------------------


def archive(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return made.getvalue()


def array(header: str, content: bytes) -> bytes:
    """A .npy file with that header."""
    text = header.encode("latin1")
    text += b" " * (63 - (len(text) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def read_npz(path: Path) -> str:
    """`value` of finite shape, or a sentence with the file's name; it never runs what it reads."""
    try:
        found = npz.read(path)
    except ValueError as error:
        return sentence(error, path)
    finally:
        assert not os.path.exists("unpickled"), "a pickle was run"
    assert len(found.x_train) == len(found.y_train)
    return "value"


def npz_bytes(draw: Draw) -> str:
    random, made = np.random.default_rng(0), io.BytesIO()
    save = draw.choice((np.savez, np.savez_compressed))
    save(made, x=random.standard_normal((ROWS, 6)).astype(np.float32), y=np.arange(ROWS) % 3)
    path = draw.folder / "data.npz"
    path.write_bytes(mutated(draw, made.getvalue()))
    return read_npz(path)


def npz_headers(draw: Draw) -> str:
    """Whole archives whose arrays say odd things of themselves."""
    kind = draw.choice(("<f4", "|O", "<c16", "<M8[s]", "|S0", "<U4", "|V0", "<f4, ", ">f8", "|b1"))
    shape = draw.choice((
        "(10,)", "(10, 0)", "(0,)", "()", "(-1,)", "(10, 1000000000000)", "(400000000,)", "(1,)*70", "[10]",
        "None", "(10, 10)", "(" + "1," * 40 + ")", "(18446744073709551616,)", "(1.5,)",
    ))  # fmt: skip
    header = draw.choice((
        f"{{'descr': '{kind}', 'fortran_order': {draw.choice(('False', 'True', '1'))}, 'shape': {shape}, }}",
        "{" * 5000, "__import__('os').mkdir('unpickled')", "", "{}", "[]", "'" * 100,
        "{'descr': [('a', '<f4'), ('b', '|O')], 'fortran_order': False, 'shape': (10,), }",
    ))  # fmt: skip
    body = pickle.dumps([Planted()] * 10) if draw.random() < 0.5 else b"\0" * 400
    good = array("{'descr': '<i8', 'fortran_order': False, 'shape': (10,), }", np.arange(10).tobytes())
    path = draw.folder / "data.npz"
    method = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2))
    path.write_bytes(archive({"x.npy": array(header, body), "y.npy": good}, method))
    return read_npz(path)


# --- IDX ---------------------------------------------------------------------------------------------------

PLAIN = bytes((0, 0, 8, 3)) + struct.pack(">III", 4, 5, 5) + bytes(range(100))


def read_idx(path: Path) -> str:
    try:
        found = idx.read(path)
    except ValueError as error:
        return sentence(error, path)
    content = gzip.decompress(path.read_bytes())
    assert found.tobytes() == content[-found.size :] if found.size else found.tobytes() == b""
    return "value"


def idx_packed(draw: Draw) -> str:
    path = draw.folder / "images.gz"
    path.write_bytes(mutated(draw, gzip.compress(PLAIN)))
    return read_idx(path)


def idx_plain(draw: Draw) -> str:
    """Mutated before it was packed; or with a header of very many dimensions."""
    head = bytes((0, 0, 8, draw.choice((0, 1, 3, 65, 255))))
    content = head + struct.pack(">I", draw.choice((0, 1, 2**32 - 1))) * 255
    path = draw.folder / "images.gz"
    path.write_bytes(gzip.compress(mutated(draw, PLAIN) if draw.random() < 0.7 else content))
    return read_idx(path)


# --- svmlight ----------------------------------------------------------------------------------------------

NUMBERS = (
    "1", "-1", "0", "3", "17", "0.25", "1e-7", "1e400", "1e-400", "nan", "inf", "-inf", "0x10", "1_0", "1.", ".5",
    "+1", "--1", "1e", "1e+", "9" * 400, "0." + "0" * 400 + "1", "1" * 5000, "\uff11", "",
    "1e99999999999999999999", "2147483648", "0" * 10_000 + "1", "4294967296", "18446744073709551616", "1,5",
    "1e-99999999999999999999",
)  # fmt: skip


def read_svm(draw: Draw, path: Path) -> str:
    """The numbers of scikit-learn where it reads the file too, the same ones in blocks; or a sentence."""
    zero_based: Any = draw.choice((True, False, "auto"))
    options = {"zero_based": zero_based, "n_threads": draw.choice((1, 2, 3))}
    try:
        matrix, targets = read_svmlight(path, **options)
    except ValueError as error:
        return sentence(error, path)
    assert matrix.nnz == 0 or (matrix.indices.min() >= 0 and matrix.indices.max() < matrix.shape[1])
    assert (np.diff(matrix.indptr) >= 0).all()
    assert np.isfinite(matrix.data).all()
    blocks = list(svmlight_blocks(path, rows=draw.choice((1, 3, 1000)), **options))
    assert sum(len(block[1]) for block in blocks) == len(targets)
    assert b"".join(block[1].tobytes() for block in blocks) == targets.tobytes()
    assert b"".join(block[0].data.tobytes() for block in blocks) == matrix.data.tobytes()
    return compared(path, zero_based, matrix, targets)


def compared(path: Path, zero_based: Any, matrix: Any, targets: NDArray[Any]) -> str:
    """With scikit-learn's reader."""
    from sklearn.datasets import load_svmlight_file

    try:
        theirs, labels = load_svmlight_file(str(path), dtype=np.float32, zero_based=zero_based)
    except (ValueError, OverflowError):
        return "value-that-scikit-learn-refuses"
    assert theirs.nnz == matrix.nnz, f"{matrix.nnz} values, and {theirs.nnz} by scikit-learn"
    assert (theirs.data == matrix.data).all()
    assert (theirs.indices == matrix.indices).all()
    assert (labels == targets).all()
    return "value"


def svm_bytes(draw: Draw) -> str:
    lines = []
    for row in range(ROWS):
        features = " ".join(f"{j}:{row * j % 7 / 3}" for j in range(1 + row % 3, 30, 3))
        lines.append(f"{row % 2} qid:{row} {features}{' # note' if row % 5 == 0 else ''}\n")
    path = draw.folder / "rows.svm"
    path.write_bytes(mutated(draw, "".join(lines).encode()))
    return read_svm(draw, path)


def svm_numbers(draw: Draw) -> str:
    """Lines of numbers as people, and other programs, write them."""
    rows = []
    for _ in range(draw.randrange(8)):
        columns = [draw.choice((draw.choice(NUMBERS), str(draw.randrange(50)))) for _ in range(draw.randrange(6))]
        pairs = " ".join(f"{column}:{draw.choice(NUMBERS)}" for column in columns)
        tail = draw.choice(("", "", " # note", " qid:3", "\t", "\r", "\0", "\x0b", " :", " 1:", ":1", " 1:2:3"))
        rows.append(f"{draw.choice(NUMBERS)} {pairs}{tail}")
    path = draw.folder / "rows.svm"
    path.write_bytes(draw.choice(("\n", "\r\n", "\n\n")).join(rows).encode() + draw.choice((b"", b"\n")))
    return read_svm(draw, path)


KINDS = {each.__name__: each for each in (npz_bytes, npz_headers, idx_packed, idx_plain, svm_bytes, svm_numbers)}
