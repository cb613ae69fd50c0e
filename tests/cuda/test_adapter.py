"""Gradients of CuPy arrays, in the library's loops: arrays of a GPU see what numpy's do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.cuda.carriers import Carrier
from tests.cuda.emulated.stub import Gpu

import loosestep as ls
from loosestep.cuda import device as gpus
from loosestep.cuda.cupy import on_device
from loosestep.foundation.errors import CudaError

TARGETS = np.arange(12.0).reshape(4, 3)


def batches(rank: int, size: int) -> Iterator[Any]:
    return iter([TARGETS[i] for _ in range(5) for i in range(rank, 4, size)])


def plain(x: Any, target: Any) -> Any:
    return float(((x - target) ** 2).sum()) / 2, x - target


class There:
    """The same, there: with a loss that is a number of the GPU's framework."""

    def __init__(self, carrier: Carrier) -> None:
        self.cupy = carrier.cupy

    def gradient(self, x: Any, target: Any) -> Any:
        assert isinstance(x, self.cupy.ndarray)
        made = self.cupy.empty_like(x)
        self.cupy.subtract(x, self.cupy.asarray(target), out=made)
        return made

    def both(self, x: Any, target: Any) -> Any:
        made = self.gradient(x, target)
        return np.float64((self.cupy.asnumpy(made) ** 2).sum()) / 2, made


def trained(gradient: Any) -> Any:
    return ls.run(ls.LocalSGD(2), gradient, np.zeros(3), batches, on=ls.Threads(2), optimizer=ls.SGD(0.1))


@pytest.mark.parametrize("way", ["both", "gradient"])
def test_the_bits_are_numpys(carrier: Carrier, way: str) -> None:
    ours, theirs = trained(on_device(getattr(There(carrier), way))), trained(plain)
    assert ours.params.tobytes() == theirs.params.tobytes()


def test_a_gradient_that_is_no_array_of_a_gpu(carrier: Carrier) -> None:
    with pytest.raises(TypeError, match="gradient must return a CuPy array like x, got a ndarray"):
        on_device(lambda x, t: np.zeros(3))(np.zeros(3), TARGETS[0])


def test_without_cupy_it_says_so_before_anything_runs(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(CudaError, match="need CuPy, which is not here: pip install"):
        on_device(plain)


def test_without_a_driver_too(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(gpus, "DRIVER", "libnodriver.so")
    monkeypatch.setitem(sys.modules, "cupy", gpu.module())
    with pytest.raises(CudaError, match="^no driver: libnodriver.so is not on this machine$"):
        on_device(plain)
