"""Whatever happens to a checkpoint's files, a run goes on to the same bits, or says why it cannot."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import pack, unpack
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from tests.unit.runtime.checkpoint.runs import newest, same
from tests.unit.runtime.checkpoint.runs import quick_disk as quick_disk

import loosestep as ls
from loosestep.foundation.errors import CheckpointError
from loosestep.runtime.checkpoint import folder as checkpoint
from loosestep.runtime.checkpoint import manifest
from loosestep.runtime.checkpoint.resume_point import choose


def small(folder: Path, data: int = 0, steps: int = 6, **options: Any) -> ls.Result:
    """Six steps of two workers on two numbers, saved every two: files of some hundred bytes."""

    def batches(rank: int, size: int) -> Iterator[Any]:
        rng = np.random.default_rng(rank + 10 * data)
        return (rng.standard_normal((3, 2)) for _ in range(steps))

    return ls.run(
        ls.LocalSGD(2),
        lambda x, batch: x - batch.mean(axis=0),
        np.ones(2),
        batches,
        optimizer=ls.Momentum(0.05),
        on=ls.Simulated(2),
        checkpoint=folder,
        checkpoint_every=2,
        **options,
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two runs that are alike, `run` (keep=2) and `other`, each until step 4; and the whole run."""
    folder = tmp_path_factory.mktemp("written")
    for name, data in (("run", 0), ("other", 1)):
        small(folder / name, data, steps=4)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> ls.Result:
    return small(tmp_path_factory.mktemp("whole"))


def outcome(folder: Path, whole: ls.Result) -> str:
    """Resumed to the same bits, or a sentence; anything else fails."""
    try:
        resumed = small(folder, resume=True)
    except CheckpointError as error:
        return "refused" if re.search(rf"{folder}[^\n]*$", str(error)) else f"no sentence: {error}"
    assert same(resumed, whole)
    return "resumed"


def chosen(folder: Path) -> Any:
    """The manifest that a resumed run would go on from, or a sentence."""
    found = checkpoint.Folder(folder, json.loads((folder / "manifest.json").read_text())["signature"], resume=True)
    return lambda: choose(found, range(2), lambda mine: [mine])


def every_flip(file: Path, folder: Path, bits: int) -> set[Any]:
    """Steps of what is chosen where any byte of a file has one of its bits flipped; 'refused' of sentences."""
    choice = chosen(folder)
    genuine = {path: manifest.read(path) for path in folder.rglob("manifest.json")}.values()
    content, seen = file.read_bytes(), set()
    for place in range(len(content)):
        for bit in range(8) if bits == 8 else [place % 8]:
            file.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
            try:
                found = choice()
            except CheckpointError as error:
                assert str(error).startswith(str(folder))  # noqa: PT017
                seen.add("refused")
            else:
                assert found in genuine
                seen.add(found.step)
    file.write_bytes(content)
    return seen


def test_every_bit_of_a_manifest(written: Path, tmp_path: Path) -> None:
    """Spaces may be others; else it is read beside the parts, or is of an unknown format."""
    folder = Path(shutil.copytree(written / "run", tmp_path / "run"))
    assert every_flip(folder / "manifest.json", folder, 8) == {4, "refused"}


@pytest.mark.parametrize("rank", [0, 1])
def test_every_byte_of_a_part(rank: int, written: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(written / "run", tmp_path / "run"))
    assert every_flip(newest(folder) / f"rank-{rank:05d}.safetensors", folder, 1) == {2}


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def swap(run: Path, other: Path) -> None:
    one, two = sorted(newest(run).glob("rank-*"))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def take_part(source: Callable[[Path, Path], Path]) -> Callable[[Path, Path], None]:
    """A part comes from somewhere else."""

    def change(run: Path, other: Path) -> None:
        part = newest(run) / "rank-00001.safetensors"
        part.write_bytes(source(run, other).read_bytes())

    return change


def link_folder(run: Path, other: Path) -> None:
    folder = newest(run)
    shutil.rmtree(folder)
    folder.symlink_to(newest(other).resolve())


def link_part(target: str) -> Callable[[Path, Path], None]:
    def change(run: Path, other: Path) -> None:
        part = newest(run) / "rank-00000.safetensors"
        part.unlink()
        part.symlink_to(target)

    return change


def pipe(run: Path, other: Path) -> None:
    part = newest(run) / "rank-00000.safetensors"
    part.unlink()
    os.mkfifo(part)


def say(**values: Any) -> Callable[[Path, Path], None]:
    """Other values in the manifest, as they stand."""

    def change(run: Path, other: Path) -> None:
        path = run / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def say_rightly(**values: Any) -> Callable[[Path, Path], None]:
    """Other values in all manifests, with the right checksum: nobody's mishap."""

    def change(run: Path, other: Path) -> None:
        for path in run.rglob("manifest.json"):
            content = {**json.loads(path.read_text()), **values}
            content.pop("check")
            content["check"] = crc32(json.dumps(content, sort_keys=True).encode())
            path.write_text(json.dumps(content))

    return change


def header(change_of: Callable[[dict[str, Any]], None]) -> Callable[[Path, Path], None]:
    """Another header of a part, its data untouched."""

    def change(run: Path, other: Path) -> None:
        part = newest(run) / "rank-00000.safetensors"
        content = part.read_bytes()
        (length,) = unpack("<Q", content[:8])
        told = json.loads(content[8 : 8 + length])
        change_of(told)
        text = json.dumps(told).encode()
        text += b" " * (-len(text) % 8)
        part.write_bytes(pack("<Q", len(text)) + text + content[8 + length :])

    return change


def manifest_is(content: bytes) -> Callable[[Path, Path], None]:
    return lambda run, other: [path.write_bytes(content) for path in run.rglob("manifest.json")] and None


MUTATIONS: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "parts swapped": (swap, "resumed"),
    "rank 0's part for rank 1": (take_part(lambda run, other: newest(run) / "rank-00000.safetensors"), "resumed"),
    "a part of another run": (take_part(lambda run, other: newest(other) / "rank-00001.safetensors"), "resumed"),
    "a part of an earlier step": (
        take_part(lambda run, other: run / "step-000000002" / "rank-00001.safetensors"), "resumed"
    ),
    "another run's manifest": (lambda run, other: shutil.copy(other / "manifest.json", run) and None, "refused"),
    "an older manifest": (
        lambda run, other: shutil.copy(run / "step-000000002" / "manifest.json", run) and None, "resumed"
    ),
    "a folder that is another run's": (link_folder, "resumed"),
    "a part without an end": (link_part("/dev/zero"), "resumed"),
    "a part that is nothing": (link_part("/dev/null"), "resumed"),
    "a part that is itself": (link_part("rank-00000.safetensors"), "resumed"),
    "a part that is a pipe": (pipe, "resumed"),
    "a manifest that is a folder": (
        lambda run, other: (run / "manifest.json").unlink() or (run / "manifest.json").mkdir(), "refused"
    ),
    "deep JSON": (manifest_is(nested(200_000)), "refused"),
    "a number of many digits": (manifest_is(b'{"format": ' + b"9" * 10_000 + b"}"), "refused"),
    "bytes that are no text": (manifest_is(b"\xff\xfe{}"), "refused"),
    "1e400 for a step": (say_rightly(step=1e400), "refused"),
    "a step below zero": (say_rightly(step=-1), "refused"),
    "true for a format": (say_rightly(format=True), "refused"),
    "a later format": (say(format=3), "refused"),
    "an earlier format": (say(format=1), "resumed"),
    "no workers": (say_rightly(signature={"workers": 0}), "refused"),
    "no signature": (say_rightly(signature=[]), "refused"),
    "a folder above": (say_rightly(folder="../other/step-000000004"), "refused"),
    "a folder elsewhere": (say_rightly(folder="/etc"), "refused"),
    "a folder with a null": (say_rightly(folder="\0"), "refused"),
    "facts that are none": (say_rightly(facts={}), "refused"),
    "a history of nothing": (say_rightly(facts={"history": [None], "halt_at": None, "told": [0, 0]}), "refused"),
    "parts of other sizes": (say_rightly(parts=[[1, 2]]), "refused"),
    "parts that are words": (say_rightly(parts=["ab", "cd"]), "refused"),
    "values not as they stood": (say(step=2), "resumed"),
    "another dtype": (header(lambda told: told["params"].update(dtype="I64")), "resumed"),
    "another shape": (header(lambda told: told["params"].update(shape=[1, 2])), "resumed"),
    "another shape and dtype": (header(lambda told: told["params"].update(dtype="F32", shape=[4])), "resumed"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MUTATIONS)
def test_mutations(kind: str, written: Path, whole: ls.Result, tmp_path: Path) -> None:
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    change, expected = MUTATIONS[kind]
    change(tmp_path / "run", tmp_path / "other")
    assert outcome(tmp_path / "run", whole) == expected


@pytest.mark.parametrize("seed", range(6))
def test_random_damage(seed: int, written: Path, whole: ls.Result, tmp_path: Path) -> None:
    """Bits, bytes and ends of any of the files."""
    rng = random.Random(seed)
    for _ in range(25):
        folder = tmp_path / "run"
        shutil.copytree(written / "run", folder)
        for _ in range(rng.randrange(1, 4)):
            file = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
            content = bytearray(file.read_bytes())
            how = rng.choice(["flip", "cut", "insert", "append", "lose"])
            place = rng.randrange(len(content) + 1)
            if how == "flip" and content:
                content[place - 1] ^= 1 << rng.randrange(8)
            elif how == "cut":
                del content[place:]
            elif how in ("insert", "append"):
                place = len(content) if how == "append" else place
                content[place:place] = rng.randbytes(rng.choice([1, 8, 100]))
            file.write_bytes(content)
            if how == "lose":
                file.unlink()
        assert outcome(folder, whole) in ("resumed", "refused")
        shutil.rmtree(folder)
