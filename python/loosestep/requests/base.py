"""The bases of all requests, and the objects that requests refer to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from loosestep.foundation.buffers import is_buffer, is_on_device

if TYPE_CHECKING:
    from numpy.typing import NDArray

Buffer: TypeAlias = "NDArray[Any]"


Group: TypeAlias = "tuple[int, ...]"


Reduction = Literal["mean", "sum", "max", "min"]


class Request:
    """Base of everything that a strategy can yield."""

    __slots__ = ()

    def __str__(self) -> str:
        """Return one line for people: the request's name and the sizes that matter."""
        shown = [word for name in getattr(self, "__slots__", ()) if (word := _word(getattr(self, name)))]
        return f"{type(self).__name__}({', '.join(shown)})"


class Compute(Request):
    """Base of requests that the model performs: they touch this worker alone."""

    __slots__ = ()


class Communication(Request):
    """Base of requests that a transport performs, or that are lowered to what it performs."""

    __slots__ = ()


@dataclass(frozen=True, eq=False, slots=True)
class Bucket:
    """A contiguous part of the gradient that becomes ready, and is sent, as one."""

    index: int
    count: int  # how many buckets there are
    grad: Buffer
    share: float  # of the gradient that is ready when this bucket is


@dataclass(frozen=True, eq=False, slots=True)
class Shared:
    """A variable that all workers share, by name; `store` belongs to the transport."""

    name: str
    size: int
    dtype: np.dtype[Any]
    store: Any


@dataclass(frozen=True, slots=True)
class Weights:
    """One row of a mixing matrix: the weight that this worker gives to each rank, and who reads this worker."""

    row: tuple[tuple[int, float], ...]  # (rank, weight), in rank order, own rank included
    readers: tuple[int, ...]  # other ranks whose rows hold this worker


def address(buf: Buffer) -> int:
    """Return where a buffer begins in memory."""
    told = buf.__cuda_array_interface__ if is_on_device(buf) else buf.__array_interface__  # type: ignore[attr-defined]
    return int(told["data"][0])


def _word(value: object) -> str:
    if is_buffer(value):
        return f"{value.size} {value.dtype}"
    if isinstance(value, Request):
        return str(value)
    if isinstance(value, Shared):
        return repr(value.name)
    if isinstance(value, tuple):
        return f"({', '.join(filter(None, map(_word, value)))})" if value else ""
    if isinstance(value, Bucket):
        return f"bucket {value.index + 1} of {value.count}"
    return repr(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else ""
