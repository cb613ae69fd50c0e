"""The manifest of a checkpoint: its folder and run, its content, and checksums of everything.

It is written twice: into the checkpoint's own folder, where it is found when the other is lost, and then as
DIR/manifest.json, which makes the checkpoint count. Format 1, which is read still, had the second only, without
checksums.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from zlib import crc32

from loosestep.foundation.errors import CheckpointError, Damaged
from loosestep.runtime.checkpoint import disk
from loosestep.runtime.checkpoint.worker_file import UNREADABLE

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 2
NAME = "manifest.json"
FOLDER = re.compile(r"step-\d{9,15}(-again)*", re.ASCII)
FIRST_FORMAT = {"format", "step", "folder", "signature", "facts"}

Facts = dict[str, Any]


@dataclass(frozen=True)
class Manifest:
    """One checkpoint. `signature` describes the run; `parts` are (size, checksum) of each rank's file."""

    format: int
    run: str  # drawn when the run began, the same in all its checkpoints
    number: int  # of this checkpoint in its run
    step: int
    folder: str
    signature: Facts
    facts: Facts
    parts: tuple[tuple[int, int], ...]

    @property
    def workers(self) -> int:
        """The number of workers that wrote it."""
        workers: int = self.signature["workers"]
        return workers

    def written(self) -> bytes:
        """Return the content of its file."""
        content = asdict(self)
        return json.dumps({**content, "check": check(content)}, indent=1).encode()


def check(content: Facts) -> int:
    """Return the checksum of a manifest's content, whatever its layout as text."""
    return crc32(json.dumps(content, sort_keys=True).encode())


def read(path: Path) -> Manifest:
    """Return the manifest in a file. Raises Damaged, or CheckpointError for an unknown format."""
    try:
        content = json.loads(disk.read(path))
        kind = content["format"]
        if type(kind) is int and not 1 <= kind <= FORMAT:
            raise CheckpointError(f"{path} has format {kind}, and this version reads formats 1 to {FORMAT}")
        manifest = understood(content)
    except PermissionError as error:
        raise CheckpointError(f"{path} cannot be read: {disk.reason(error)}") from error
    except UNREADABLE as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else error
        raise Damaged(f"{path} is not a checkpoint's manifest: {why}") from error
    return manifest


def understood(content: Facts) -> Manifest:
    """Return the manifest in a JSON object. Raises KeyError, TypeError or ValueError."""
    if content["format"] == 1:
        wrong = set(content) ^ FIRST_FORMAT
        if wrong:
            raise ValueError(f"format 1 does not go with {', '.join(sorted(wrong))}")
        content = {**content, "run": "", "number": 0, "parts": []}
    else:
        if content.pop("check") != check(content):
            raise ValueError("it is damaged: it does not match its checksum")
        content["parts"] = tuple((size, found) for size, found in content["parts"])
    manifest = Manifest(**content)
    if manifest.format not in (1, FORMAT) or type(manifest.format) is not int:
        raise ValueError(f"its format is {manifest.format!r}")
    for name in ("step", "number", "workers"):
        number = getattr(manifest, name)
        if type(number) is not int or number < (name == "workers"):
            raise ValueError(f"{name} is {number!r}")
    if not FOLDER.fullmatch(manifest.folder):
        raise ValueError(f"{manifest.folder!r} is no name of a checkpoint's folder")
    if manifest.format != 1 and len(manifest.parts) != manifest.workers:
        raise ValueError(f"it knows {len(manifest.parts)} parts of {manifest.workers} workers")
    return manifest
