"""Memory on a device that lasts for a call: intermediate results, tables, results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loosestep.cuda.launch import Stream, by_value, cupy
from loosestep.foundation.errors import CudaError

if TYPE_CHECKING:
    from loosestep.cuda.arrays import Place


@contextmanager
def on(place: Place, what: str) -> Iterator[Any]:
    """Make the device and stream of a place CuPy's current ones, by which its pool orders memory; return CuPy.

    CudaError, in one sentence, for what fails there.
    """
    module = cupy()
    try:
        with module.cuda.Device(place.device), module.cuda.Stream.from_external(Stream(place.stream)):
            yield module
    except Exception as error:
        raise CudaError(f"{what} failed on GPU {place.device}: {error}") from error


def room(place: Place, size: int, dtype: str) -> Any:
    """Return uninitialised elements on the device, freed when nobody holds them."""
    with on(place, f"room for {size} {dtype}") as module:
        return module.empty(size, dtype)


def sent(place: Place, values: NDArray[Any]) -> Any:
    """Return a copy on the device."""
    with on(place, f"a copy of {values.nbytes} bytes to it") as module:
        return module.asarray(values)


def fetched(place: Place, array: Any) -> NDArray[Any]:
    """Return a copy in main memory, when all that was asked of the stream is done."""
    with on(place, "a result of it") as module:
        found: NDArray[Any] = module.asnumpy(array)
        return found


def address(array: Any) -> int:
    """Return an array's address on the device."""
    return int(array.__cuda_array_interface__["data"][0])


def structure(*fields: tuple[str, Any]) -> Any:
    """Return fields by type and value, laid out as a C++ structure, to be passed by value."""
    kinds = np.dtype([(f"f{i}", kind) for i, (kind, _) in enumerate(fields)], align=True)
    return by_value(np.array(tuple(value for _, value in fields), kinds).tobytes())
