"""Where a test runs: on the emulation, or on a GPU. One body for both: a GPU's failures are then a GPU's.

A test that asks for `carrier` runs twice: everywhere on the emulation, and by `pytest -m gpu` on a GPU.
"""

from __future__ import annotations

import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.cuda.emulated.stub import Array, Gpu, Launch
from tests.cuda.kernels.test_elementwise import LENGTHS, LONG, placed

from loosestep.cuda import device
from loosestep.foundation.errors import CudaError


class Carrier(ABC):
    """Memory of a GPU, and what is left of it."""

    large: int
    """Elements: on a GPU so many that neither their number nor their bytes fit in 32 bits."""
    lengths: tuple[int, ...]
    """Worth trying, of every rule; the emulation's own tests try all."""

    @property
    def cupy(self) -> Any:
        return importlib.import_module("cupy")

    @abstractmethod
    def put(self, values: NDArray[Any], past: int = 0) -> Any:
        """A copy there, so many elements past a multiple of 16 bytes."""

    @abstractmethod
    def got(self, array: Any) -> NDArray[Any]:
        """What is there now."""

    @abstractmethod
    def full(self) -> AbstractContextManager[None]:
        """Nothing more is to be had."""

    def launches(self) -> Sequence[Launch]:
        """Where that is seen."""
        return ()

    @abstractmethod
    def needs(self, size: int) -> None:
        """So many bytes, or the test is skipped."""

    def put_all(self, given: Sequence[NDArray[Any]], past: int = 0) -> list[Any]:
        return [self.put(x, past) for x in given]

    def same(self, found: Sequence[Any], wanted: Sequence[NDArray[Any]]) -> bool:
        """To the bit."""
        return [self.got(x).tobytes() for x in found] == [x.tobytes() for x in wanted]


class Emulated(Carrier):
    large, lengths = 4133, (100,)

    def __init__(self, stub: Gpu) -> None:
        self.stub = stub

    def put(self, values: NDArray[Any], past: int = 0) -> Array:
        return Array(placed(values.ravel(), past).reshape(values.shape))

    def got(self, array: Array) -> NDArray[Any]:
        return array.held.copy()

    def launches(self) -> Sequence[Launch]:
        return self.stub.launches

    def needs(self, size: int) -> None:
        """The largest here are small."""

    @contextmanager
    def full(self) -> Iterator[None]:
        def refuses(*given: Any) -> None:
            raise MemoryError("Out of memory allocating 512 bytes (allocated so far: 4,096 bytes).")

        with pytest.MonkeyPatch.context() as patched:
            for name in ("empty", "zeros", "asarray"):
                patched.setattr(sys.modules["cupy"], name, refuses)
            yield


class OnGpu(Carrier):
    large, lengths = 2**31 + 33, (*LENGTHS, LONG)

    def __init__(self) -> None:
        self.pool = self.cupy.get_default_memory_pool()
        self.pool.free_all_blocks()  # what earlier tests left would serve a test of memory that runs out

    def put(self, values: NDArray[Any], past: int = 0) -> Any:
        room = self.cupy.zeros(values.size + 16, values.dtype)
        part = room[past : past + values.size]
        if values.size:
            part.set(values.ravel())
        return part.reshape(values.shape)

    def got(self, array: Any) -> NDArray[Any]:
        found: NDArray[Any] = self.cupy.asnumpy(array)
        return found

    @contextmanager
    def full(self) -> Iterator[None]:
        self.pool.free_all_blocks()
        self.pool.set_limit(size=max(1, self.pool.total_bytes()))
        try:
            yield
        finally:
            self.pool.set_limit(size=0)

    def needs(self, size: int) -> None:
        free, _ = self.cupy.cuda.runtime.memGetInfo()
        if free < size:
            pytest.skip(f"this needs {size / 2**30:.0f} GiB of the GPU's memory, {free / 2**30:.0f} are free")


def on_device() -> OnGpu:
    """Skipped, and said why, where there is none."""
    try:
        device.first()
    except CudaError as failed:
        pytest.skip(str(failed))
    pytest.importorskip("cupy")
    return OnGpu()


def ones(carrier: Carrier, many: int, n: int = 4) -> list[Any]:
    return carrier.put_all([np.ones(n, np.float32)] * many)
