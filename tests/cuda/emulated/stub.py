"""A CuPy whose GPU is the emulation: arrays say that they lie on a GPU, and a launch runs the kernel on the CPU.

So all that Python does (checks, addresses, fields, names, the cache on disk, streams) is what a GPU would see.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.cuda.emulated.emulation import emulate_kernel

from loosestep import ops
from loosestep.cuda import cache, nvrtc
from loosestep.cuda import launch as launching


class Array:
    """Memory of the CPU that says it is a GPU's."""

    def __init__(self, held: NDArray[Any], device: int = 0, *, typestr: str = "", read_only: bool = False) -> None:
        self.held, self.device, self.typestr, self.read_only = held, device, typestr, read_only

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        told = self.held.__array_interface__
        strides = None if self.held.flags.c_contiguous else self.held.strides
        return {
            "shape": told["shape"],
            "typestr": self.typestr or told["typestr"],
            "data": (told["data"][0], self.read_only),
            "strides": strides,
            "version": 3,
        }

    @property
    def shape(self) -> tuple[int, ...]:
        return self.held.shape

    @property
    def data(self) -> Any:
        """As of CuPy's arrays: memory that can be copied into."""
        return SimpleNamespace(copy_from_device_async=lambda source, size: None)

    def __getitem__(self, part: Any) -> Array:
        return Array(self.held[part], self.device)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.device


def held(given: Any) -> Any:
    return given.held if isinstance(given, Array) else given


class Event:
    """Any two are 4 ms apart."""

    def record(self) -> None: ...

    def synchronize(self) -> None: ...


class Launch(NamedTuple):
    """What a GPU was asked to run."""

    kernel: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    device: int
    stream: int


class Device:
    """One of the GPU's numbers; current while it is entered."""

    compute_capability, attributes = "90", MappingProxyType({"L2CacheSize": 1 << 14})

    def __init__(self, gpu: Gpu, number: int) -> None:
        self.entered = gpu.on("device", number)

    def __enter__(self) -> None:
        self.entered.__enter__()

    def __exit__(self, *raised: Any) -> None:
        self.entered.__exit__(*raised)


class Gpu:
    """What the stub keeps: launches in order, what was compiled, where the caller stands."""

    def __init__(self) -> None:
        self.launches: list[Launch] = []
        self.compiled: list[str] = []
        self.waited_for: list[int] = []
        self.device, self.stream = 0, 7
        self.refusal, self.willing = "", 0  # why no launch but the first so many starts

    def synchronize(self) -> None:
        self.waited_for.append(self.stream)

    @contextmanager
    def on(self, name: str, value: int) -> Iterator[None]:
        before = getattr(self, name)
        setattr(self, name, value)
        try:
            yield
        finally:
            setattr(self, name, before)

    def module(self) -> ModuleType:
        """As much of CuPy as is used."""
        cupy = ModuleType("cupy")
        cuda: Any = ModuleType("cupy.cuda")
        cuda.Device = lambda number=0: Device(self, number)
        cuda.Stream = SimpleNamespace(from_external=lambda given: self.on("stream", given.__cuda_stream__()[1]))
        cuda.get_current_stream = lambda: SimpleNamespace(ptr=self.stream, synchronize=self.synchronize)
        cuda.runtime = SimpleNamespace(runtimeGetVersion=lambda: 13000)
        cuda.Event, cuda.get_elapsed_time = Event, lambda begin, end: 4.0
        made = {"cuda": cuda, "float32": np.float32, "RawModule": lambda path: Loaded(self, Path(path))}
        for name, value in (made | arithmetic()).items():
            setattr(cupy, name, value)
        return cupy

    def launch(
        self, file: str, kernel: str, grid: Any, block: Any, given: Sequence[Any], shared: int, stream: int
    ) -> None:
        if self.refusal and len(self.launches) >= self.willing:
            raise RuntimeError(self.refusal)
        self.launches.append(Launch(kernel, grid, block, self.device, stream))
        emulate_kernel(file, kernel).launch(kernel, grid, block, [*map(passed, given)], shared)


def arithmetic() -> dict[str, Any]:
    """CuPy's calls, by numpy; a kernel of its own making is the specification of the op that it is named after."""

    def unwrapped(name: str) -> Any:
        return lambda *given, out: getattr(np, name)(*map(held, given), out=out.held)

    def kernel(read: str, written: str, body: str, name: str) -> Any:
        names = [each.split()[1] for each in f"{read}, {written}".split(", ")]
        return lambda *given: ops.specification[name](**dict(zip(names, map(held, given), strict=True)))

    return {
        **{name: unwrapped(name) for name in ("add", "subtract", "multiply", "divide")},
        "zeros": lambda n, dtype: Array(np.zeros(n, dtype)),
        "empty": lambda n, dtype: Array(np.full(n, 77, dtype)),
        "asarray": lambda given: Array(given.copy()),
        "asnumpy": lambda given: given.held.copy(),
        "ndarray": Array,
        "empty_like": lambda given: Array(np.empty_like(given.held)),
        "ElementwiseKernel": kernel,
    }


def passed(given: Any) -> Any:
    """As CuPy passes arguments: whole numbers as int64, arrays of size one by value."""
    return given[0] if isinstance(given, np.ndarray) else np.int64(given)


class Loaded:
    """A module of the stub's: a file that says which kernel it is."""

    def __init__(self, gpu: Gpu, path: Path) -> None:
        self.gpu, self.told = gpu, json.loads(path.read_bytes())

    def get_function(self, name: str) -> Any:
        assert name == "entry"

        def start(grid: Any, block: Any, given: Sequence[Any], *, shared_mem: int, stream: Any) -> None:
            self.gpu.launch(self.told["file"], self.told["kernel"], grid, block, given, shared_mem, stream.ptr)

        return start


class StubCompiler:
    """Its code is what it was asked to compile."""

    version = "13.0"

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu

    def compiled(self, file: str, kernels: Sequence[str], architecture: str) -> nvrtc.Compiled:
        self.gpu.compiled.append(f"{kernels[0]} for {architecture}")
        content = json.dumps({"file": file, "kernel": kernels[0]}).encode()
        return nvrtc.Compiled(("entry",), content, "")


@contextmanager
def stub_gpu(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Gpu]:
    """Ops on `Array`s run on it; compiled kernels are kept in `folder`."""
    gpu = Gpu()
    monkeypatch.setitem(sys.modules, "cupy", gpu.module())
    monkeypatch.setenv("LOOSESTEP_CACHE_DIR", str(folder))
    monkeypatch.setattr(cache.nvrtc, "compiler", lambda majors: StubCompiler(gpu))
    launching.loaded.cache_clear()
    yield gpu
    launching.loaded.cache_clear()
