"""The folder of a run's checkpoints: a safetensors file per worker, then a JSON manifest that makes them count.

    DIR/manifest.json                       names the checkpoint that counts
    DIR/step-000000020/manifest.json        the same, for when that one is lost
    DIR/step-000000020/rank-00000.safetensors ...
    DIR/step-000000016/ ...                 the one before, as many as `keep` says
    DIR/lock                                held by the job that writes here

DIR/manifest.json is replaced in one move after every file of the new one is on disk, so a run killed at any time
leaves a complete checkpoint or none. Every part belongs to a run, a step and a rank; the manifest knows the
checksum of each part, and its own. Where the newest is damaged the one before is used, and a line on standard
error says so.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from os.path import lexists
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from loosestep.foundation import checks
from loosestep.foundation.errors import CheckpointError, Damaged
from loosestep.runtime.checkpoint import disk, locking, manifest, worker_file
from loosestep.runtime.checkpoint.disk import replace
from loosestep.runtime.checkpoint.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from numpy.typing import NDArray

    from loosestep.requests import Buffer

Facts = dict[str, Any]
Part = tuple[int, int]
"""How long a written part is, and its checksum."""

KEEP = 2
"""How many checkpoints are kept by default."""


class Folder:
    """The checkpoint folder of one run. `signature` describes the run; a folder of another run is refused.

    keep: how many checkpoints stay, of as many steps. advice: what the caller can do who may not resume. Raises
    ValueError where there is a checkpoint and `resume` is False.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        signature: Facts,
        *,
        resume: bool,
        keep: int = KEEP,
        advice: str = "pass resume=True to go on from it, or another folder",
    ) -> None:
        self.path, self.signature, self.keep = Path(path), signature, checks.integer("keep", keep)
        self.run, self.number = "", 0  # the run's id, and that of its last checkpoint
        self.kept: list[str] = []  # the folders of its checkpoints, newest first
        self.doubtful: list[str] = []  # the folders of those that could not be committed since the last
        self.workers = int(signature["workers"])  # that wrote the checkpoint in the folder
        self.found: Manifest | None = None
        self.key = ""  # of its lock
        self.advice = advice
        if lexists(self.path) and not self.path.is_dir():  # in this order: another rank may be making it
            what = "a file" if self.path.exists() else "a link to nothing"
            raise ValueError(f"checkpoint must be a folder, but {self.path} is {what}")
        if not resume:
            self.check_own()

    @property
    def manifest(self) -> Path:
        return self.path / manifest.NAME

    @property
    def current(self) -> str:
        """The name of the folder that holds the newest committed checkpoint."""
        return self.kept[0] if self.kept else ""

    def part(self, folder: str, rank: int) -> Path:
        """Return the path of a worker's part of a checkpoint."""
        return self.path / folder / f"rank-{rank:05d}.safetensors"

    def fresh(self, step: int) -> str:
        """Return the name of an unused folder for a new checkpoint, even where another one is of the same step."""
        name = f"step-{step:09d}"
        while name in (*self.kept, *self.doubtful):
            name += "-again"
        return name

    # --- before anything is trained ----------------------------------------------------------------------

    def probe(self, rank: int, since: str = "") -> None:
        """Raise CheckpointError where this process cannot write here; `since` says what was trained."""
        path = self.path / f"probe-{rank:05d}"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"\0" * 4096)
            disk.remove(path)
        except OSError as error:
            raise CheckpointError(
                f"cannot write to {self.path}: {disk.reason(error)}; {since}use another folder, or check its "
                "free space and rights"
            ) from error

    def check_own(self) -> None:
        """Raise ValueError where there is a checkpoint that this run neither wrote nor goes on from."""
        if not holds(self.path):
            return
        found = attempt(self.manifest)
        if isinstance(found, str):  # of a run that has its own it was damaged since
            own = bool(self.kept or self.doubtful)
        else:
            own = found.run == self.run if found.run else found.folder in self.kept
        if not own:
            raise ValueError(f"{self.path} holds a checkpoint: {self.advice}")

    def lock(self, *, alone: bool) -> None:
        """Keep other jobs away until `close`; for the process of rank 0."""
        if self.key:
            return
        try:
            self.key = locking.take(self.path, alone=alone)
        except OSError as error:
            raise CheckpointError(f"cannot write {self.path / 'lock'}: {disk.reason(error)}") from error

    def close(self) -> None:
        """Release the lock."""
        locking.release(self.key)
        self.key = ""

    def begin(self, run: str) -> None:
        """Make what is written from now on belong to that run, unless an earlier run is resumed."""
        self.run = self.run or run

    # --- writing -----------------------------------------------------------------------------------------

    def write(self, step: int, rank: int, tensors: dict[str, Buffer], facts: Facts) -> Part:
        """Write one worker's part; return what `commit` must know of it. The part counts only after `commit`."""
        part = self.part(self.fresh(step), rank)
        try:
            content = worker_file.packed(tensors, facts, self.belongs(step, rank))
            disk.make_folder(part.parent)
            replace(part, content)
        except (OSError, CheckpointError) as error:
            raise refused(part, error) from error
        return len(content), crc32(content)

    def belongs(self, step: int, rank: int) -> Facts:
        """Return the entries that bind a part to its checkpoint."""
        return {"run": self.run, "step": step, "rank": rank}

    def commit(self, step: int, written: Sequence[Part], facts: Facts) -> None:
        """Write the manifest that makes the parts a checkpoint, and remove older ones. Rank 0; others `follow`."""
        name = self.fresh(step)
        self.check_there(name, written)
        content = Manifest(
            format=manifest.FORMAT,
            run=self.run,
            number=self.number + 1,
            step=step,
            folder=name,
            signature=self.signature,
            facts=facts,
            parts=tuple((size, check) for size, check in written),
        ).written()
        try:
            self.put(self.path / name / manifest.NAME, content)
        except CheckpointError:
            self.drop(step)
            raise
        self.put(self.manifest, content)
        self.follow(step)
        for folder in folders(self.path):
            if folder.name not in self.kept:
                self.discard(folder)

    def check_there(self, name: str, written: Sequence[Part]) -> None:
        """Refuse a checkpoint of which a part was written elsewhere: no run could resume from it."""
        for rank, (size, _) in enumerate(written):
            part = self.part(name, rank)
            if not part.is_file() or part.stat().st_size != size:
                raise CheckpointError(
                    f"{part} is not what worker {rank} wrote: all workers must be given one folder, on a disk "
                    "that they share; the previous checkpoint stays"
                )

    def put(self, path: Path, content: bytes) -> None:
        """Write a manifest, in a folder that may be new itself."""
        try:
            replace(path, content)
            disk.settle(path.parent.parent)
        except OSError as error:
            raise refused(path, error) from error

    def drop(self, step: int) -> None:
        """Remove a checkpoint that could not be written whole, so that its space is free. Rank 0 only."""
        self.discard(self.path / self.fresh(step))

    def discard(self, folder: Path) -> None:
        """Remove what no longer counts: first what would let it pass for a checkpoint."""
        with suppress(OSError):  # the next line says why
            disk.remove(folder / manifest.NAME)
        disk.remove_folder(folder)

    def follow(self, step: int) -> None:
        """Take as the current checkpoint the one that rank 0 has committed."""
        others = [name for name in self.kept if name.removesuffix("-again") != f"step-{step:09d}"]
        self.kept = [self.fresh(step), *others][: self.keep]
        self.number += 1
        self.doubtful.clear()

    def fail(self, step: int) -> None:
        """Use another folder for the next checkpoint, lest the one that was not committed counts after all."""
        self.doubtful.append(self.fresh(step))

    # --- reading -----------------------------------------------------------------------------------------

    def candidates(self) -> list[Manifest | str]:
        """Return readable manifests, the newest first, and a message in place of each damaged one.

        Where DIR/manifest.json can be read only what belongs to its run; else whatever says that it is whole.
        """
        first: list[Manifest | str] = []
        if self.manifest.exists():
            first.append(attempt(self.manifest))
        elif holds(self.path):
            first.append(f"{self.manifest} is missing")
        counting = first[0] if first and isinstance(first[0], Manifest) else None
        others = [self.attempt_within(path) for path in within(self.path)]
        known = [each for each in others if isinstance(each, Manifest) and self.precedes(each, counting)]
        words = [each for each in others if isinstance(each, str)] if counting is None else []
        known.sort(key=lambda each: (each.number, each.folder), reverse=True)
        return [*first, *known, *words]

    def attempt_within(self, path: Path) -> Manifest | str:
        """Return the manifest in a checkpoint's own folder, or the reason why it cannot be read."""
        found = attempt(path)
        if isinstance(found, Manifest) and found.folder != path.parent.name:
            return f"{path} is the manifest of {found.folder}"
        return found

    def precedes(self, found: Manifest, counting: Manifest | None) -> bool:
        return counting is None or (found.run == counting.run and found.number < counting.number)

    def check_signature(self, found: Manifest) -> None:
        """Refuse what another run wrote."""
        for name, wanted in self.signature.items():
            there = found.signature.get(name)
            if name == "tensors" and there is not None and there != wanted:
                raise CheckpointError(f"{self.path} was written with {first_difference(there, wanted)}")
            if name not in ("workers", "tensors") and there != wanted:
                raise CheckpointError(f"{self.path} was written with {name} {there}, this run has {wanted}")

    def check(self, found: Manifest, ranks: Sequence[int]) -> None:
        """Raise CheckpointError if a part that these ranks need is not whole."""
        mine = ranks if found.workers == self.signature["workers"] else range(found.workers)
        for rank in mine:
            if found.format == 1:
                worker_file.read_first_format(self.part(found.folder, rank))
            else:
                worker_file.check_whole(self.part(found.folder, rank), found.parts[rank])

    def use(self, found: Manifest, others: Sequence[Manifest] = ()) -> None:
        """Go on from that checkpoint; `others` are older ones that stay beside it."""
        self.found, self.run, self.number, self.workers = found, found.run, found.number, found.workers
        older = [each for each in others if each.run == found.run and each.number < found.number]
        self.kept = [each.folder for each in (found, *older)]

    def read(self, rank: int) -> tuple[dict[str, NDArray[Any]], Facts]:
        """Return tensors and facts of one worker's part of the checkpoint in use."""
        assert self.found is not None
        part = self.part(self.found.folder, rank)
        if self.found.format == 1:
            return worker_file.read_first_format(part)
        return worker_file.read(part, self.belongs(self.found.step, rank))


def holds(path: str | PathLike[str]) -> bool:
    """Return whether a folder has a checkpoint, or remains of one."""
    folder = Path(path)
    return (folder / manifest.NAME).exists() or bool(within(folder))


def folders(path: Path) -> list[Path]:
    """Return the folders whose names are those of checkpoints; everything else in DIR is the user's."""
    return [each for each in path.glob("step-*") if manifest.FOLDER.fullmatch(each.name)]


def within(path: Path) -> list[Path]:
    """Return the paths of the manifests in the checkpoints' own folders."""
    return [each / manifest.NAME for each in folders(path) if (each / manifest.NAME).exists()]


def drawn() -> str:
    """Return a random id for a new run."""
    return secrets.token_hex(8)


def attempt(path: Path) -> Manifest | str:
    """Return a manifest, or the reason why it cannot be read."""
    try:
        return manifest.read(path)
    except Damaged as error:
        return str(error)


def refused(path: Path, error: Exception) -> CheckpointError:
    """Return the error of a file that the disk does not take."""
    why = disk.reason(error) if isinstance(error, OSError) else error
    return CheckpointError(f"cannot write {path}: {why}; the previous checkpoint stays")


def first_difference(there: Any, wanted: Any) -> str:
    """Describe the first of a model's tensors whose name, shape or dtype differs."""
    for number, (one, other) in enumerate(zip(there, wanted, strict=False)):
        if one != other:
            return f"tensor {number} {described(one)}, this run has {described(other)}"
    return f"{len(there)} tensors, this run has {len(wanted)}"


def described(tensor: Any) -> str:
    """Return name, shape and dtype of a tensor as text."""
    try:
        name, shape, kind = tensor
        return f"{name!r} {tuple(shape)} {kind}"
    except (TypeError, ValueError):
        return repr(tensor)
