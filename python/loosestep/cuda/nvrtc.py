"""NVRTC, NVIDIA's run-time compiler, which needs no device: from a kernel's text to code for one architecture.

Not CuPy's own way to compile: that always adds `-ftz=true`, after which small numbers are not those of the CPU.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import byref, c_char_p, c_int, c_size_t, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from loosestep.cuda import sources
from loosestep.foundation.errors import CudaError

OPTIONS = ("--std=c++17", "--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true")
"""Every product and sum is rounded by itself and small numbers are kept: the bits of the CPU."""

MAJORS = (13, 12)
"""Versions of CUDA whose compiler will do, best first."""


class Compiled(NamedTuple):
    """Code for one architecture, the name that each kernel has in it, and the compiler's log."""

    names: tuple[str, ...]
    cubin: bytes
    log: str


def places(major: int) -> Iterator[str]:
    """Yield where the library may lie: in NVIDIA's wheels, then where the system finds it."""
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for below in (f"cu{major}/lib", "cuda_nvrtc/lib"):
            yield from map(str, Path(root, below).glob(f"libnvrtc.so.{major}*"))
    yield f"libnvrtc.so.{major}"


def opened(place: str) -> ctypes.CDLL | None:
    """Return the library at a place, if it can be loaded from there."""
    try:
        return ctypes.CDLL(place)
    except OSError:
        return None


@cache
def compiler(majors: tuple[int, ...] = MAJORS) -> Compiler:
    """Return the first of these versions that is installed."""
    found = filter(None, (opened(place) for major in majors for place in places(major)))
    library = next(found, None)
    if library is None:
        wanted = " or ".join(f"libnvrtc.so.{major}" for major in majors)
        raise CudaError(
            f"kernels need NVIDIA's compiler {wanted}, which is not here: pip install 'loosestep[cuda{majors[0]}]'"
        )
    return Compiler(library)


class Compiler:
    """The library's functions, with every status checked."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        library.nvrtcGetErrorString.restype = c_char_p
        major, minor = c_int(), c_int()
        self.call("Version", byref(major), byref(minor))
        self.version = f"{major.value}.{minor.value}"

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function; raise CudaError with the library's reason if it fails."""
        status = getattr(self.library, f"nvrtc{name}")(*arguments)
        if status:
            raise CudaError(f"NVRTC's {name}: {self.library.nvrtcGetErrorString(status).decode()}")

    def compiled(
        self,
        file: str,
        kernels: Sequence[str],
        architecture: str,
        include: Sequence[Path] = (),
        options: Sequence[str] = (),
    ) -> Compiled:
        """Compile kernels of kernels/`file`.cu (`elementwise<Sgd, float>`) for an architecture (`sm_90`).

        include: folders to find `kernels/` and `rules/` in, if not what was installed.
        """
        folders = [f"-I{folder}" for folder in include or (sources.folder(),)]
        given = [*OPTIONS, f"--gpu-architecture={architecture}", *folders, *options]
        with self.program(f'#include "kernels/{file}.cu"\nusing namespace loosestep;\n', f"{file}.cu") as made:
            for kernel in kernels:
                self.call("AddNameExpression", made, kernel.encode())
            log = self.compile(made, given, f"{named(kernels)} of {file}.cu for {architecture}")
            names = tuple(self.lowered(made, kernel) for kernel in kernels)
            return Compiled(names, self.told("CUBIN", made), log)

    @contextmanager
    def program(self, text: str, name: str) -> Iterator[c_void_p]:
        """Create a program, and destroy it at the end of the context."""
        made = c_void_p()
        self.call("CreateProgram", byref(made), text.encode(), name.encode(), 0, None, None)
        try:
            yield made
        finally:
            self.call("DestroyProgram", byref(made))

    def compile(self, made: c_void_p, options: Sequence[str], what: str) -> str:
        """Compile; return the log. Raises CudaError with the first error in it."""
        array = (c_char_p * len(options))(*(option.encode() for option in options))
        status = self.library.nvrtcCompileProgram(made, len(options), array)
        log = self.told("ProgramLog", made).rstrip(b"\0").decode(errors="replace")
        if status:
            raise CudaError(f"NVRTC {self.version} cannot compile {what}: {complaint(log)}")
        return log

    def told(self, name: str, made: c_void_p) -> bytes:
        """Return the log or the code of a program."""
        size = c_size_t()
        self.call(f"Get{name}Size", made, byref(size))
        room = ctypes.create_string_buffer(size.value)
        self.call(f"Get{name}", made, room)
        return room.raw

    def lowered(self, made: c_void_p, kernel: str) -> str:
        """Return the name of a kernel in the code."""
        name = c_char_p()
        self.call("GetLoweredName", made, kernel.encode(), byref(name))
        return (name.value or b"").decode()


def named(kernels: Sequence[str]) -> str:
    """Return a list of names as text."""
    return kernels[0] if len(kernels) == 1 else f"{len(kernels)} kernels"


def complaint(log: str) -> str:
    """Return the first line of a log that names an error."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[0] if lines else "it does not say why")
