"""What tests of checkpoints have in common."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import loosestep as ls

STRATEGIES: list[ls.Strategy] = [ls.LocalSGD(4), ls.EASGD(3), ls.CoCoDSGD(4)]
each_strategy = pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk would only take time."""
    monkeypatch.setattr("os.fsync", lambda file: None)


def newest(folder: Path) -> Path:
    return folder / json.loads((folder / "manifest.json").read_text())["folder"]


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
