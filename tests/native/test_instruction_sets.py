"""Code for one instruction set must not leak into another's path.

Where two files define the same inline function, the linker keeps one: compiled for AVX-512, perhaps, and
called on a machine without it. So files that are compiled once per instruction set may define nothing but
what carries its name.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
FLAGS = {"avx2": ["-mavx2"], "avx512": ["-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq"]}

pytestmark = [
    pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86 instruction sets"),
    pytest.mark.skipif(not (shutil.which("g++") and shutil.which("nm")), reason="needs g++ and nm"),
]


@pytest.mark.parametrize("isa", FLAGS)
@pytest.mark.parametrize(
    "source",
    ["cpu/kernels.cpp", "cpu/streams.cpp", "codecs/kernels.cpp", "models/fm/kernels.cpp", "models/mf/kernels.cpp"],
)
def test_only_tables_leave_an_instruction_set(isa: str, source: str, tmp_path: Path) -> None:
    made = tmp_path / "made.o"
    # Without optimization every function that is not forced inline stays: the strictest case.
    command = ["g++", "-std=c++20", "-O0", "-fPIC", *FLAGS[isa], f"-DLOOSESTEP_ISA={isa}", f"-I{CSRC}"]
    subprocess.run([*command, "-c", str(CSRC / source), "-o", str(made)], check=True, timeout=250)
    listed = subprocess.run(
        ["nm", "--defined-only", "--extern-only", "-C", str(made)], check=True, capture_output=True, text=True
    ).stdout
    names = [line.split(maxsplit=2)[2] for line in listed.splitlines()]
    assert names
    allowed = (f"loosestep::{isa}::", "DW.ref.__gxx_personality")  # the latter is no code: where exceptions go
    assert [name for name in names if not name.startswith(allowed)] == []
