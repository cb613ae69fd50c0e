"""`python -m bench torch_step --device cuda` without a GPU: its arithmetic on one that is pretended."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from bench.cuda import torch_step
from bench.harness import Options
from bench.torch_cases import tiny
from tests.torch.device.emulated_device import emulated_device

from loosestep.cuda import device
from loosestep.lowering import staging


def test_every_row_is_checked_and_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(staging, "CHUNK", 1 << 12)
    monkeypatch.setattr(torch_step, "DEVICE", "cpu")
    monkeypatch.setattr(torch_step, "finish", lambda: None)
    monkeypatch.setattr(device, "names", lambda: ["Stub"])
    monkeypatch.setattr(torch_step, "CASES", {"tiny": (tiny, (64, 8))})
    monkeypatch.setattr(torch_step, "STRATEGIES", torch_step.STRATEGIES[:1])
    with emulated_device(monkeypatch, tmp_path):
        found = {(row.case, row.library) for row in torch_step.rows(Options(smoke=True))}
    assert found == {
        *(("tiny", name) for name in ("bare torch", "loosestep AllReduceSGD()")),
        *(("average of 16 KiB", name) for name in ("loosestep", "in one piece", "copies alone")),
    }
