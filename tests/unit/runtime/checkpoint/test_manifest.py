"""A manifest comes back as it was written, or is refused in a sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.values import drawn

from loosestep.foundation.errors import CheckpointError, Damaged
from loosestep.runtime.checkpoint import manifest
from loosestep.runtime.checkpoint.manifest import Manifest

ONE = Manifest(2, "ab", 3, 40, "step-000000040", {"workers": 2}, {"history": []}, ((10, 11), (12, 13)))


def read(folder: Path, content: bytes) -> Manifest:
    path = folder / "manifest.json"
    path.write_bytes(content)
    return manifest.read(path)


def rightly(**values: Any) -> bytes:
    """With the right checksum."""
    content = {**json.loads(ONE.written()), **values}
    content.pop("check")
    return json.dumps({**content, "check": manifest.check(content)}).encode()


@pytest.mark.parametrize("folder", ["step-000000040", "step-000000040-again-again", "step-123456789012345"])
def test_it_comes_back(folder: str, tmp_path: Path) -> None:
    one = replace(ONE, folder=folder)
    assert read(tmp_path, one.written()) == one
    assert one.workers == 2


def test_however_it_is_laid_out(tmp_path: Path) -> None:
    content = json.loads(ONE.written())
    laid_out = json.dumps(dict(reversed(content.items())), separators=(",", ":")).encode()
    assert read(tmp_path, laid_out) == ONE


@drawn
@given(st.integers(0, 10**6), st.integers(0, 7))
def test_any_bit_of_it_counts(tmp_path_factory: Any, place: int, bit: int) -> None:
    """What is read is what was written, or nothing is."""
    content = bytearray(ONE.written())
    content[place % len(content)] ^= 1 << bit
    try:
        found = read(tmp_path_factory.mktemp("manifest"), bytes(content))
    except CheckpointError as error:
        assert "manifest.json" in str(error)  # noqa: PT017
    else:
        assert found == ONE


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"step": -1}, "step is -1"),
        ({"step": 1.5}, "step is 1.5"),
        ({"number": True}, "number is True"),
        ({"signature": {"workers": 0}}, "workers is 0"),
        ({"signature": {}}, "workers.* is missing"),
        ({"folder": "../x"}, "'../x' is no name of a checkpoint's folder"),
        ({"folder": "step-1"}, "'step-1' is no name of a checkpoint's folder"),
        ({"folder": "step-000000040/.."}, "is no name of a checkpoint's folder"),
        ({"parts": [[1, 2]]}, "it knows 1 parts of 2 workers"),
        ({"parts": [[1, 2, 3], [1, 2]]}, "too many values"),
        ({"more": 1}, "unexpected keyword argument 'more'"),
        ({"format": 2.0}, "its format is 2.0"),
    ],
)
def test_what_nobody_would_write_is_damaged(values: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(Damaged, match=rf"manifest.json is not a checkpoint's manifest: .*{words}"):
        read(tmp_path, rightly(**values))


def test_values_that_do_not_match_the_checksum_are_damaged(tmp_path: Path) -> None:
    content = json.loads(ONE.written())
    with pytest.raises(Damaged, match="it does not match its checksum"):
        read(tmp_path, json.dumps({**content, "step": 41}).encode())


@pytest.mark.parametrize("number", [0, 3, 99])
def test_a_later_format_is_no_damage(number: int, tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=f"has format {number}, and this version reads formats 1 to 2$"
    ) as error:
        read(tmp_path, rightly(format=number))
    assert not isinstance(error.value, Damaged)


def test_the_first_format_is_read(tmp_path: Path) -> None:
    content = {name: json.loads(ONE.written())[name] for name in ("step", "folder", "signature", "facts")}
    found = read(tmp_path, json.dumps({"format": 1, **content}).encode())
    assert (found.step, found.run, found.number, len(found.parts)) == (40, "", 0, 0)
    with pytest.raises(Damaged, match="format 1 does not go with more"):
        read(tmp_path, json.dumps({"format": 1, **content, "more": 1}).encode())
