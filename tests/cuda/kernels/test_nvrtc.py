"""Every kernel, compiled for the GPUs of today with the compiler and the options of a run: no GPU is needed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.cuda.emulated.emulation import KERNELS, ROOT, instances, rules
from tests.cuda.kernels.test_elementwise import scalars

from loosestep import _core
from loosestep.cuda import cache, nvrtc, sources
from loosestep.cuda.elementwise import kernel
from loosestep.foundation.errors import CudaError

FILES = sorted(path.stem for path in KERNELS.glob("*.cu"))
INCLUDE = (ROOT, ROOT / "csrc")
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
COMPILED = [
    pytest.param(file, architecture, marks=() if (place + number) % 3 == 0 else pytest.mark.slow)
    for number, file in enumerate(FILES)
    for place, architecture in enumerate(ARCHITECTURES)
]
"""Files and architectures take turns: what is wrong for one alone is found by `-m slow`, and on a card."""
MOST_REGISTERS = 128
"""Of a thread: two blocks of 256 still share a multiprocessor."""
LONGEST_NAME = 200
"""It is the name of a file, too."""
MOST_SPILLED = 24
"""Bytes of a thread: quotients and roots of float64 call routines that save a register or two each."""


def compiler_of(majors: tuple[int, ...]) -> nvrtc.Compiler:
    try:
        return nvrtc.compiler(majors)
    except CudaError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def compiler() -> nvrtc.Compiler:
    return compiler_of(nvrtc.MAJORS)


@pytest.mark.parametrize(("file", "architecture"), COMPILED)
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
def test_the_compiler_of_cuda_12_takes_it_too(file: str) -> None:
    """It refuses what that of CUDA 13 lets pass: functions that are for the host by default, as lambdas are."""
    found = compiler_of((12,)).compiled(file, instances(KERNELS / f"{file}.cu"), "sm_90", INCLUDE)
    assert max(map(len, found.names)) <= LONGEST_NAME
    assert "warning" not in found.log


@pytest.mark.parametrize("file", FILES)
def test_no_kernel_of_a_file_is_left_out(file: str) -> None:
    text = (KERNELS / f"{file}.cu").read_text()
    kernels = re.findall(r"__global__\s+void\s+(?:__launch_bounds__\(\w+\)\s+)?(\w+)\(", text)
    assert set(kernels) == {name.split("<")[0] for name in instances(KERNELS / f"{file}.cu")}


def ptx(compiler: nvrtc.Compiler, *kernels: str, file: str = "elementwise") -> str:
    source = f'#include "kernels/{file}.cu"\nusing namespace loosestep;'
    with compiler.program(source, f"{file}.cu") as made:
        for kernel in kernels:
            compiler.call("AddNameExpression", made, kernel.encode())
        options = [*nvrtc.OPTIONS, "--gpu-architecture=sm_90", *(f"-I{folder}" for folder in INCLUDE)]
        compiler.compile(made, options, f"{file}.cu")
        return compiler.told("PTX", made).decode()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_rules_fields_are_as_long_there_as_here(compiler: nvrtc.Compiler, dtype: str) -> None:
    """They travel by value: both compilers must lay them out alike."""
    names = _core.rules.names()
    text = ptx(compiler, *(kernel(op, dtype) for op in names))
    entries = dict(re.findall(r"\.entry \w*?elementwiseINS_\d+([A-Z]\w*?)E[fd]NS.*?\((.*?)\)", text, re.S))
    for op, rule in zip(names, rules(), strict=True):
        rule_size, places_size, length = map(size_of, entries[rule].split(","))
        assert rule_size == len(_core.rules.fields(op, dtype == "float64", tuple(scalars(op))))
        assert places_size == 8 * _core.rules.signature(op)[1]
        assert length == 8


def size_of(parameter: str) -> int:
    """Of a kernel's parameter in PTX: bytes of a structure, or a number."""
    array = re.search(r"\[(\d+)\]", parameter)
    number = re.search(r"\.[bfu](\d+)", parameter)
    assert number
    return int(array[1]) if array else int(number[1]) // 8


@pytest.mark.parametrize(
    ("file", "kernel", "loads", "stores"),
    [
        ("elementwise", "elementwise<Copy, float>", 1, 1),
        ("elementwise", "elementwise<Elastic, float>", 2, 2),
        ("elementwise", "elementwise<Nesterov, bfloat16>", 3, 2),
        ("elementwise", "elementwise<Adam, float16>", 4, 3),
        ("noise", "noisy<Normal<float>, float>", 0, 1),
        ("noise", "noisy<Langevin<float>, float, const float>", 2, 1),
        ("replicas", "elastic_all<float>", 9, 9),
        ("replicas", "mix<float, 8>", 8, 1),
    ],
)
def test_sixteen_bytes_move_at_once_and_nothing_is_read_in_vain(
    compiler: nvrtc.Compiler, file: str, kernel: str, loads: int, stores: int
) -> None:
    text = ptx(compiler, kernel, file=file)
    assert len(re.findall(r"\bld(?:\.global)?\.v4", text)) == loads
    assert len(re.findall(r"\bst(?:\.global)?\.v4", text)) == stores


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


def test_what_is_kept_is_code_for_the_gpu(
    compiler: nvrtc.Compiler, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of the sources that were installed, by the name that the compiler gave; and not compiled again."""
    monkeypatch.setenv("LOOSESTEP_CACHE_DIR", str(tmp_path))
    first = cache.kept("elementwise", "elementwise<Sgd, float>", "sm_90")
    assert first.file.read_bytes()[:4] == b"\x7fELF"
    assert f".text.{first.name}".encode() in first.file.read_bytes()
    monkeypatch.setattr(nvrtc.Compiler, "compiled", None)
    assert cache.kept("elementwise", "elementwise<Sgd, float>", "sm_90") == first
    assert cache.state() == (1, first.file.stat().st_size)


def test_what_does_not_compile_is_one_sentence(compiler: nvrtc.Compiler) -> None:
    with pytest.raises(CudaError) as caught:
        compiler.compiled("elementwise", ["elementwise<Nobody, float>"], "sm_90", INCLUDE)
    text = str(caught.value)
    assert text.startswith(f"NVRTC {compiler.version} cannot compile elementwise<Nobody, float> of elementwise.cu")
    assert 'error: identifier "Nobody" is undefined' in text
    assert "\n" not in text


def test_an_architecture_that_is_none_is_said(compiler: nvrtc.Compiler) -> None:
    with pytest.raises(CudaError, match="for sm_1: nvrtc: error: invalid value for --gpu-architecture"):
        compiler.compiled("elementwise", ["elementwise<Sgd, float>"], "sm_1", INCLUDE)


def test_without_the_compiler_it_says_what_to_install() -> None:
    with pytest.raises(CudaError, match=r"libnvrtc.so.99, which is not here: pip install 'loosestep\[cuda99\]'"):
        nvrtc.compiler((99,))


def test_what_was_installed_is_what_is_here() -> None:
    """Else tests would be of other kernels than those that run: install again."""
    installed = {path.relative_to(sources.folder()): path.read_bytes() for path in texts(sources.folder())}
    here = {path.relative_to(ROOT): path.read_bytes() for path in texts(KERNELS)}
    here |= {path.relative_to(ROOT / "csrc"): path.read_bytes() for path in texts(ROOT / "csrc/rules")}
    assert installed == here


def texts(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
