"""Launching a kernel: compiled at first use, on the caller's stream, structures passed by value."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import cache
from struct import pack
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from loosestep.cuda import cache as on_disk
from loosestep.foundation.errors import CudaError

if TYPE_CHECKING:
    from loosestep.cuda.arrays import Place


THREADS = 256
"""In a block of the kernels that treat elements alike."""
MOST_BLOCKS = 2**31 - 1


class Stream(NamedTuple):
    """A stream of another framework as CuPy wants it: for launches, and in CUDA's stream protocol."""

    ptr: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.ptr


def cupy() -> Any:
    """Import CuPy, which launches, at first use; return it."""
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise CudaError(
            "buffers on a GPU need CuPy, which is not here: pip install 'loosestep[cuda13]' (or cuda12, as the "
            f"driver has it): {error}"
        ) from error


def by_value(content: bytes) -> Any:
    """Return a structure as a kernel's argument."""
    return np.frombuffer(content, of_bytes(len(content)))


@cache
def of_bytes(size: int) -> np.dtype[np.void]:
    """Return a numpy type of so many bytes, cached because a launch parses its name."""
    return np.dtype(f"V{size}")


def addresses(values: Sequence[int]) -> Any:
    """Return pointers in one structure."""
    return by_value(pack(f"{len(values)}Q", *values))


def blocks_for(threads: int) -> int:
    """Return enough blocks for so many threads, within a limit; kernels go on in strides beyond it."""
    return max(1, min(-(-threads // THREADS), MOST_BLOCKS))


def launch(
    file: str,
    kernel: str,
    place: Place,
    grid: tuple[int, ...],
    block: tuple[int, ...],
    arguments: Sequence[Any],
    shared: int = 0,
) -> None:
    """Start `kernel` of kernels/`file`.cu at a place. CudaError, in one sentence, where it cannot start."""
    module = cupy()
    try:
        device = module.cuda.Device(place.device)
        with device:
            function = loaded(module, file, kernel, device.compute_capability)
            function(grid, block, tuple(arguments), shared_mem=shared, stream=Stream(place.stream))
    except CudaError:
        raise
    except Exception as error:
        raise CudaError(f"{kernel} could not be started on GPU {place.device}: {error}") from error


@cache
def loaded(module: Any, file: str, kernel: str, capability: str) -> Any:
    """Return the kernel for devices of this capability; CuPy loads it once on each."""
    major = module.cuda.runtime.runtimeGetVersion() // 1000
    kept = on_disk.kept(file, kernel, f"sm_{capability}", major)
    return module.RawModule(path=str(kept.file)).get_function(kept.name)
