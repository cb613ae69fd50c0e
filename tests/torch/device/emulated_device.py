"""Networks that say that they lie on a GPU, while the CPU holds them: kernels are emulated, all else is real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.cuda.emulated.stub import Gpu, stub_gpu
from torch import Tensor

import loosestep as ls
from loosestep.strategies.base import Strategy
from loosestep.torch import device_buffer, flat

CODED: list[Strategy] = [
    ls.ErrorFeedback(ls.LocalSGD(period=2), ls.Sign()),
    ls.ErrorFeedback(ls.DiLoCo(period=2), ls.Float8()),
    ls.ErrorFeedback(ls.AllReduceSGD(), ls.QSGD(7)),
    ls.ChocoSGD(),
]
"""Those whose messages are made on the GPU."""


class PlainMirror:
    """Main memory that nobody pinned: a copy happens when somebody waits for it, or asks for its end again."""

    def __init__(self, like: Tensor) -> None:
        self.array = np.full(like.numel(), np.nan, device_buffer.TYPES[like.dtype])
        self.to_do: list[Callable[[], None]] = []
        self.asked = 0

    def bring(self, source: Any) -> None:
        self.to_do.append(lambda: np.copyto(self.array, source.tensor.numpy()))
        self.asked = 0

    def send(self, to: Any) -> None:
        to.tensor.copy_(torch.from_numpy(self.array))

    def done(self) -> bool:
        self.asked += 1
        return self.asked > 2

    def wait_for_device(self) -> None: ...

    def wait(self) -> None:
        for copy in self.to_do:
            copy()
        self.to_do.clear()


@contextmanager
def emulated_device(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[Gpu]:
    """Every tensor is taken for one that lies on a GPU, whose current stream is number 7."""
    for module in (flat, device_buffer):
        patch.setattr(module, "is_cuda", lambda tensor: True)
    patch.setattr(device_buffer.DeviceBuffer, "__cuda_stream__", lambda self: (0, 7))
    patch.setattr(device_buffer, "PinnedMirror", PlainMirror)
    with stub_gpu(patch, folder) as gpu:
        yield gpu
