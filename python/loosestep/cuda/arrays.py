"""Buffers on a device as a launch needs them: CuPy arrays and torch CUDA tensors, by their own description.

Address, shape and type come from `__cuda_array_interface__` (a tensor is asked itself: its interface refuses those
that want a gradient), the GPU from `__dlpack_device__`. Nothing is ever converted or copied: all but a contiguous
array of the first one's type, length and GPU is an error.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

CUDA = 2  # as DLPack numbers devices
MANAGED = 13
TYPES = {"<f4": "float32", "<f8": "float64", "<f2": "float16", "<V2": "bfloat16"}
BYTES = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}
WIDE = ("float32", "float64")
WANTED = "float32, float64, float16 or bfloat16"


class Place(NamedTuple):
    """Where to launch: the device, and the caller's stream on it."""

    device: int
    stream: int


class Buffer(NamedTuple):
    """One buffer on a device."""

    given: Any
    address: int
    size: int
    dtype: str
    device: int

    @property
    def end(self) -> int:
        return self.address + self.size * BYTES[self.dtype]

    @property
    def place(self) -> Place:
        """Its device, and the current stream of its framework."""
        return Place(self.device, stream_of(self.given, self.device))


def is_tensor(given: Any) -> bool:
    """Return whether it is a torch tensor. (If so, torch is imported already.)"""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(given, torch.Tensor)


def stream_of(given: Any, device: int) -> int:
    """Return the current stream of the framework that the buffer belongs to, or the one that it names."""
    if is_tensor(given):
        return int(sys.modules["torch"].cuda.current_stream(device).cuda_stream)
    if (told := getattr(given, "__cuda_stream__", None)) is not None:
        return int(told()[1])
    cupy = sys.modules.get("cupy")
    if cupy is None:
        return 0
    with cupy.cuda.Device(device):
        return int(cupy.cuda.get_current_stream().ptr)


def kind(given: Any) -> str:
    """Describe what was given instead."""
    if is_tensor(given):
        return f"a tensor on {given.device}"
    return f"a {type(given).__module__}.{type(given).__qualname__}"


def seen(op: str, name: str, given: Any, *, written: bool = False, like: Buffer | None = None) -> Buffer:
    """Return a buffer that was checked by itself and against the first one (which is `like`)."""
    device = gpu_of(given)
    if device is None:
        raise TypeError(f"{op}: {name} must be on a GPU, like the op's other buffers, got {kind(given)}")
    memory = of_tensor(given) if is_tensor(given) else of_interface(given.__cuda_array_interface__)
    if memory.dtype not in BYTES:
        raise TypeError(f"{op}: {name} must be {WANTED}, got {memory.dtype}")
    if not is_contiguous(memory.shape, memory.strides, BYTES[memory.dtype]):
        raise ValueError(f"{op}: {name} must be contiguous, got strides {memory.strides} for {memory.shape}")
    if written and memory.read_only:
        raise ValueError(f"{op}: {name} must be writable, got a read-only array")
    buffer = Buffer(given, memory.address, prod(memory.shape), memory.dtype, device)
    if like is not None:
        check_alike(op, name, buffer, like)
    return buffer


class Memory(NamedTuple):
    """An array's description of its memory; strides are in bytes, None where it is contiguous."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    dtype: str
    read_only: bool


def of_interface(told: dict[str, Any]) -> Memory:
    """Return the memory that the CUDA array interface describes."""
    address, read_only = told["data"]
    dtype = TYPES.get(told["typestr"].replace("|", "<"), told["typestr"])
    return Memory(address or 0, told["shape"], told.get("strides"), dtype, read_only)


def of_tensor(given: Any) -> Memory:
    """Return the memory of a tensor, by its own methods."""
    strides = tuple(step * given.element_size() for step in given.stride())
    dtype = str(given.dtype).removeprefix("torch.")
    return Memory(given.data_ptr(), tuple(given.shape), strides, dtype, read_only=False)


def gpu_of(given: Any) -> int | None:
    """Return the number of the device that it lies on."""
    device = getattr(given, "__dlpack_device__", None)
    where, number = device() if device is not None else (None, 0)
    return int(number) if where in (CUDA, MANAGED) else None


def is_contiguous(shape: Sequence[int], strides: Sequence[int] | None, step: int) -> bool:
    """Return whether it is contiguous in C order; a length of 1 has no stride."""
    if strides is None or 0 in shape:
        return True
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        if length != 1 and stride != step:
            return False
        step *= length
    return True


def check_alike(op: str, name: str, buffer: Buffer, first: Buffer) -> None:
    """Refuse another device, dtype or length than the first one's."""
    if buffer.device != first.device:
        raise ValueError(
            f"{op}: {name} must be on GPU {first.device} like the first buffer, got one on GPU {buffer.device}"
        )
    if buffer.dtype != first.dtype:
        raise TypeError(f"{op}: {name} must be {first.dtype} like the first buffer, got {buffer.dtype}")
    if buffer.size != first.size:
        raise ValueError(f"{op}: {name} must have {first.size} elements like the first buffer, got {buffer.size}")


def all_seen(op: str, names: Sequence[str], given: Sequence[Any], written: int) -> list[Buffer]:
    """Return the buffers of an op; bit i of `written`: buffer i is written, so that it may overlap no other."""
    found: list[Buffer] = []
    for i, (name, each) in enumerate(zip(names, given, strict=True)):
        found.append(seen(op, name, each, written=bool(written >> i & 1), like=found[0] if found else None))
    check_apart(op, names, found, written)
    return found


def check_apart(op: str, names: Sequence[str], buffers: Sequence[Buffer], written: int) -> None:
    """Refuse an `out` that overlaps in part with one of those that are read."""
    for i, a in enumerate(buffers):
        for j, b in enumerate(buffers[:i]):
            same = a.address == b.address and "out" in (names[i], names[j])
            if (written >> i | written >> j) & 1 and a.address < b.end and b.address < a.end and not same:
                raise ValueError(f"{op}: {names[j]} and {names[i]} must not overlap")


def check_disjoint(op: str, names: Sequence[str], buffers: Sequence[Buffer]) -> None:
    """Refuse buffers of which any two share memory."""
    held = sorted((each.address, i, each.end) for i, each in enumerate(buffers) if each.size)
    for (_, i, end), (begin, j, _) in pairwise(held):
        if begin < end:
            raise ValueError(f"{op}: {names[min(i, j)]} and {names[max(i, j)]} must not overlap")


def check_wide(op: str, name: str, buffer: Buffer) -> str:
    """Refuse other dtypes than float32 and float64."""
    if buffer.dtype not in WIDE:
        raise TypeError(f"{op}: {name} must be {' or '.join(WIDE)} on a GPU, got {buffer.dtype}")
    return buffer.dtype
