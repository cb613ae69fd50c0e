"""What can become of a folder of checkpoints: bits, bytes, files and what is said in them.

Of the format this knows no more than what any reader sees: JSON, safetensors, and names of files.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from tests.chaos.draw import Draw, sentence

from loosestep.foundation.errors import CheckpointError

STEPS, STOPPED, EARLIER = 20, 12, 8  # of a whole run; where it was stopped; where it was before
PLACES = ("/etc/passwd", "/dev/null", "/dev/zero", "/proc/self/mem", "..", ".", "", "\0", "a" * 5000, "step-*")
VALUES = (
    None, True, -1, 0, 1, 2, 2.9, 10**9, 10**30, 1e308, float("nan"), float("inf"), "x", "2", [], {}, [{}],
    {"a": 1}, *PLACES,
)  # fmt: skip


class Source(Protocol):
    """What wrote the checkpoints, and can go on from them."""

    def written(self, stop: int, data: int) -> Path:
        """The folder of a run with that data which was stopped there; not to be changed."""

    def goes_on(self, folder: Path) -> tuple[object, ...]:
        """What the run comes to that goes on from a folder: first its parameters, then all else that matters."""

    def unbroken(self) -> tuple[object, ...]:
        """... and what one comes to that was never broken."""

    def resumed(self, folder: Path) -> str:
        """`same` if it came to the same, or `sentence` if it was refused."""


class Resumed:
    """How sources judge."""

    def resumed(self: Source, folder: Path) -> str:
        try:
            found = self.goes_on(folder)
        except CheckpointError as error:
            return sentence(error, folder)
        wanted = self.unbroken()
        assert found[0] == wanted[0], "accepted, and the parameters are not those of an unbroken run"
        assert found == wanted, f"accepted, and not all is that of an unbroken run: {found[1:]} for {wanted[1:]}"
        return "same"


MUTATIONS: dict[str, Callable[[Draw, Path, Source], None]] = {}


class NotHere(Exception):
    """There is nothing in this checkpoint that could be mutated so."""


def mutation(mutate: Callable[[Draw, Path, Source], None]) -> Callable[[Draw, Path, Source], None]:
    """Make a function one of `MUTATIONS`, by its name."""
    MUTATIONS[mutate.__name__] = mutate
    return mutate


def kinds(sources: tuple[Source, ...]) -> dict[str, Callable[[Draw], str]]:
    """A kind of case for each mutation: a fresh copy of a checkpoint, mutated and resumed."""

    def kind(mutate: Callable[[Draw, Path, Source], None]) -> Callable[[Draw], str]:
        def case(draw: Draw) -> str:
            source, folder = draw.choice(sources), draw.folder / "run"
            shutil.copytree(source.written(STOPPED, 0), folder)
            try:
                mutate(draw, folder, source)
            except NotHere:
                return "nothing-to-mutate"
            return source.resumed(folder)

        return case

    return {name: kind(mutate) for name, mutate in MUTATIONS.items()}


def every(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def one(draw: Draw, folder: Path, *, of_parts: bool = False) -> Path:
    return draw.choice(parts(folder) if of_parts else every(folder))


def parts(folder: Path) -> list[Path]:
    return [file for file in every(folder) if file.suffix == ".safetensors"]


def tellers(folder: Path) -> list[Path]:
    return [file for file in every(folder) if file.suffix == ".json"]


def flipped(raw: bytes, bit: int) -> bytes:
    content = bytearray(raw)
    content[bit // 8] ^= 1 << bit % 8
    return bytes(content)


def two(draw: Draw, files: list[Path]) -> list[Path]:
    """Of them, in some order."""
    if len(files) < 2:
        raise NotHere
    return draw.sample(files, 2)


# --- bytes -------------------------------------------------------------------------------------------------


@mutation
def one_bit_of_a_manifest(draw: Draw, folder: Path, _: Source) -> None:
    """Another one in each case: in as many cases as it has bits, all of them."""
    file = draw.choice(tellers(folder))
    raw = file.read_bytes()
    file.write_bytes(flipped(raw, draw.turn * 7919 % (8 * len(raw))))


@mutation
def one_bit_of_a_part(draw: Draw, folder: Path, _: Source) -> None:
    file = one(draw, folder, of_parts=True)
    raw = file.read_bytes()
    file.write_bytes(flipped(raw, draw.randrange(8 * len(raw))))


@mutation
def many_bits(draw: Draw, folder: Path, _: Source) -> None:
    file = one(draw, folder)
    raw = file.read_bytes()
    for _ in range(draw.randrange(2, 30)):
        raw = flipped(raw, draw.randrange(8 * len(raw)))
    file.write_bytes(raw)


@mutation
def cut(draw: Draw, folder: Path, _: Source) -> None:
    file = one(draw, folder)
    raw = file.read_bytes()
    file.write_bytes(raw[: draw.randrange(len(raw))])


@mutation
def put_in(draw: Draw, folder: Path, _: Source) -> None:
    file = one(draw, folder)
    raw, more = file.read_bytes(), draw.randbytes(draw.choice((1, 8, 100)))
    place = draw.choice((0, len(raw), draw.randrange(len(raw))))
    file.write_bytes(raw[:place] + more + raw[place:])


@mutation
def junk(draw: Draw, folder: Path, _: Source) -> None:
    deep, digits = draw.choice((500, 5000, 200_000)), draw.choice((5000, 10**6))
    one(draw, folder).write_bytes(draw.choice((
        b"", b"\0" * 100, draw.randbytes(300), b"null", b"NaN", b"[]", b"{}", b"\xff\xfe{}", "{}".encode("utf-16"),
        b"[" * deep + b"]" * deep, b'{"step":' + b"9" * digits + b"}",
    )))  # fmt: skip


# --- files -------------------------------------------------------------------------------------------------


@mutation
def swapped(draw: Draw, folder: Path, _: Source) -> None:
    first, second = two(draw, every(folder))
    content = first.read_bytes(), second.read_bytes()
    second.write_bytes(content[0])
    first.write_bytes(content[1])


@mutation
def one_twice(draw: Draw, folder: Path, _: Source) -> None:
    first, second = two(draw, parts(folder))
    second.write_bytes(first.read_bytes())


def counterpart(draw: Draw, folder: Path, other: Path) -> None:
    """One file of another checkpoint in the place of that of the same name."""
    file = one(draw, folder)
    same = [each for each in every(other) if each.name == file.name]
    file.write_bytes(draw.choice(same).read_bytes())


@mutation
def file_of_another_run(draw: Draw, folder: Path, source: Source) -> None:
    counterpart(draw, folder, source.written(STOPPED, 1))


@mutation
def file_of_an_earlier_step(draw: Draw, folder: Path, source: Source) -> None:
    counterpart(draw, folder, source.written(EARLIER, 0))


@mutation
def file_is_missing(draw: Draw, folder: Path, _: Source) -> None:
    one(draw, folder).unlink()


@mutation
def file_is_a_folder(draw: Draw, folder: Path, _: Source) -> None:
    file = one(draw, folder)
    file.unlink()
    file.mkdir()


@mutation
def file_is_a_link(draw: Draw, folder: Path, source: Source) -> None:
    file = one(draw, folder)
    elsewhere = [each for each in every(source.written(STOPPED, 1)) if each.name == file.name]
    goal = draw.choice(("/etc/passwd", "/dev/null", "/proc/self/mem", "/nowhere", str(file), str(elsewhere[0])))
    file.unlink()
    file.symlink_to(goal)


@mutation
def folder_is_a_link_to_another_runs(draw: Draw, folder: Path, source: Source) -> None:
    for each in sorted(each for each in folder.iterdir() if each.is_dir()):
        other = [there for there in source.written(STOPPED, 1).iterdir() if there.name == each.name]
        if other:
            shutil.rmtree(each)
            each.symlink_to(other[0])


@mutation
def folder_is_missing(draw: Draw, folder: Path, _: Source) -> None:
    shutil.rmtree(draw.choice(sorted(each for each in folder.iterdir() if each.is_dir())))


@mutation
def drafts_are_left(draw: Draw, folder: Path, _: Source) -> None:
    """Of a run that was killed, files or, worse, folders."""
    for file in every(folder):
        draft = file.with_suffix(f"{file.suffix}.part")
        draft.mkdir() if draw.random() < 0.5 else draft.write_bytes(b"half")


@mutation
def strangers_are_there(draw: Draw, folder: Path, _: Source) -> None:
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


@mutation
def manifest_says_otherwise(draw: Draw, folder: Path, _: Source) -> None:
    file = draw.choice(tellers(folder))
    file.write_text(json.dumps(changed(draw, json.loads(file.read_text()))))


@mutation
def head_of_a_part_says_otherwise(draw: Draw, folder: Path, _: Source) -> None:
    """Of its tensors: another type, shape or place."""
    file = one(draw, folder, of_parts=True)
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


@mutation
def length_of_a_head_is_wrong(draw: Draw, folder: Path, _: Source) -> None:
    file = one(draw, folder, of_parts=True)
    said = draw.choice((0, 1, 10**8 + 1, 2**40, 2**63, 2**64 - 1))
    file.write_bytes(struct.pack("<Q", said) + file.read_bytes()[8:])


@mutation
def nothing(draw: Draw, folder: Path, source: Source) -> None:
    """Not mutated at all: this must be accepted."""
    assert source.resumed(folder) == "same"
