"""Flat buffers on a card, of a loop whose parameters lie there: torch tensors with the names of numpy's arrays."""

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
CUDA = 2  # as DLPack numbers devices


def lies_on_card(tensor: torch.Tensor) -> bool:
    """Whether an NVIDIA card holds it."""
    return bool(tensor.device.type == "cuda")


def zeros(size: int, like: torch.Tensor, kind: torch.dtype) -> Buffer:
    """So many zeros, where `like` lies."""
    if lies_on_card(like):
        return resident(torch.zeros(size, dtype=kind, device=like.device))
    return buffers.zeros(size, TYPES[kind])


def resident(tensor: torch.Tensor) -> Buffer:
    """A buffer that looks at a tensor of one dimension, on a card."""
    return cast("Buffer", Resident(tensor))


def buffer_of(tensor: torch.Tensor) -> Buffer:
    """A buffer that looks at a tensor of one dimension, wherever it lies."""
    held: Buffer = resident(tensor) if lies_on_card(tensor) else tensor.numpy()
    return held


def tensor_of(buffer: Buffer) -> torch.Tensor:
    """A tensor that looks at a buffer, and knows of no memory beside it: what is saved of it is not all."""
    if not isinstance(buffer, Resident):
        return torch.from_numpy(buffer)
    with torch.cuda.device_of(buffer.tensor):
        return torch.from_dlpack(buffer.tensor)


def check_card(buffer: Buffer) -> None:
    """What ops on a card need must be there before anything begins: one is performed."""
    if isinstance(buffer, Resident):
        ops.copy(buffer[:1], buffers.like(buffer, 1))


def side(buffer: Buffer) -> str:
    """Where it lies, as all workers' must: those on a card go through requests of their own."""
    return "a card" if isinstance(buffer, Resident) else "the CPU"


def described(buffer: Buffer) -> str:
    """Where it lies, for people."""
    device = tensor_of(buffer).device
    return f"{device}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else "CPU"


class Resident:
    """As much of a numpy array as strategies and ops use; ops work on the stream that is torch's just now."""

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

    def __getitem__(self, part: Any) -> Resident:
        return Resident(self.tensor[part])

    def __setitem__(self, part: Any, values: Any) -> None:
        if isinstance(values, np.ndarray):  # torch refuses to look at one that is read-only
            values = torch.from_numpy(values if values.flags.writeable else values.copy())
        self.tensor[part] = values.tensor if isinstance(values, Resident) else values

    def fill(self, value: float) -> None:
        self.tensor.fill_(value)

    def reshape(self, *shape: int) -> Resident:
        return Resident(self.tensor.reshape(*shape))

    def copy(self) -> Resident:
        return Resident(self.tensor.clone())

    def like(self, size: int) -> Resident:
        """So many zeros."""
        return Resident(self.tensor.new_zeros(size))

    def __float__(self) -> float:
        """Of one number."""
        return float(self.tensor)

    def numpy(self) -> Buffer:
        """A copy in main memory, when all that was asked of the stream is done."""
        copied: Buffer = self.tensor.to("cpu", copy=True).numpy()
        return copied

    def mirror(self) -> Pinned:
        return Pinned(self.tensor)

    # --- how ops find it ---------------------------------------------------------------------------------

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        told = {"shape": self.shape, "typestr": self.dtype.str, "data": (self.tensor.data_ptr(), False)}
        return {**told, "strides": None, "version": 3}

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self.tensor.device.index or 0

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, int(torch.cuda.current_stream(self.tensor.device).cuda_stream)


class Pinned:
    """Main memory that the card's copy engines reach, and a stream of copies beside what the card computes."""

    def __init__(self, like: torch.Tensor) -> None:
        self.held = torch.empty(like.numel(), dtype=like.dtype, pin_memory=True)
        self.array: Buffer = self.held.numpy()
        self.device, self.stream = like.device, torch.cuda.Stream(like.device)
        self.before, self.behind = (torch.cuda.Event(blocking=True) for _ in range(2))  # who waits for them sleeps

    def bring(self, source: Any) -> None:
        self.copy(self.held, source.tensor)

    def send(self, to: Any) -> None:
        self.copy(to.tensor, self.held)
        torch.cuda.current_stream(self.device).wait_event(self.behind)

    def copy(self, to: torch.Tensor, source: torch.Tensor) -> None:
        """When what is torch's current stream just now has done all that it was asked."""
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
