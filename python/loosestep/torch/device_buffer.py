"""Flat buffers on a GPU, for models whose parameters are there: tensors with the interface of numpy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from loosestep import ops
from loosestep.foundation import buffers

if TYPE_CHECKING:
    from loosestep.requests import Buffer

TYPES: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
}
KINDS = {dtype: kind for kind, dtype in TYPES.items()}
CUDA = 2  # as DLPack numbers devices


def is_cuda(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is on an NVIDIA GPU."""
    return bool(tensor.device.type == "cuda")


def zeros(size: int, like: torch.Tensor, kind: torch.dtype) -> Buffer:
    """Return so many zeros, on the device of `like`."""
    if is_cuda(like):
        return device_buffer(torch.zeros(size, dtype=kind, device=like.device))
    return buffers.zeros(size, TYPES[kind])


def device_buffer(tensor: torch.Tensor) -> Buffer:
    """Return a buffer that is a view of a one-dimensional tensor on a GPU."""
    return cast("Buffer", DeviceBuffer(tensor))


def buffer_of(tensor: torch.Tensor) -> Buffer:
    """Return a buffer that is a view of a one-dimensional tensor, on any device."""
    held: Buffer = device_buffer(tensor) if is_cuda(tensor) else tensor.numpy()
    return held


def tensor_of(buffer: Buffer) -> torch.Tensor:
    """Return a tensor that is a view of a buffer, with a storage of its own: torch.save writes no more than it."""
    if not isinstance(buffer, DeviceBuffer):
        return torch.from_numpy(buffer)
    with torch.cuda.device_of(buffer.tensor):
        return torch.from_dlpack(buffer.tensor)


def check_device(buffer: Buffer) -> None:
    """Perform an op on the GPU, so that an error about what it needs comes before anything begins."""
    if isinstance(buffer, DeviceBuffer):
        ops.copy(buffer[:1], buffers.like(buffer, 1))


def side(buffer: Buffer) -> str:
    """Return on which side a buffer is, which must be one for all workers: a GPU's go through other requests."""
    return "a GPU" if isinstance(buffer, DeviceBuffer) else "the CPU"


def described(buffer: Buffer) -> str:
    """Return where a buffer is, for people."""
    device = tensor_of(buffer).device
    return f"{device}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else "CPU"


class DeviceBuffer:
    """As much of a numpy array as strategies and ops use; ops run on torch's current stream."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    @property
    def dtype(self) -> np.dtype[Any]:
        return TYPES[self.tensor.dtype]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def size(self) -> int:
        return int(self.tensor.numel())

    @property
    def itemsize(self) -> int:
        return int(self.tensor.element_size())

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: Any) -> DeviceBuffer:
        return DeviceBuffer(self.tensor[part])

    def __setitem__(self, part: Any, values: Any) -> None:
        if isinstance(values, np.ndarray):  # torch refuses a view of a read-only one
            values = torch.from_numpy(values if values.flags.writeable else values.copy()).to(self.tensor.device)
        self.tensor[part] = values.tensor if isinstance(values, DeviceBuffer) else values

    def fill(self, value: float) -> None:
        self.tensor.fill_(value)

    def reshape(self, *shape: int) -> DeviceBuffer:
        return DeviceBuffer(self.tensor.reshape(*shape))

    def copy(self) -> DeviceBuffer:
        return DeviceBuffer(self.tensor.clone())

    def like(self, size: int, dtype: np.dtype[Any] | None = None) -> DeviceBuffer:
        """Return so many zeros."""
        return DeviceBuffer(self.tensor.new_zeros(size, dtype=KINDS[dtype or self.dtype]))

    def __itruediv__(self, number: float) -> DeviceBuffer:
        """Divide by a number on the device: a number of Python's would become a product with its inverse."""
        self.tensor.div_(torch.tensor(number, dtype=self.tensor.dtype, device=self.tensor.device))
        return self

    def __float__(self) -> float:
        """Return the number of a buffer of one."""
        return float(self.tensor)

    def numpy(self) -> Buffer:
        """Return a copy in main memory, made when the current stream has done all that it was asked."""
        copied: Buffer = self.tensor.to("cpu", copy=True).numpy()
        return copied

    def mirror(self) -> PinnedMirror:
        """Return pinned memory of the same size."""
        return PinnedMirror(self.tensor)

    # --- how ops find it ---------------------------------------------------------------------------------

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        view = {"shape": self.shape, "typestr": self.dtype.str, "data": (self.tensor.data_ptr(), False)}
        return {**view, "strides": None, "version": 3}

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self.tensor.device.index or 0

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, int(torch.cuda.current_stream(self.tensor.device).cuda_stream)


class PinnedMirror:
    """Pinned main memory, and a stream of copies beside what the GPU computes."""

    def __init__(self, like: torch.Tensor) -> None:
        self.held = torch.empty(like.numel(), dtype=like.dtype, pin_memory=True)
        self.array: Buffer = self.held.numpy()
        self.device, self.stream = like.device, torch.cuda.Stream(like.device)
        self.before, self.behind = (torch.cuda.Event(blocking=True) for _ in range(2))  # waiting for them sleeps

    def bring(self, source: Any) -> None:
        self.copy(self.held, source.tensor)

    def send(self, to: Any) -> None:
        self.copy(to.tensor, self.held)
        torch.cuda.current_stream(self.device).wait_event(self.behind)

    def copy(self, to: torch.Tensor, source: torch.Tensor) -> None:
        """Begin a copy when torch's current stream has done all that it was asked."""
        self.before.record(torch.cuda.current_stream(self.device))
        self.stream.wait_event(self.before)
        with torch.cuda.stream(self.stream):
            to.copy_(source, non_blocking=True)
        self.behind.record(self.stream)

    def done(self) -> bool:
        return bool(self.behind.query())

    def wait_for_device(self) -> None:
        self.before.synchronize()

    def wait(self) -> None:
        self.behind.synchronize()
