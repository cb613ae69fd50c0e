"""Mutated checkpoints: a resumed run has the bits of an unbroken one, or says CheckpointError; nothing else.

Of the format this knows no more than what any reader sees: JSON, safetensors, and names of files.
"""

from __future__ import annotations

import json
import shutil
import struct
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tests.chaos.draw import sentence

import loosestep as ls
from loosestep.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.chaos.draw import Draw

ALL = 6000
STRATEGIES = (ls.LocalSGD(4), ls.EASGD(4), ls.CoCoDSGD(4), ls.DiLoCo(4))
STEPS, STOPPED, EARLIER = 20, 12, 8
PLACES = ("/etc/passwd", "/dev/null", "/dev/zero", "/proc/self/mem", "..", ".", "", "\0", "a" * 5000, "step-*")
VALUES = (
    None, True, -1, 0, 1, 2, 2.9, 10**9, 10**30, 1e308, float("nan"), float("inf"), "x", "2", [], {}, [{}],
    {"a": 1}, *PLACES,
)  # fmt: skip


# --- the runs ----------------------------------------------------------------------------------------------


def go(
    folder: Path | None, strategy: ls.Strategy, *,
    steps: int = STEPS, stop: int = STEPS, data: int = 0, resume: bool = False,
) -> ls.Result:  # fmt: skip
    """A run of two imaginary workers, of so many steps, or stopped earlier."""

    def batches(rank: int, size: int) -> Iterator[Any]:
        random = np.random.default_rng(rank + 100 * data)
        return (random.standard_normal((3, 8)) for _ in range(steps))

    saved = {"checkpoint": folder, "checkpoint_every": 4, "resume": resume} if folder else {}
    return ls.run(
        strategy, lambda x, batch: (float(x @ x), x - batch.mean(axis=0)), np.ones(8), batches,
        optimizer=ls.Momentum(0.05), on=ls.Simulated(2), evaluate=lambda x: float(x[0]), every=4,
        stop=lambda progress: progress.step >= stop, **saved,
    )  # fmt: skip


def told(result: ls.Result) -> tuple[object, ...]:
    """What must be the same after a resume: the parameters, and the history but for what clocks say."""
    history = [(each.step, each.samples, each.loss, tuple(each.metrics.items())) for each in result.history]
    return result.params.tobytes(), result.steps, result.samples, tuple(history)


@cache
def written(strategy: ls.Strategy, stop: int, data: int) -> Path:
    """A folder of a run that stopped there."""
    folder = Path.cwd() / f"written-{strategy.__class__.__name__}-{stop}-{data}"
    go(folder, strategy, stop=stop, data=data)
    return folder


@cache
def unbroken(strategy: ls.Strategy) -> tuple[object, ...]:
    return told(go(None, strategy))


def kind(mutate: Callable[[Draw, Path, ls.Strategy], None]) -> Callable[[Draw], str]:
    """A case: a fresh copy of a checkpoint, mutated and resumed."""

    def case(draw: Draw) -> str:
        strategy, folder = draw.choice(STRATEGIES), draw.folder / "run"
        shutil.copytree(written(strategy, STOPPED, 0), folder)
        mutate(draw, folder, strategy)
        return resumed(folder, strategy)

    case.__name__ = mutate.__name__
    KINDS[case.__name__] = case
    return case


def resumed(folder: Path, strategy: ls.Strategy) -> str:
    """`same` or `sentence`."""
    try:
        result = go(folder, strategy, resume=True)
    except CheckpointError as error:
        return sentence(error, folder)
    found, wanted = told(result), unbroken(strategy)
    assert found[0] == wanted[0], "accepted, and the parameters are not those of an unbroken run"
    assert found[1:] == wanted[1:], f"accepted, and steps, samples or history differ: {found[1:]} for {wanted[1:]}"
    return "same"


KINDS: dict[str, Callable[[Draw], str]] = {}


def every(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def one(draw: Draw, folder: Path, *, json_too: bool = True) -> Path:
    return draw.choice([file for file in every(folder) if json_too or file.suffix != ".json"])


def tellers(folder: Path) -> list[Path]:
    return [file for file in every(folder) if file.suffix == ".json"]


def flipped(raw: bytes, bit: int) -> bytes:
    content = bytearray(raw)
    content[bit // 8] ^= 1 << bit % 8
    return bytes(content)


# --- bytes -------------------------------------------------------------------------------------------------


@kind
def one_bit_of_a_manifest(draw: Draw, folder: Path, _: ls.Strategy) -> None:
    """Another one in each case: in as many cases as it has bits, all of them."""
    file = draw.choice(tellers(folder))
    raw = file.read_bytes()
    file.write_bytes(flipped(raw, draw.turn * 7919 % (8 * len(raw))))


@kind
def one_bit_of_a_part(draw: Draw, folder: Path, _: ls.Strategy) -> None:
    file = one(draw, folder, json_too=False)
    raw = file.read_bytes()
    file.write_bytes(flipped(raw, draw.randrange(8 * len(raw))))


@kind
def many_bits(draw: Draw, folder: Path, _: ls.Strategy) -> None:
    file = one(draw, folder)
    raw = file.read_bytes()
    for _ in range(draw.randrange(2, 30)):
        raw = flipped(raw, draw.randrange(8 * len(raw)))
    file.write_bytes(raw)


@kind
def cut(draw: Draw, folder: Path, _: ls.Strategy) -> None:
    file = one(draw, folder)
    raw = file.read_bytes()
    file.write_bytes(raw[: draw.randrange(len(raw))])


@kind
def put_in(draw: Draw, folder: Path, _: ls.Strategy) -> None:
    file = one(draw, folder)
    raw, more = file.read_bytes(), draw.randbytes(draw.choice((1, 8, 100)))
    place = draw.choice((0, len(raw), draw.randrange(len(raw))))
    file.write_bytes(raw[:place] + more + raw[place:])


@kind
def junk(draw: Draw, folder: Path, _: ls.Strategy) -> None:
    deep, digits = draw.choice((500, 5000, 200_000)), draw.choice((5000, 10**6))
    one(draw, folder).write_bytes(draw.choice((
        b"", b"\0" * 100, draw.randbytes(300), b"null", b"NaN", b"[]", b"{}", b"\xff\xfe{}", "{}".encode("utf-16"),
        b"[" * deep + b"]" * deep, b'{"step":' + b"9" * digits + b"}",
    )))  # fmt: skip


# --- files -------------------------------------------------------------------------------------------------


@kind
def swapped(draw: Draw, folder: Path, _: ls.Strategy) -> None:
    first, second = draw.sample(every(folder), 2)
    content = first.read_bytes(), second.read_bytes()
    second.write_bytes(content[0])
    first.write_bytes(content[1])


@kind
def one_twice(draw: Draw, folder: Path, _: ls.Strategy) -> None:
    first, second = draw.sample([file for file in every(folder) if file.suffix != ".json"], 2)
    second.write_bytes(first.read_bytes())


def counterpart(draw: Draw, folder: Path, other: Path) -> None:
    """One file of another checkpoint in the place of that of the same name."""
    file = one(draw, folder)
    same = [each for each in every(other) if each.name == file.name]
    file.write_bytes(draw.choice(same).read_bytes())


@kind
def file_of_another_run(draw: Draw, folder: Path, strategy: ls.Strategy) -> None:
    counterpart(draw, folder, written(strategy, STOPPED, 1))


@kind
def file_of_an_earlier_step(draw: Draw, folder: Path, strategy: ls.Strategy) -> None:
    counterpart(draw, folder, written(strategy, EARLIER, 0))


@kind
def file_is_missing(draw: Draw, folder: Path, _: ls.Strategy) -> None:
    one(draw, folder).unlink()


@kind
def file_is_a_folder(draw: Draw, folder: Path, _: ls.Strategy) -> None:
    file = one(draw, folder)
    file.unlink()
    file.mkdir()


@kind
def file_is_a_link(draw: Draw, folder: Path, strategy: ls.Strategy) -> None:
    file = one(draw, folder)
    elsewhere = [each for each in every(written(strategy, STOPPED, 1)) if each.name == file.name]
    goal = draw.choice(("/etc/passwd", "/dev/null", "/proc/self/mem", "/nowhere", str(file), str(elsewhere[0])))
    file.unlink()
    file.symlink_to(goal)


@kind
def folder_is_a_link_to_another_runs(draw: Draw, folder: Path, strategy: ls.Strategy) -> None:
    for each in sorted(each for each in folder.iterdir() if each.is_dir()):
        other = [there for there in written(strategy, STOPPED, 1).iterdir() if there.name == each.name]
        if other:
            shutil.rmtree(each)
            each.symlink_to(other[0])


@kind
def folder_is_missing(draw: Draw, folder: Path, _: ls.Strategy) -> None:
    shutil.rmtree(draw.choice(sorted(each for each in folder.iterdir() if each.is_dir())))


@kind
def drafts_are_left(draw: Draw, folder: Path, _: ls.Strategy) -> None:
    """Of a run that was killed, files or, worse, folders."""
    for file in every(folder):
        draft = file.with_suffix(f"{file.suffix}.part")
        draft.mkdir() if draw.random() < 0.5 else draft.write_bytes(b"half")


@kind
def strangers_are_there(draw: Draw, folder: Path, _: ls.Strategy) -> None:
    """Files and folders that somebody else put there."""
    (folder / "step-000000016").mkdir(exist_ok=True)
    (folder / "step-x").write_text("?")
    (folder / "notes.txt").write_text("mine")
    (folder / "step-999999999").symlink_to("/nowhere")


# --- what is said ------------------------------------------------------------------------------------------


def walk(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a value of JSON."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from walk(each, (*path, key))


def changed(draw: Draw, content: Any) -> Any:
    """One place of it holds another value, is missing, or is another place's."""
    places = list(walk(content))
    path = draw.choice(places)
    if not path:
        return draw.choice(VALUES)
    at = content
    for key in path[:-1]:
        at = at[key]
    if draw.random() < 0.2:
        del at[path[-1]]
    else:
        at[path[-1]] = draw.choice(VALUES)
    return content


@kind
def manifest_says_otherwise(draw: Draw, folder: Path, _: ls.Strategy) -> None:
    file = draw.choice(tellers(folder))
    file.write_text(json.dumps(changed(draw, json.loads(file.read_text()))))


@kind
def head_of_a_part_says_otherwise(draw: Draw, folder: Path, _: ls.Strategy) -> None:
    """Of its tensors: another type, shape or place."""
    file = one(draw, folder, json_too=False)
    raw = file.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    head = json.loads(raw[8 : 8 + length])
    name = draw.choice(sorted(head.keys() - {"__metadata__"}))
    what = draw.choice(("dtype", "shape", "data_offsets", "gone", "all"))
    if what == "dtype":
        head[name][what] = draw.choice(("I64", "U64", "F32", "F16", "BF16", "BOOL", "F8_E4M3", "X", 5, None))
    elif what == "shape":
        head[name][what] = draw.choice(([2**40], [2**62, 4], [0], [-1], [8, 0], [1.5], [], [2, 4], [1] * 70, "8"))
    elif what == "data_offsets":
        head[name][what] = draw.choice(([-8, 56], [0, 0], [2**62, 2**62 + 64], [64, 0], [8, 72], None, []))
    elif what == "gone":
        del head[name]
    else:
        head = changed(draw, head)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


@kind
def length_of_a_head_is_wrong(draw: Draw, folder: Path, _: ls.Strategy) -> None:
    file = one(draw, folder, json_too=False)
    said = draw.choice((0, 1, 10**8 + 1, 2**40, 2**63, 2**64 - 1))
    file.write_bytes(struct.pack("<Q", said) + file.read_bytes()[8:])


@kind
def nothing(draw: Draw, folder: Path, strategy: ls.Strategy) -> None:
    """Not mutated at all: this must be accepted."""
    assert resumed(folder, strategy) == "same"
