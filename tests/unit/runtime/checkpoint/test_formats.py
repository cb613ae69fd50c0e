"""Checkpoints of format 1 are read still, facts are checked, and a run keeps its id."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save
from tests.unit.runtime.checkpoint.runs import each_strategy, go, newest, same
from tests.unit.runtime.checkpoint.runs import quick_disk as quick_disk

import loosestep as ls
from loosestep.foundation.errors import CheckpointError


def to_first_format(folder: Path, change: Any = ()) -> None:
    """What format 1 would have held: a header with checksums of each tensor, one manifest without any."""
    content = json.loads((folder / "manifest.json").read_text())
    for path in folder.glob("step-*"):
        (path / "manifest.json").unlink()
        if path.name != content["folder"]:
            shutil.rmtree(path)
    for part in newest(folder).glob("rank-*"):
        with safe_open(part, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            facts = json.dumps({**json.loads(file.metadata()["loosestep"])["facts"], **dict(change)})
        checks = {name: crc32(tensor.data) for name, tensor in tensors.items()} | {"facts": crc32(facts.encode())}
        part.write_bytes(save(tensors, metadata={"facts": facts, "checks": json.dumps(checks)}))
    kept = {name: content[name] for name in ("step", "folder", "signature", "facts")}
    (folder / "manifest.json").write_text(json.dumps({"format": 1, **kept}, indent=1))


@each_strategy
def test_format_1_is_read_and_goes_on_in_format_2(strategy: ls.Strategy, tmp_path: Path) -> None:
    go(tmp_path / "run", strategy, steps=12)
    to_first_format(tmp_path / "run")
    resumed = go(tmp_path / "run", strategy, resume=True)
    assert same(resumed, go(tmp_path / "whole", strategy))
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["format"] == 2
    assert re.fullmatch("[0-9a-f]{16}", manifest["run"])


def test_format_1_is_checked_as_it_was(tmp_path: Path) -> None:
    go(tmp_path / "run")
    to_first_format(tmp_path / "run")
    part = newest(tmp_path / "run") / "rank-00001.safetensors"
    content = part.read_bytes()
    part.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    with pytest.raises(
        CheckpointError, match=r"rank-00001.safetensors is damaged: \S+ does not match its checksum$"
    ):
        go(tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    "change", [{"taken": "x"}, {"taken": -1}, {"program": 5}, {"state": {}}, {"worker": None}, {"seconds": "long"}]
)
def test_facts_of_another_shape_are_said_of_their_file(change: dict[str, Any], tmp_path: Path) -> None:
    strategy = ls.Averaged(ls.LocalSGD(4))
    go(tmp_path / "run", strategy)
    to_first_format(tmp_path / "run", change)
    with pytest.raises(CheckpointError, match=r"rank-0000\d.safetensors does not hold what this run wants: "):
        go(tmp_path / "run", strategy, resume=True)


def test_the_run_keeps_its_id(tmp_path: Path) -> None:
    def run_id() -> str:
        said: str = json.loads((tmp_path / "run" / "manifest.json").read_text())["run"]
        return said

    go(tmp_path / "run", steps=8)
    first = run_id()
    go(tmp_path / "run", resume=True)
    assert run_id() == first
    go(tmp_path / "other", steps=8)
    assert json.loads((tmp_path / "other" / "manifest.json").read_text())["run"] != first


@dataclass
class Own:
    seen: Any


@dataclass(frozen=True, repr=False)
class Users(ls.LocalSGD):
    """A strategy of the user's, which keeps something of its own."""

    kept: Any = 0

    def init(self, worker: Any) -> Any:
        return Own(self.kept)

    def round(self, worker: Any, state: Any) -> Iterator[Any]:
        state.seen = type(state.seen)(state.seen + 1) if isinstance(self.kept, np.generic) else state.seen
        yield from super().round(worker, None)  # type: ignore[arg-type]

    def consensus(self, worker: Any, state: Any, out: Any) -> Iterator[Any]:
        yield from super().consensus(worker, None, out)  # type: ignore[arg-type]


@pytest.mark.parametrize("kept", [np.int64(1), np.float32(0.5)])
def test_numbers_of_numpys_in_a_state_are_kept(kept: Any, tmp_path: Path) -> None:
    strategy = Users(4, kept=kept)
    go(tmp_path / "run", strategy, steps=12)
    assert same(go(tmp_path / "run", strategy, resume=True), go(tmp_path / "whole", strategy))


def test_what_of_a_state_cannot_be_kept_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"state.seen is of type set, which a checkpoint cannot keep: "):
        go(tmp_path / "run", Users(4, kept={1, 2}))
