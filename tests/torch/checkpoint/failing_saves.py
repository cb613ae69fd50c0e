"""Saves and restores that fail on one rank of a job, and are caught: all ranks raise alike, and go on together."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mpi4py import MPI
from tests.torch.training import momentum, seeded

import loosestep as ls
import loosestep.torch
from loosestep.foundation.errors import CheckpointError, Diverged, LoosestepError
from loosestep.runtime.checkpoint import disk
from loosestep.runtime.checkpoint import folder as checkpoint

LAST = MPI.COMM_WORLD.size - 1
STRATEGIES = (ls.LocalSGD(2), ls.LocalSGD(50), ls.EASGD(period=3), ls.Downpour(period=3), ls.DiLoCo(period=50))


def shared_folder() -> Path:
    path = tempfile.mkdtemp() if MPI.COMM_WORLD.rank == 0 else None
    return Path(MPI.COMM_WORLD.bcast(path))


def steps(optimizer: Any, net: Any, count: int) -> None:
    for _ in range(count):
        optimizer.zero_grad()
        net(torch.full((2, 5), 1.0 + optimizer.rank)).pow(2).mean().backward()
        optimizer.step()


def parallel(strategy: ls.Strategy) -> tuple[Any, Any]:
    net = seeded(0)
    return net, loosestep.torch.parallel(net, momentum(net.parameters()), strategy)


@contextmanager
def full_disk(rank: int, name: str) -> Iterator[None]:
    """On one rank no file of that name can be written."""
    before = checkpoint.replace

    def replace(path: Path, content: bytes) -> None:
        if rank == MPI.COMM_WORLD.rank and name in path.name:
            raise OSError(28, "No space left on device")
        before(path, content)

    checkpoint.replace = replace
    try:
        yield
    finally:
        checkpoint.replace = before


def caught(kind: type[Exception], action: Callable[[], Any]) -> str:
    """What it raised, here and alike on all ranks."""
    try:
        action()
    except kind as error:
        words = str(error)
    else:
        raise AssertionError(f"no {kind.__name__} on rank {MPI.COMM_WORLD.rank}")
    told = MPI.COMM_WORLD.allgather(words)
    assert told == [words] * len(told), told
    return words


def at(folder: Path) -> int:
    MPI.COMM_WORLD.Barrier()
    step: int = json.loads((folder / "manifest.json").read_text())["step"]
    return step


def a_save_that_fails() -> int:
    """Of a part, on the last rank; of the manifest, on rank 0. The checkpoint before stays, later ones work."""
    for strategy in STRATEGIES:
        folder = shared_folder() / "run"
        net, optimizer = parallel(strategy)
        with optimizer:
            steps(optimizer, net, 2)
            optimizer.save(folder, {"step": 2})
            for rank, name in ((LAST, "rank-"), (0, "manifest")):
                steps(optimizer, net, 1)
                with full_disk(rank, name):
                    words = caught(CheckpointError, lambda: optimizer.save(folder, {"step": 0}))  # noqa: B023
                assert words.startswith(f"worker {rank}: cannot write {folder}"), words
                assert words.endswith("No space left on device; the previous checkpoint stays"), words
                assert at(folder) == 2
                assert [path.name for path in folder.glob("step-*")] == ["step-000000002"], "it takes no room"
                MPI.COMM_WORLD.Barrier()
            steps(optimizer, net, 1)
            optimizer.save(folder, {"step": 5})
            assert at(folder) == 5
        _, resumed = parallel(strategy)
        with resumed:
            assert resumed.restore(folder) == {"step": 5}
    return MPI.COMM_WORLD.rank


def what_one_rank_cannot_write() -> int:
    """It raises its own error, and the others say whose it is; then all go on."""
    folder = shared_folder() / "run"
    net, optimizer = parallel(ls.EASGD(period=3))
    with optimizer:
        steps(optimizer, net, 2)
        note = {"step": {1, 2}} if optimizer.rank == LAST else {"step": 2}
        kind = TypeError if optimizer.rank == LAST else CheckpointError
        with pytest.raises(kind, match="note\\['step'\\] is of type set") as raised:
            optimizer.save(folder, note)
        assert optimizer.rank == LAST or str(raised.value).startswith(f"worker {LAST}: TypeError: ")
        steps(optimizer, net, 2)
        optimizer.save(folder, {"step": 4})
        assert at(folder) == 4
    return int(optimizer.rank)


def a_part_that_is_damaged() -> int:
    """With an older checkpoint all go on from that one; without, all raise, and nothing has changed."""
    for keep in (2, 1):
        folder = shared_folder() / "run"
        net, optimizer = parallel(ls.EASGD(period=3))
        with optimizer:
            for step in (2, 4):
                steps(optimizer, net, 2)
                optimizer.save(folder, {"step": step}, keep=keep)
        if optimizer.rank == 0:
            part = folder / "step-000000004" / f"rank-{LAST:05d}.safetensors"
            part.write_bytes(part.read_bytes()[:-1] + b"x")
        MPI.COMM_WORLD.Barrier()
        net, resumed = parallel(ls.EASGD(period=3))
        with resumed:
            before = torch.from_numpy(resumed.layout.params).clone()
            if keep == 2:
                assert resumed.restore(folder) == {"step": 2}
                assert resumed.worker.clock == 2
            else:
                words = caught(CheckpointError, lambda: resumed.restore(folder))  # noqa: B023
                assert f"rank-{LAST:05d}.safetensors is damaged" in words
                assert resumed.worker.clock == 0
                assert torch.equal(before, torch.from_numpy(resumed.layout.params))
            steps(resumed, net, 2)
    return MPI.COMM_WORLD.rank


def what_workers_must_say_alike() -> int:
    """How many stay, and one folder on one disk: else nobody could read what was written."""
    folder = shared_folder()
    net, optimizer = parallel(ls.LocalSGD(2))
    with optimizer:
        steps(optimizer, net, 2)
        optimizer.save(folder / "run", {"step": 2}, keep=1)
        own = 1 if optimizer.rank == LAST else 3
        words = caught(ValueError, lambda: optimizer.save(folder / "run", keep=own))
        assert words == f"keep is 3 on worker 0 and 1 on worker {LAST}: say the same on all workers"
        words = caught(CheckpointError, lambda: optimizer.save(folder / f"run of {optimizer.rank}"))
        assert "rank-00001.safetensors is not what worker 1 wrote: all workers must be given one folder" in words
        steps(optimizer, net, 2)
        optimizer.save(folder / "run", {"step": 4}, keep=3)
        assert at(folder / "run") == 4
    _, resumed = parallel(ls.LocalSGD(2))
    with resumed:
        assert resumed.restore(folder / "run") == {"step": 4}

    def run(name: str, keep: int) -> None:
        data = lambda rank, size: iter([1.0] * 6)  # noqa: E731
        options: dict[str, Any] = {"on": ls.MPI(), "checkpoint": folder / name, "keep": keep}
        ls.run(ls.LocalSGD(3), lambda x, b: x - b, np.zeros(4), data, **options)

    words = caught(LoosestepError, lambda: run(f"library's of {resumed.rank}", 2))
    assert "rank-00001.safetensors is not what worker 1 wrote: all workers must be given one folder" in words
    words = caught(LoosestepError, lambda: run("library", own))
    assert words == f"worker {LAST} has keep 1, worker 0 has keep 3"
    return int(resumed.rank)


def a_parameter_that_one_rank_added() -> int:
    """It says so in save(), and so do the others; then it is taken away, and all go on."""
    folder = shared_folder() / "run"
    net, optimizer = parallel(ls.LocalSGD(2))
    with optimizer:
        steps(optimizer, net, 2)
        if optimizer.rank == LAST:
            optimizer.inner.param_groups[0]["params"].append(torch.nn.Parameter(torch.ones(2)))
        kind = RuntimeError if optimizer.rank == LAST else CheckpointError
        with pytest.raises(
            kind, match=r"a parameter of shape \(2,\) came into the optimizer after parallel"
        ) as raised:
            optimizer.save(folder)
        assert optimizer.rank == LAST or str(raised.value).startswith(f"worker {LAST}: RuntimeError: ")
        if optimizer.rank == LAST:
            optimizer.inner.param_groups[0]["params"].pop()
        steps(optimizer, net, 2)
        optimizer.save(folder)
        assert at(folder) == 4
    return int(optimizer.rank)


def numbers_that_are_not_finite() -> int:
    """On the last rank: said on all where they would be kept or shown, and at the end."""
    for strategy in (ls.LocalSGD(50), ls.EASGD(period=50)):
        folder = shared_folder() / "run"
        net, optimizer = parallel(strategy)
        with optimizer:
            steps(optimizer, net, 2)
            optimizer.save(folder)
            steps(optimizer, net, 1)
            if optimizer.rank == LAST:
                with torch.no_grad():
                    next(iter(net.parameters()))[0, 0] = torch.nan
            words = caught(Diverged, lambda: optimizer.save(folder))  # noqa: B023
            assert words.startswith(
                f"the parameters or optimizer buffers of worker {LAST} are not finite at step 3: "
            ), words
            assert at(folder) == 2
            if strategy.consensus_is == "collective":
                words = caught(Diverged, lambda: optimizer.once(print))  # noqa: B023
                assert f"of worker {LAST} are not finite at step 3" in words, words
            words = caught(Diverged, optimizer.close)
            who = "0" if strategy.consensus_is == "collective" else r"\d+"  # a center passes it on in any order
            assert re.search(f"of worker {who} are not finite", words), "all have met once more"
    return MPI.COMM_WORLD.rank


def a_run_that_cannot_save() -> int:
    """The library's loop: a disk that is full on one rank, for a part or for the manifest."""

    def run(steps: int, **options: Any) -> ls.Result:
        ones = lambda rank, size: iter([1.0 + rank] * steps)  # noqa: E731
        return ls.run(ls.LocalSGD(3), lambda x, b: x - b, np.zeros(4), ones, on=ls.MPI(), **options)

    for rank, name in ((LAST, "rank-"), (0, "manifest")):
        folder = shared_folder() / "run"
        run(3, checkpoint=folder)
        with full_disk(rank, name), pytest.raises(LoosestepError) as raised:  # another rank may be heard first
            run(6, checkpoint=folder, resume=True)
        assert str(raised.value).startswith(f"worker {rank}: cannot write {folder}"), raised.value
        assert at(folder) == 3
        assert run(6, checkpoint=folder, resume=True).params.tobytes() == run(6).params.tobytes()
    return MPI.COMM_WORLD.rank


CASES: dict[str, Callable[[], int]] = {
    case.__name__: case
    for case in (
        a_save_that_fails,
        what_one_rank_cannot_write,
        a_part_that_is_damaged,
        what_workers_must_say_alike,
        a_parameter_that_one_rank_added,
        numbers_that_are_not_finite,
        a_run_that_cannot_save,
    )
}
assert disk.replace is checkpoint.replace, "what is patched here is what writes"
