"""The examples: README and docs show how the parallel ones differ, and all of them learn."""

from __future__ import annotations

import gzip
import lzma
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.mpi.jobs import ended, needs_mpi, script

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SHOWN = (ROOT / "README.md").read_text() + (ROOT / "docs" / "torch_examples.md").read_text()
PAIRS = sorted(file.parent.name for file in EXAMPLES.glob("*/single.py"))


@pytest.mark.parametrize("name", PAIRS)
def test_the_pages_show_the_real_difference(name: str) -> None:
    files = [f"examples/{name}/single.py", f"examples/{name}/parallel.py"]
    labels = [f"--label={file}" for file in files]
    told = subprocess.run(["diff", "-U1", *labels, *files], capture_output=True, text=True, cwd=ROOT, check=False)
    assert told.returncode == 1, told.stderr
    changed = [line for line in told.stdout.splitlines()[2:] if line.strip(" +-") and line[0] in "+-"]
    assert sum(line[0] == "+" for line in changed) == 5
    assert sum(line[0] == "-" for line in changed) == 3
    assert told.stdout in re.findall(r"^```diff\n(.*?)^```$", SHOWN, re.DOTALL | re.MULTILINE)


def idx(array: np.ndarray[Any, Any]) -> bytes:
    """The bytes of a gzipped IDX file."""
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes())


def pictures(folder: Path) -> list[object]:
    """A bright band on noise; its place is the class."""
    random = np.random.default_rng(0)
    for part, rows in (("train", 600), ("t10k", 100)):
        labels = np.arange(rows) % 10
        bands = np.abs(np.arange(28) - 2 * labels[:, None] - 4) < 2
        noisy = 180 * bands[:, :, None] + random.integers(0, 60, (rows, 28, 28))
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(noisy))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(labels))
    return ["--folder", folder, "--rows", 600, "--batch", 10, "--epochs", 4, "--rate", 0.01]


def sentences(folder: Path) -> list[object]:
    """Forty words, each with one tag."""
    random = np.random.default_rng(0)
    for part, rows in (("train", 300), ("test", 50)):
        with lzma.open(folder / f"ud_english_ewt_{part}.tsv.xz", "wt") as file:
            for _ in range(rows):
                words = [f"w{number}" for number in random.integers(0, 40, random.integers(3, 9))]
                tags = ["NOUN" if int(word[1:]) % 2 else "VERB" for word in words]
                file.write("\n".join(f"{word}\t{tag}" for word, tag in zip(words, tags, strict=True)) + "\n\n")
    return [folder, "--rows", 300, "--batch", 5, "--epochs", 4]


SMALL: dict[str, Callable[[Path], list[object]]] = {"fashion_mnist": pictures, "tagging": sentences}


def accuracies(out: str) -> list[float]:
    return [float(number) for number in re.findall(r"test accuracy ([\d.]+)", out)]


def test_every_example_has_small_data_here() -> None:
    assert list(SMALL) == PAIRS


@pytest.mark.slow  # without loosestep: by `test_the_pages_show_the_real_difference` it is the parallel one's rest
@pytest.mark.parametrize("name", PAIRS)
def test_alone_it_learns(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    given = [*SMALL[name](tmp_path), "--save", tmp_path / "saved.pt"]
    command = [sys.executable, EXAMPLES / name / "single.py", *given]
    told = subprocess.run(
        [*map(str, command)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert told.returncode == 0, told.stderr
    assert accuracies(told.stdout)[-1] > 0.9, told.stdout


@needs_mpi
@pytest.mark.parametrize(
    ("name", "strategy"), [("fashion_mnist", "LocalSGD(period=4)"), ("tagging", "EASGD(period=4)")]
)
def test_in_parallel_it_learns_and_rank_0_alone_tells_and_saves(name: str, strategy: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    text = (EXAMPLES / name / "parallel.py").read_text()
    program = script(tmp_path, text.replace("loosestep.LocalSGD(period=8)", f"loosestep.{strategy}"))
    given = [*SMALL[name](tmp_path), "--save", tmp_path / "saved.pt"]
    job = ended("-n", 2, program, *given, seconds=120)
    assert job.process.returncode == 0, job.err
    found = accuracies(job.out)
    assert len(found) == 4
    assert found[-1] > 0.9, job.out
    weights = torch.load(tmp_path / "saved.pt", weights_only=True)
    assert all(value.isfinite().all() for value in weights.values())
