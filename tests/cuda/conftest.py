"""What many tests of GPUs need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cuda.carriers import Carrier, Emulated, on_device
from tests.cuda.emulated.stub import Gpu, stub_gpu

from loosestep.cuda import device as gpus


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Gpu]:
    monkeypatch.setattr(gpus, "names", lambda: ["Stub"])
    with stub_gpu(monkeypatch, tmp_path) as made:
        yield made


@pytest.fixture(params=["emulated", pytest.param("GPU", marks=pytest.mark.gpu)])
def carrier(request: pytest.FixtureRequest) -> Carrier:
    return on_device() if request.param == "GPU" else Emulated(request.getfixturevalue("gpu"))


@pytest.fixture
def cupy() -> Any:
    """Of a GPU."""
    return on_device().cupy
