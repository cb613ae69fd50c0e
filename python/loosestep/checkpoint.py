"""Checkpoints: safetensors and JSON, never pickle. One file a worker, then a manifest that makes them count.

DIR/manifest.json names the folder of the last complete checkpoint; it is replaced in one move after every
file of the new one is on disk, so a run killed at any time leaves a complete checkpoint or none.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from loosestep.errors import CheckpointError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from loosestep.requests import Buffer

FORMAT = 1
Facts = dict[str, Any]


class Folder:
    """A checkpoint directory of one run. `signature` says what wrote it: another run is refused."""

    def __init__(self, path: str | os.PathLike[str], signature: Facts, *, resume: bool) -> None:
        self.path, self.signature = Path(path), signature
        self.current = ""  # the name of the folder that counts
        self.workers = int(signature["workers"])  # that wrote what is there
        if self.manifest.exists() and not resume:
            raise ValueError(
                f"{self.path} holds a checkpoint: pass resume=True to go on from it, or another folder"
            )
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"checkpoint must be a folder, but {self.path} is a file")

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    def part(self, folder: str, rank: int) -> Path:
        """Where a worker's part of a checkpoint is."""
        return self.path / folder / f"rank-{rank:05d}.safetensors"

    def fresh(self, step: int) -> str:
        """The folder for a new checkpoint: never the one that counts, even where its step is the same."""
        name = f"step-{step:09d}"
        return name if name != self.current else f"{name}-again"

    # --- writing -----------------------------------------------------------------------------------------

    def write(self, step: int, rank: int, tensors: dict[str, Buffer], facts: Facts) -> None:
        """One worker's part; it counts only after `commit`."""
        part = self.part(self.fresh(step), rank)
        tensors = {name: in_order(tensor) for name, tensor in tensors.items()}
        checks = {name: crc32(tensor.data) for name, tensor in tensors.items()}
        written = json.dumps(facts)
        checks["facts"] = crc32(written.encode())
        metadata = {"facts": written, "checks": json.dumps(checks)}
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            replace(part, save(tensors, metadata=metadata))
        except OSError as error:
            raise CheckpointError(
                f"cannot write {part}: {error.strerror or error}; the previous checkpoint stays"
            ) from error

    def commit(self, step: int, facts: Facts) -> None:
        """All parts are there: make them the checkpoint, and remove older ones. For rank 0; others `follow`."""
        name = self.fresh(step)
        content = {"format": FORMAT, "step": step, "folder": name, "signature": self.signature, "facts": facts}
        try:
            replace(self.manifest, json.dumps(content, indent=1).encode())
        except OSError as error:
            raise CheckpointError(
                f"cannot write {self.manifest}: {error.strerror or error}; the previous checkpoint stays"
            ) from error
        self.current = name
        for folder in self.path.glob("step-*"):
            if folder.name != name:
                shutil.rmtree(folder, ignore_errors=True)

    def follow(self, step: int) -> None:
        """Another process makes it the checkpoint."""
        self.current = self.fresh(step)

    # --- reading -----------------------------------------------------------------------------------------

    def read_manifest(self) -> tuple[int, Facts] | None:
        """(step, facts) of the checkpoint, or None where there is none."""
        if not self.manifest.exists():
            return None
        try:
            content = json.loads(self.manifest.read_text())
            step, facts, signature = int(content["step"]), content["facts"], content["signature"]
            folder, workers = str(content["folder"]), int(signature["workers"])
            if workers < 1:
                raise ValueError(f"it says that {workers} workers wrote it")  # noqa: TRY301
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{self.manifest} is not a checkpoint's manifest: {error}") from error
        if content.get("format") != FORMAT:
            raise CheckpointError(f"{self.manifest} has format {content.get('format')}, this is format {FORMAT}")
        for name, wanted in self.signature.items():
            if signature.get(name) != wanted and name != "workers":
                raise CheckpointError(
                    f"{self.path} was written with {name} {signature.get(name)}, this run has {wanted}"
                )
        self.current, self.workers = folder, workers
        return step, facts

    def read(self, rank: int) -> tuple[dict[str, NDArray[Any]], Facts]:
        """One worker's part, checked."""
        part = self.part(self.current, rank)
        try:
            with safe_open(part, framework="numpy") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
                metadata = file.metadata() or {}
            facts, checks = json.loads(metadata["facts"]), json.loads(metadata["checks"])
            content = {"facts": metadata["facts"].encode()}
            content.update((name, np.ascontiguousarray(tensor).data) for name, tensor in tensors.items())
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise CheckpointError(f"{part} cannot be read as a checkpoint: {error}") from error
        for name, check in checks.items():
            if name not in content or crc32(content[name]) != check:
                raise CheckpointError(f"{part} is damaged: {name} does not match its checksum")
        return tensors, facts


def in_order(tensor: Buffer) -> Buffer:
    """The tensor with its memory in C order, of its own shape: safetensors writes memory as it lies."""
    return np.ascontiguousarray(tensor).reshape(tensor.shape)


def replace(path: Path, content: bytes) -> None:
    """Write to disk, whole or not at all."""
    draft = path.with_suffix(path.suffix + ".part")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
