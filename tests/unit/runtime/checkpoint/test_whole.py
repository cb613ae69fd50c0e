"""A checkpoint is whole or it is not one: full disks, damaged and foreign files."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.unit.runtime.checkpoint.runs import go, parts, same
from tests.unit.runtime.checkpoint.runs import quick_disk as quick_disk

import loosestep as ls
from loosestep.cli.report.files import write_tensors
from loosestep.foundation.errors import CheckpointError, WorkerFailed
from loosestep.runtime.checkpoint.folder import Folder
from loosestep.runtime.checkpoint.resume_point import choose


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_only_the_last_complete_checkpoints_stay(keep: int, tmp_path: Path) -> None:
    go(tmp_path / "run", keep=keep)
    kept = sorted(path.name.removesuffix("-again") for path in (tmp_path / "run").glob("step-*"))
    assert kept == ["step-000000012", "step-000000016", "step-000000020"][-keep:]
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["step"] == 20
    assert (tmp_path / "run" / manifest["folder"]).is_dir()
    assert not list((tmp_path / "run").rglob("*.part"))


# --- a disk that refuses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("refused", range(1, 19))
def test_a_full_disk_leaves_the_previous_checkpoint(
    refused: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each checkpoint is three files: the tenth write is of the fourth checkpoint."""
    writes, fsync = iter(range(1, 10**6)), os.fsync

    def full(file: int) -> None:
        if next(writes) == refused:
            raise OSError(28, "No space left on device")
        fsync(file)

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        CheckpointError, match=r"^cannot write .*/run/.*: No space left on device; the previous checkpoint stays$"
    ):
        go(tmp_path / "run")
    monkeypatch.undo()
    assert same(go(tmp_path / "run", resume=True), go(tmp_path / "whole"))


# --- what is refused ---------------------------------------------------------------------------------------


def test_a_flipped_bit_is_found_wherever_it_is(tmp_path: Path) -> None:
    go(tmp_path / "run", keep=1)
    part = parts(tmp_path / "run")[1]
    whole = part.read_bytes()
    for place in range(0, len(whole), 37):
        part.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(CheckpointError, match=re.escape(str(part))):
            go(tmp_path / "run", resume=True)


@pytest.mark.parametrize("left", [0, 7, 8, 100, -1])
def test_a_truncated_part_is_refused(left: int, tmp_path: Path) -> None:
    go(tmp_path / "run", keep=1)
    part = parts(tmp_path / "run")[0]
    part.write_bytes(part.read_bytes()[:left])
    with pytest.raises(CheckpointError, match=r"rank-00000.safetensors cannot be read as a checkpoint: "):
        go(tmp_path / "run", resume=True)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    go(tmp_path / "run", keep=1)
    parts(tmp_path / "run")[1].unlink()
    with pytest.raises(CheckpointError, match=r"rank-00001.safetensors cannot be read as a checkpoint: "):
        go(tmp_path / "run", resume=True)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1, "step": "x"}', "\0"])
def test_a_manifest_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    go(tmp_path / "run")
    for manifest in (tmp_path / "run").rglob("manifest.json"):
        manifest.write_text(text)
    with pytest.raises(CheckpointError, match=r"manifest.json is not a checkpoint's manifest: "):
        go(tmp_path / "run", resume=True)


def test_another_format_is_refused(tmp_path: Path) -> None:
    go(tmp_path / "run")
    manifest = tmp_path / "run" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 99}))
    with pytest.raises(
        CheckpointError, match=r"manifest.json has format 99, and this version reads formats 1 to 2$"
    ):
        go(tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"strategy": ls.LocalSGD(5)}, r"strategy LocalSGD\(period=4\), this run has LocalSGD\(period=5\)"),
        ({"optimizer": ls.SGD(0.05)}, r"optimizer Momentum\(rate=0.05\), this run has SGD\(rate=0.05\)"),
        ({"x0": np.ones(8, np.float32)}, "parameters 8 float64, this run has 8 float32"),
    ],
    ids=["strategy", "optimizer", "parameters"],
)
def test_a_checkpoint_of_another_run_is_refused(change: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    go(tmp_path / "run")
    before = (tmp_path / "run" / "manifest.json").read_bytes()
    with pytest.raises(CheckpointError, match=f"/run was written with {sentence}$"):
        go(tmp_path / "run", resume=True, **change)
    assert (tmp_path / "run" / "manifest.json").read_bytes() == before


def test_data_that_is_shorter_than_what_was_used_is_refused(tmp_path: Path) -> None:
    go(tmp_path / "run")
    with pytest.raises(ValueError, match=r"^the batches of worker 0 end after 7, but the checkpoint had used 20$"):
        go(tmp_path / "run", resume=True, steps=7)


def test_a_checkpoint_is_not_overwritten_unasked(tmp_path: Path) -> None:
    go(tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"/run holds a checkpoint: pass resume=True to go on from it, or another"
    ):
        go(tmp_path / "run")


def test_the_place_must_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(ValueError, match=r"^checkpoint must be a folder, but .*/run is a file$"):
        go(tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"


def test_an_empty_folder_is_a_fresh_start(tmp_path: Path) -> None:
    assert same(go(tmp_path, resume=True), go(tmp_path / "whole"))


@pytest.mark.parametrize("options", [{"checkpoint_every": 4}, {"resume": True}])
def test_options_that_need_a_folder_say_so(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^checkpoint_every and resume need checkpoint, the folder to write to$"):
        go(None, **{"checkpoint_every": None, **options})


# --- what is in it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [ls.LocalSGD(4), ls.EASGD(3), ls.Hogwild()], ids=repr)
def test_a_finished_run_goes_on_with_more_data(strategy: ls.Strategy, tmp_path: Path) -> None:
    go(tmp_path / "run", strategy, steps=12)
    assert same(go(tmp_path / "run", strategy, resume=True), go(tmp_path / "whole", strategy))


def test_a_failed_round_is_not_saved(tmp_path: Path) -> None:
    on = ls.Failing(ls.Simulated(2), rank=1, at_request=30)
    with pytest.raises(WorkerFailed):
        go(tmp_path / "run", on=on)
    step = json.loads((tmp_path / "run" / "manifest.json").read_text())["step"]
    assert step % 4 == 0
    assert 0 < step < 20


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shapes_and_types_come_back(dtype: type, tmp_path: Path) -> None:
    x0 = np.ones((2, 4), dtype)

    def gradient(x: Any, batch: Any) -> Any:
        assert x.shape == (2, 4)
        return x * dtype(0.5)

    def run(resume: bool) -> ls.Result:
        return ls.run(
            ls.LocalSGD(3), gradient, x0, lambda r, n: iter([0] * 5), checkpoint=tmp_path, resume=resume,
            optimizer=ls.Adam(), on=ls.Threads(2),
        )  # fmt: skip

    first = run(False)
    again = run(True)
    assert again.params.shape == (2, 4)
    assert again.params.dtype == dtype
    assert again.params.tobytes() == first.params.tobytes()


@pytest.mark.parametrize("strided", [lambda x: x.T, lambda x: x[::-1], lambda x: x[:, ::2]])
def test_memory_in_any_order_is_written_as_it_reads(strided: Any, tmp_path: Path) -> None:
    values = strided(np.arange(24.0).reshape(4, 6))
    folder = Folder(tmp_path, {"workers": 1}, resume=False)
    folder.commit(1, [folder.write(1, 0, {"values": values}, {})], {})
    again = Folder(tmp_path, {"workers": 1}, resume=True)
    assert choose(again, range(1), lambda mine: [mine]) is not None
    np.testing.assert_array_equal(again.read(0)[0]["values"], values)
    write_tensors(str(tmp_path / "x.safetensors"), {"values": values}, {})
    np.testing.assert_array_equal(load_file(tmp_path / "x.safetensors")["values"], values)
