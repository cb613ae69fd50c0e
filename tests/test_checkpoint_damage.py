"""Whatever happens to a checkpoint's files, a run goes on to the same bits, or says why it cannot."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import pack, unpack
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save
from tests.test_checkpoint import go, same

import loosestep as ls
from loosestep import checkpoint, disk, manifest
from loosestep.choosing import choose
from loosestep.errors import CheckpointError

STRATEGIES: list[ls.Strategy] = [ls.LocalSGD(4), ls.EASGD(3), ls.CoCoDSGD(4)]
each_strategy = pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk would only take time."""
    monkeypatch.setattr("os.fsync", lambda file: None)


def newest(folder: Path) -> Path:
    return folder / json.loads((folder / "manifest.json").read_text())["folder"]


# --- the end at any touch of the disk ----------------------------------------------------------------------

TOUCHES = ("write", "move", "settle", "make_folder", "remove", "remove_folder")
MAY_REFUSE = TOUCHES[:-1]


class Killed(BaseException):
    """The process has ended here: nothing of it catches this."""


def half_written(path: Path, content: bytes) -> None:
    path.write_bytes(content[: len(content) // 2])


def half_removed(path: Path) -> None:
    for file in sorted(path.iterdir())[::2]:
        file.unlink()


HALVES: dict[str, Callable[..., None]] = {"write": half_written, "remove_folder": half_removed}
"""What is done before the end comes in the middle."""


class Disk:
    """Counts touches, and lets `fatal` be the last or refuses it."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, fatal: int, error: BaseException, half: bool = False
    ) -> None:
        self.count, self.fatal, self.error, self.half = 0, fatal, error, half
        for name in TOUCHES if isinstance(error, Killed) else MAY_REFUSE:
            monkeypatch.setattr(disk, name, self.counted(name, getattr(disk, name)))

    def counted(self, name: str, function: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            self.count += 1
            if self.count == self.fatal:
                if self.half:
                    HALVES.get(name, function)(*arguments)
                raise self.error
            function(*arguments)

        return call


def touches(tmp_path: Path, error: BaseException, **options: Any) -> int:
    with pytest.MonkeyPatch.context() as patch:
        counting = Disk(patch, 0, error)
        go(tmp_path / "counted", **options)
    return counting.count


@pytest.mark.parametrize(
    ("strategy", "keep", "half"),
    [
        *((STRATEGIES[0], keep, half) for keep in (1, 2) for half in (False, True)),
        (STRATEGIES[1], 2, True),
        (STRATEGIES[2], 1, True),
    ],
)
def test_killed_at_every_touch_of_the_disk(strategy: ls.Strategy, keep: int, half: bool, tmp_path: Path) -> None:
    options: dict[str, Any] = {"strategy": strategy, "keep": keep, "steps": 12}
    whole = go(tmp_path / "whole", **options)
    count = touches(tmp_path, Killed(), **options)
    assert count > 60
    for fatal in range(1, count + 1):
        folder = tmp_path / str(fatal)
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, fatal, Killed(), half)
            with pytest.raises(Killed):
                go(folder, **options)
        assert same(go(folder, resume=True, **options), whole), fatal
        assert len(list(folder.glob("step-*"))) <= keep
        shutil.rmtree(folder)


@pytest.mark.parametrize(("strategy", "keep"), [(STRATEGIES[0], 1), (STRATEGIES[0], 2), (STRATEGIES[1], 2)])
def test_refused_at_every_touch_of_the_disk(strategy: ls.Strategy, keep: int, tmp_path: Path) -> None:
    """What a disk refuses is said in a sentence, and the checkpoint before stays."""
    options: dict[str, Any] = {"strategy": strategy, "keep": keep, "steps": 12}
    whole = go(tmp_path / "whole", **options)
    error = OSError(28, "No space left on device")
    said = []
    for fatal in range(1, touches(tmp_path, error, **options) + 1):
        folder = tmp_path / str(fatal)
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, fatal, error)
            try:
                assert same(go(folder, **options), whole)
            except CheckpointError as refused:
                said.append(str(refused))
        assert same(go(folder, resume=True, **options), whole), fatal
        shutil.rmtree(folder)
    assert len(said) > 40
    for sentence in said:
        assert re.search(r"^cannot write .*: No space left on device; (the previous ch|nothing was tr)", sentence)


def test_what_cannot_be_removed_stays_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("shutil.rmtree", refuse)
    go(tmp_path / "run", steps=12, keep=1)
    told = capsys.readouterr().err
    assert re.match(r"cannot remove \S+/step-000000004: Operation not permitted; it is no longer needed\n", told)
    assert not (tmp_path / "run" / "step-000000004" / "manifest.json").exists()
    monkeypatch.undo()
    assert same(go(tmp_path / "run", resume=True, steps=12), go(tmp_path / "whole", steps=12))


# --- the newest whole one ----------------------------------------------------------------------------------


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a part": (lambda run: spoil(newest(run) / "rank-00001.safetensors"), "rank-00001.safetensors is damaged"),
    "a part is missing": (
        lambda run: (newest(run) / "rank-00000.safetensors").unlink(),
        "rank-00000.safetensors cannot be read as a checkpoint: No such file or directory",
    ),
    "its folder is missing": (lambda run: shutil.rmtree(newest(run)), "rank-00000.safetensors cannot be read"),
}


@each_strategy
@pytest.mark.parametrize("kind", DAMAGES)
def test_the_one_before_is_used_where_the_newest_is_damaged(
    strategy: ls.Strategy, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    go(tmp_path / "run", strategy, steps=12)
    damage, words = DAMAGES[kind]
    damage(tmp_path / "run")
    capsys.readouterr()
    resumed = go(tmp_path / "run", strategy, resume=True)
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert words in told
    assert told.endswith("; going on from step 8 (step-000000008), which is whole\n")
    assert same(resumed, go(tmp_path / "whole", strategy))
    assert sorted(path.name[:14] for path in (tmp_path / "run").glob("step-*")) == [
        "step-000000016",
        "step-000000020",
    ]


@each_strategy
@pytest.mark.parametrize("keep", [1, 2])
@pytest.mark.parametrize("left", ["missing", "empty", "spoilt"])
def test_a_manifest_that_is_lost_is_found_beside_the_parts(
    strategy: ls.Strategy, keep: int, left: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    go(tmp_path / "run", strategy, steps=12, keep=keep)
    manifest = tmp_path / "run" / "manifest.json"
    {"missing": manifest.unlink, "empty": lambda: manifest.write_text(""), "spoilt": lambda: spoil(manifest)}[
        left
    ]()
    with pytest.raises(ValueError, match="holds a checkpoint: pass resume=True"):
        go(tmp_path / "run", strategy)
    resumed = go(tmp_path / "run", strategy, resume=True)
    told = capsys.readouterr().err
    assert re.fullmatch(
        r"\S*/run/manifest.json is (missing|not a checkpoint's manifest: .*); going on from step 12 "
        r"\(step-000000012-again\), which is whole\n", told
    )  # fmt: skip
    assert same(resumed, go(tmp_path / "whole", strategy))


def test_a_newer_one_that_did_not_count_is_not_used(tmp_path: Path) -> None:
    """Its manifest is beside its parts, but the run ended before DIR/manifest.json named it."""
    go(tmp_path / "run", steps=12)
    counting = (tmp_path / "run" / "manifest.json").read_bytes()
    go(tmp_path / "run", steps=16, resume=True)
    (tmp_path / "run" / "manifest.json").write_bytes(counting)
    found = ls.checkpoint.Folder(tmp_path / "run", {"workers": 2}, resume=True)
    assert [each.step for each in found.candidates()] == [12]  # type: ignore[union-attr]


def test_where_none_is_whole_the_newest_is_named(tmp_path: Path) -> None:
    go(tmp_path / "run")
    for part in (tmp_path / "run").rglob("rank-00001.safetensors"):
        spoil(part)
    with pytest.raises(
        CheckpointError, match=r"step-000000020-again/rank-00001.safetensors is damaged: it does not match"
    ):
        go(tmp_path / "run", resume=True)


def test_a_part_that_may_not_be_read_is_no_reason_to_lose_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(tmp_path / "run")

    def refuse(path: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(disk, "measure", refuse)
    with pytest.raises(
        CheckpointError, match=r"rank-00000.safetensors cannot be read as a checkpoint: Permission denied$"
    ):
        go(tmp_path / "run", resume=True)


# --- damage of every kind ----------------------------------------------------------------------------------


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


# --- formats -----------------------------------------------------------------------------------------------


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


# --- two jobs, and folders that cannot be written ----------------------------------------------------------

HOLDER = """
import sys
from pathlib import Path
from loosestep import locking
locking.take(Path(sys.argv[1]), alone=True)
print("held", flush=True)
sys.stdin.read()
"""


def test_another_job_is_named_until_it_ends(tmp_path: Path) -> None:
    go(tmp_path, steps=8)
    holding = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holding.stdout is not None
    assert holding.stdout.readline() == "held\n"
    try:
        with pytest.raises(
            CheckpointError,
            match=rf"^{tmp_path} is written by another job, process {holding.pid} on \S+ since [\d: -]+: wait for",
        ):
            go(tmp_path, resume=True)
    finally:
        holding.kill()
        holding.communicate()
    assert same(go(tmp_path, resume=True), go(tmp_path / "whole"))


def test_two_runs_of_one_process_do_not_share_a_folder(tmp_path: Path) -> None:
    said = []

    def inner(progress: ls.Progress) -> None:
        if not said:
            with pytest.raises(CheckpointError, match="is written by another run of this process"):
                go(tmp_path / "run", resume=True)
            said.append(progress.step)

    whole = go(tmp_path / "run", every=4, callback=inner)
    assert said == [4]
    assert same(go(tmp_path / "run", resume=True), whole)


def test_a_forked_copy_does_not_hold_the_lock(tmp_path: Path) -> None:
    key = checkpoint.locking.take(tmp_path, alone=True)
    code = HOLDER.replace("sys.stdin.read()", "")
    try:
        child = os.fork()
        if not child:
            checkpoint.locking.release(key)  # which is not its own
            os._exit(0)
        os.waitpid(child, 0)
        held = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert f"process {os.getpid()} on" in held.stderr
    finally:
        checkpoint.locking.release(key)
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0


def test_a_folder_that_cannot_be_written_is_found_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    steps = []

    def batches(rank: int, size: int) -> Iterator[int]:
        steps.append(rank)
        return iter([0] * 5)

    with pytest.raises(
        CheckpointError, match=r"^cannot write to \S+/file/run: Not a directory; nothing was trained yet"
    ):
        ls.run(ls.LocalSGD(2), lambda x, b: x, np.ones(2), batches, checkpoint=tmp_path / "file" / "run")
    assert not steps
