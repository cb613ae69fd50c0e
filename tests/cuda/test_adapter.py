"""Gradients of CuPy arrays, in the library's loops: the stub's arrays see what numpy's do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cuda.stub import Array, stub_card

import loosestep as ls
from loosestep.adapters.cupy import on_card

TARGETS = np.arange(12.0).reshape(4, 3)


@pytest.fixture(autouse=True)
def card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    with stub_card(monkeypatch, tmp_path):
        yield


def batches(rank: int, size: int) -> Iterator[Any]:
    return iter([TARGETS[i] for _ in range(5) for i in range(rank, 4, size)])


def plain(x: Any, target: Any) -> Any:
    return float(((x - target) ** 2).sum()) / 2, x - target


def of_arrays(x: Any, target: Any) -> Any:
    assert isinstance(x, Array)
    loss, gradient = plain(x.held, target)
    return np.float64(loss), Array(gradient)


def trained(gradient: Any) -> Any:
    return ls.run(ls.LocalSGD(2), gradient, np.zeros(3), batches, on=ls.Threads(2), optimizer=ls.SGD(0.1))


def test_the_bits_are_numpys() -> None:
    ours, theirs = trained(on_card(of_arrays)), trained(plain)
    assert ours.params.tobytes() == theirs.params.tobytes()


def test_a_gradient_without_a_loss() -> None:
    assert trained(on_card(lambda x, t: of_arrays(x, t)[1])).params.tobytes() == trained(plain).params.tobytes()


def test_a_gradient_that_is_no_array_of_a_card() -> None:
    with pytest.raises(TypeError, match="gradient must return a CuPy array like x, got a ndarray"):
        on_card(lambda x, t: x.held)(np.zeros(3), TARGETS[0])
