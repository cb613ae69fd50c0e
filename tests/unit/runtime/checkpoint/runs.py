"""Short runs that write checkpoints, and what is asked of their files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
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


def go(folder: Path | None, strategy: ls.Strategy | None = None, steps: int = 20, **options: Any) -> ls.Result:
    """Twenty steps of two imaginary workers, saved every four."""
    options = {
        "on": ls.Simulated(2, stragglers=ls.stragglers.LogNormal()),
        "checkpoint_every": folder and 4,
        **options,
    }

    def batches(rank: int, size: int) -> Iterator[Any]:
        rng = np.random.default_rng(rank)
        return (rng.standard_normal((3, 8)) for _ in range(steps))

    return ls.run(
        strategy or ls.LocalSGD(4),
        lambda x, batch: x - batch.mean(axis=0),
        options.pop("x0", np.ones(8)),
        batches,
        optimizer=options.pop("optimizer", ls.Momentum(0.05)),
        checkpoint=folder,
        **options,
    )


def parts(folder: Path) -> list[Path]:
    """Those of the newest checkpoint."""
    found = sorted(max(folder.glob("step-*")).glob("rank-*.safetensors"))
    assert len(found) == 2
    return found


def same(one: ls.Result, other: ls.Result) -> bool:
    return one.params.tobytes() == other.params.tobytes() and all(
        mine.params.tobytes() == yours.params.tobytes() and mine.samples == yours.samples
        for mine, yours in zip(one.workers, other.workers, strict=True)
    )
