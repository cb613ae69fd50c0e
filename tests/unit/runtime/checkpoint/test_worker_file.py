"""A worker's part: what comes back, to whom it belongs, and what of it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.values import drawn

from loosestep.foundation.errors import CheckpointError, Damaged
from loosestep.runtime.checkpoint import disk, worker_file

BELONGS = {"run": "ab", "step": 3, "rank": 1}
FACTS = {"seconds": 0.1, "state": {"n": [1, 2.5, "x", None]}, "requests": {}}


def written(folder: Path, tensors: Any, facts: Any = FACTS, belongs: Any = BELONGS) -> Path:
    path = folder / "rank-00001.safetensors"
    path.write_bytes(worker_file.packed(tensors, facts, belongs))
    return path


@pytest.mark.parametrize("kind", sorted(worker_file.NUMBERS))
def test_numbers_of_every_type_come_back_to_the_bit(kind: str, tmp_path: Path) -> None:
    tensors = {"x": np.arange(6).reshape(2, 3).astype(kind), "none": np.zeros((0, 2), kind)}
    found, facts = worker_file.read(written(tmp_path, tensors), BELONGS)
    assert facts == FACTS
    for name, tensor in tensors.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert found[name].tobytes() == tensor.tobytes()


@drawn
@given(st.permutations(range(3)), st.booleans())
def test_memory_in_any_order_is_written_as_it_reads(tmp_path_factory: Any, order: list[int], back: bool) -> None:
    values = np.arange(24.0).reshape(2, 3, 4).transpose(order)[:: -1 if back else 1]
    path = written(tmp_path_factory.mktemp("parts"), {"x": values})
    np.testing.assert_array_equal(worker_file.read(path, BELONGS)[0]["x"], values)


@pytest.mark.parametrize("kind", ["object", "complex128", "U3"])
def test_what_cannot_be_kept_is_named(kind: str) -> None:
    with pytest.raises(CheckpointError, match=r"^state.x is of \S+, which a checkpoint cannot keep$"):
        worker_file.packed({"state.x": np.zeros(2).astype(kind)}, FACTS, BELONGS)


@pytest.mark.parametrize(("name", "value"), [("run", "cd"), ("step", 4), ("rank", 0)])
def test_a_part_of_another_checkpoint_is_refused(name: str, value: Any, tmp_path: Path) -> None:
    path = written(tmp_path, {"x": np.ones(2)})
    with pytest.raises(
        Damaged, match=f"^{path} belongs to {name} {BELONGS[name]}, and {name} {value} was wanted$"
    ):
        worker_file.read(path, {**BELONGS, name: value})


def test_a_whole_file_passes_and_every_other_is_damaged(tmp_path: Path) -> None:
    path = written(tmp_path, {"x": np.ones(2)})
    whole, measure = path.read_bytes(), disk.measure(path)
    worker_file.check_whole(path, measure)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(Damaged, match=f"^{path} is damaged: it does not match its checksum$"):
        worker_file.check_whole(path, measure)
    path.write_bytes(whole[:-1])
    with pytest.raises(Damaged, match=rf"it holds {len(whole) - 1} bytes, and {len(whole)} were written$"):
        worker_file.check_whole(path, measure)
    path.unlink()
    with pytest.raises(Damaged, match="cannot be read as a checkpoint: No such file or directory$"):
        worker_file.check_whole(path, measure)


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"{}" * 40])
def test_what_is_no_part_is_damaged(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(Damaged, match="^\\S+/x cannot be read as a checkpoint: "):
        worker_file.read(path, BELONGS)


def test_one_that_may_not_be_read_is_not_said_to_be_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(disk, "check_regular", refuse)
    with pytest.raises(CheckpointError, match="Permission denied") as error:
        worker_file.read(tmp_path / "x", BELONGS)
    assert not isinstance(error.value, Damaged)
