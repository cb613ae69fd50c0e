"""Kernels executed on the CPU: built by g++ over `emulated.hpp`, loaded by ctypes; kept by what went in.

To add a kernel: write it in kernels/NAME.cu, list what tests should make of it in a line `// instances:` at the
top of that file, and in a test do `emulate("NAME").launch("kernel<float>", grid, block, [array, np.int64(5)])`.
Run it `backwards` too: a kernel that lacks a barrier then gives other bits.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import mmap
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from getpass import getuser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).parents[3]
KERNELS = ROOT / "kernels"
HERE = Path(__file__).parent
FLAGS = ["-std=c++17", "-O1", "-fPIC", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-ffp-contract=off"]
FLAGS += ["-fsanitize=alignment", "-fsanitize-recover=alignment", "-fvisibility=hidden"]

Triple = tuple[int, ...]


def needs_compiler() -> None:
    """Kernels cannot be executed without g++: said, never passed over."""
    if not shutil.which("g++"):
        pytest.skip("kernels are emulated by g++, which is not here")


def rules() -> list[str]:
    """The types of all rules, as the list in all.hpp has them."""
    listed = re.search(r"Elementwise =\s*List<(.*?)>;", (ROOT / "csrc/rules/all.hpp").read_text(), re.S)
    assert listed
    return re.findall(r"\w+", listed[1])


def instances(source: Path) -> list[str]:
    """The kernels of a file, by its lines `// instances:`; RULE stands for every rule."""
    lines = re.findall(r"^// instances: (.*)$", source.read_text(), re.M)
    listed = [each for line in lines for each in re.split(r",\s*(?![^<]*>)", line)]
    return [made for each in listed for made in meant(each)]


def meant(instance: str) -> list[str]:
    """One for each type that a word stands for."""
    return [instance.replace("RULE", each) for each in rules()] if "RULE" in instance else [instance]


@cache
def emulate(name: str, *, only: str = "") -> Library:
    """A file of kernels/ (or of this folder), ready to run; `only` those instances whose text holds it."""
    needs_compiler()
    source = KERNELS / f"{name}.cu" if (KERNELS / f"{name}.cu").exists() else HERE / f"{name}.cu"
    wanted = [each for each in instances(source) if only in each]
    return Library(wanted, built(source, wanted))


def emulate_kernel(file: str, kernel: str) -> Library:
    """What holds this kernel and others of its type: a file of many is built in parts."""
    return emulate(file, only=kernel[kernel.rfind(",") :] if file == "elementwise" else "")


def built(source: Path, wanted: Sequence[str]) -> Path:
    """The shared library, made by whoever comes first and kept by what went into it."""
    text = entries(source, wanted)
    key = hashlib.sha256(" ".join([text, *FLAGS, *map(Path.read_text, inputs())]).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"loosestep-emulation-{getuser()}" / key
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        library = folder / f"{source.stem}.so"
        if not library.exists():
            compiled(text, folder, library)
    return library


def inputs() -> list[Path]:
    """Whatever a kernel may include."""
    return sorted(
        [*KERNELS.glob("*"), *(ROOT / "csrc/rules").glob("*"), HERE / "emulated.hpp", *HERE.glob("*.cu")]
    )


def entries(source: Path, wanted: Sequence[str]) -> str:
    """A function for each instance that launches it."""
    head = f'#include "tests/cuda/emulated/emulated.hpp"\n#include "{source}"\nnamespace loosestep {{}}\n'
    use = "using namespace loosestep;\n"
    export = 'extern "C" __attribute__((visibility("default"))) const char* '
    return (
        head
        + use
        + "\n".join(
            f"{export}launch_{i}(const emulated::Shape* shape, void** given) "
            f"{{ return emulated::launch(*shape, given, {instance}); }}"
            for i, instance in enumerate(wanted)
        )
    )


def compiled(text: str, folder: Path, library: Path) -> None:
    """In two steps: linked without the sanitizer's library, whose only function `emulated.hpp` has."""
    (folder / "entries.cpp").write_text(text)
    made = folder / "made.so"
    include = [f"-I{ROOT}", f"-I{ROOT / 'csrc'}"]
    run("g++", *FLAGS, *include, "-c", str(folder / "entries.cpp"), "-o", str(folder / "entries.o"))
    run("g++", "-shared", str(folder / "entries.o"), "-o", str(made))
    made.rename(library)


def fenced(values: NDArray[Any], *, at_end: bool) -> NDArray[Any]:
    """A copy that begins, or ends, where pages begin that nobody may touch."""
    page = mmap.PAGESIZE
    inside = -(-max(values.nbytes, 1) // page) * page
    room = np.frombuffer(mmap.mmap(-1, inside + 2 * page), np.uint8)
    for fence in (0, page + inside):
        assert not ctypes.CDLL(None).mprotect(ctypes.c_void_p(room.ctypes.data + fence), page, 0)
    begin = page + (inside - values.nbytes if at_end else 0)
    copy = room[begin : begin + values.nbytes].view(values.dtype)
    copy[:] = values
    return copy


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]


class Shape(ctypes.Structure):
    """Of a launch, as `emulated::Shape`."""

    _fields_ = (("grid", ctypes.c_uint * 3), ("block", ctypes.c_uint * 3), ("shared", ctypes.c_uint),
                ("backwards", ctypes.c_uint))  # fmt: skip


class Library:
    """The kernels of one file, by name."""

    def __init__(self, names: Sequence[str], path: Path) -> None:
        library = ctypes.CDLL(str(path))
        self.entries = {name: getattr(library, f"launch_{i}") for i, name in enumerate(names)}
        for entry in self.entries.values():
            entry.restype = ctypes.c_char_p

    def launch(
        self,
        name: str,
        grid: Triple,
        block: Triple,
        given: Sequence[Any],
        shared: int = 0,
        *,
        backwards: bool = False,
    ) -> None:
        """Arrays are passed by address, numpy's scalars (structured ones too) by value. A failure is an error."""
        kept = [np.asarray(each.ctypes.data if isinstance(each, np.ndarray) else each) for each in given]
        places = (ctypes.c_void_p * len(kept))(*(each.ctypes.data for each in kept))
        shape = Shape(triple(grid), triple(block), shared, backwards)
        error = self.entries[name](ctypes.byref(shape), places)
        if error is not None:
            raise RuntimeError(f"{name}: {error.decode()}")


def triple(given: Triple) -> Any:
    return (ctypes.c_uint * 3)(*given, *(1,) * (3 - len(given)))
