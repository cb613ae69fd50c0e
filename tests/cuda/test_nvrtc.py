"""Every kernel, compiled for the cards of today with the compiler and the options of a run: no card is needed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.cuda.emulation import KERNELS, ROOT, instances

from loosestep.cuda import nvrtc, sources
from loosestep.cuda.failures import CardFailed

FILES = sorted(path.stem for path in KERNELS.glob("*.cu"))
INCLUDE = (ROOT, ROOT / "csrc")
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
MOST_REGISTERS = 128
"""Of a thread: two blocks of 256 still share a multiprocessor."""
MOST_SPILLED = 16
"""Bytes of a thread: quotients of float64 call a routine that saves a register or two."""


@pytest.fixture(scope="module")
def compiler() -> nvrtc.Compiler:
    try:
        return nvrtc.compiler()
    except CardFailed as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file", FILES)
def test_a_file_of_kernels_compiles_and_keeps_to_registers(
    compiler: nvrtc.Compiler, file: str, architecture: str
) -> None:
    wanted = instances(KERNELS / f"{file}.cu")
    found = compiler.compiled(file, wanted, architecture, INCLUDE, ["--ptxas-options=-v"])
    assert len(set(found.names)) == len(wanted) > 0
    assert found.cubin[:4] == b"\x7fELF"
    assert "warning" not in found.log
    assert len(re.findall(r"Used (\d+) registers", found.log)) == len(wanted)
    assert max(map(int, re.findall(r"Used (\d+) registers", found.log))) <= MOST_REGISTERS
    assert max(map(int, re.findall(r"(\d+) bytes spill", found.log))) <= MOST_SPILLED


@pytest.mark.parametrize("file", FILES)
def test_no_kernel_of_a_file_is_left_out(file: str) -> None:
    text = (KERNELS / f"{file}.cu").read_text()
    kernels = re.findall(r"__global__\s+void\s+(?:__launch_bounds__\(\w+\)\s+)?(\w+)\(", text)
    assert set(kernels) == {name.split("<")[0] for name in instances(KERNELS / f"{file}.cu")}


def ptx(compiler: nvrtc.Compiler, kernel: str) -> str:
    with compiler.program(
        '#include "kernels/elementwise.cu"\nusing namespace loosestep;', "elementwise.cu"
    ) as made:
        compiler.call("AddNameExpression", made, kernel.encode())
        options = [*nvrtc.OPTIONS, "--gpu-architecture=sm_90", *(f"-I{folder}" for folder in INCLUDE)]
        compiler.compile(made, options, kernel)
        return compiler.told("PTX", made).decode()


@pytest.mark.parametrize(
    ("kernel", "loads", "stores"),
    [
        ("elementwise<Copy, float>", 1, 1),
        ("elementwise<Elastic, float>", 2, 2),
        ("elementwise<Nesterov, bfloat16>", 3, 2),
        ("elementwise<Adam, float16>", 4, 3),
    ],
)
def test_sixteen_bytes_move_at_once_and_nothing_is_read_in_vain(
    compiler: nvrtc.Compiler, kernel: str, loads: int, stores: int
) -> None:
    text = ptx(compiler, kernel)
    assert len(re.findall(r"ld\.global\.v4", text)) == loads
    assert len(re.findall(r"st\.global\.v4", text)) == stores


@pytest.mark.parametrize("kind", ["float", "double", "float16"])
def test_arithmetic_is_that_of_the_cpu(compiler: nvrtc.Compiler, kind: str) -> None:
    """Adam has products, sums, a quotient, a root: none contracted, none approximate, nothing flushed to zero."""
    text = ptx(compiler, f"elementwise<Adam, {kind}>")
    assert "fma." not in text
    assert "ftz" not in text
    assert "approx" not in text
    wide = "f64" if kind == "double" else "f32"
    assert re.search(rf"\bdiv\.rn\.{wide}", text)
    assert re.search(rf"\bsqrt\.rn\.{wide}", text)


def test_what_does_not_compile_is_one_sentence(compiler: nvrtc.Compiler) -> None:
    with pytest.raises(CardFailed) as caught:
        compiler.compiled("elementwise", ["elementwise<Nobody, float>"], "sm_90", INCLUDE)
    text = str(caught.value)
    assert text.startswith(f"NVRTC {compiler.version} cannot compile elementwise<Nobody, float> of elementwise.cu")
    assert 'error: identifier "Nobody" is undefined' in text
    assert "\n" not in text


def test_an_architecture_that_is_none_is_said(compiler: nvrtc.Compiler) -> None:
    with pytest.raises(CardFailed, match="for sm_1: nvrtc: error: invalid value for --gpu-architecture"):
        compiler.compiled("elementwise", ["elementwise<Sgd, float>"], "sm_1", INCLUDE)


def test_without_the_compiler_it_says_what_to_install() -> None:
    with pytest.raises(CardFailed, match="libnvrtc.so.99, which is not here: pip install nvidia-cuda-nvrtc"):
        nvrtc.compiler((99,))


def test_what_was_installed_is_what_is_here() -> None:
    """Else tests would be of other kernels than those that run: install again."""
    installed = {path.relative_to(sources.folder()): path.read_bytes() for path in texts(sources.folder())}
    here = {path.relative_to(ROOT): path.read_bytes() for path in texts(KERNELS)}
    here |= {path.relative_to(ROOT / "csrc"): path.read_bytes() for path in texts(ROOT / "csrc/rules")}
    assert installed == here


def texts(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
