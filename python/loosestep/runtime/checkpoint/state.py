"""A worker's state, counters and position, saved into a checkpoint and restored from it."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from loosestep import ops
from loosestep.foundation import checks
from loosestep.foundation.buffers import is_buffer
from loosestep.foundation.errors import CheckpointError, Diverged
from loosestep.lowering.requests import Drained
from loosestep.requests import Communication, Fetch, Shared
from loosestep.strategies.base import Words, leaves

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from loosestep.requests import Buffer, Request
    from loosestep.runtime.checkpoint.folder import Facts, Folder, Part
    from loosestep.runtime.program import Program
    from loosestep.transports.base import Session
    from loosestep.transports.metered import Meter

Names: TypeAlias = "Mapping[str, str]"  # in the file -> of the attribute
POSITION: Names = {  # of a program
    "part": "part",
    "progress": "progress",
    "met_at": "last_sync_step",
    "looked_at": "last_eval_step",
}
COUNTS: Names = {  # of a worker
    name: name for name in ("clock", "round", "updates", "samples", "losses", "computing", "communicating")
}
TALLIES: Names = {"waiting": "waiting", "requests": "requests"}  # of a meter
TOTALS: Names = {"samples": "samples", "steps": "steps", "noted": "losses"}  # of a model
NOT_WRITTEN_SO = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)


def to_json(program: Program, name: str, value: Any) -> Any:
    """Return a value of the state for JSON; of a communication, until when to wait. Raises CheckpointError."""
    if isinstance(value, Communication):
        return {"due": program.drained(value).due}
    if isinstance(value, np.generic):
        return value.item()
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{name} is of type {type(value).__name__}, which a checkpoint cannot keep: numbers, strings, lists "
            "and arrays can be kept"
        ) from error
    return value


def from_json(fact: Any) -> Any:
    """Return the value that `to_json` made JSON of."""
    return Drained(fact["due"]) if isinstance(fact, dict) else fact


def save_worker(
    folder: Folder, program: Program, meter: Meter, session: Session, step: int
) -> Generator[Request, None, Part]:
    """Write one worker's part; rank 0's holds what is shared.

    Raises Diverged where something in it is not finite: the previous checkpoint is better.
    """
    worker = program.worker
    first = worker.rank == 0
    tensors: dict[str, Buffer] = {}
    numbers: dict[str, Any] = {}
    shared = program.plan.strategy.shared_buffers
    if first or "params" not in shared:
        tensors["params"] = worker.params
    if first or "moments" not in shared:
        tensors.update((f"moment.{place}", moment) for place, moment in enumerate(worker.moments))
    for name, _, _, value in leaves(program.state):
        if is_buffer(value):
            tensors[name] = value
        elif not isinstance(value, Shared):
            numbers[name] = to_json(program, name, value)
        elif first:
            tensors[name] = np.empty(value.size, value.dtype)
            yield Fetch(value, into=tensors[name])
            numbers[name] = session.version(value)
    facts = {"state": numbers, "seconds": session.now(worker.rank), **position(program, meter)}
    check_finite(tensors, program, step)
    return folder.write(step, worker.rank, tensors, facts)


def check_finite(tensors: Mapping[str, Buffer], program: Program, step: int) -> None:
    """Refuse to keep numbers that are not finite."""
    words = {name for name, holder, *_ in leaves(program.state) if isinstance(holder, Words)}
    for name, tensor in tensors.items():
        if name not in words and not ops.all_finite(tensor):
            raise Diverged(program.worker.rank, step, what=f"the values of {name!r}")


def position(program: Program, meter: Meter) -> Facts:
    """Return a worker's position: counters of the program, the worker, its data and its meter."""
    facts: Facts = {"taken": program.model.feed.taken}
    for group, owner, names in owners(program, meter):
        facts[group] = {name: getattr(owner, attribute) for name, attribute in names.items()}
    return facts


def owners(program: Program, meter: Meter) -> list[tuple[str, Any, Names]]:
    """Return the objects whose counters a checkpoint keeps, each with the name of its group in the file."""
    return [
        ("program", program, POSITION),
        ("worker", program.worker, COUNTS),
        ("meter", meter, TALLIES),
        ("model", program.model, TOTALS),
    ]


def restore_worker(folder: Folder, program: Program, meter: Meter, session: Session) -> None:
    """Bring a worker to where the checkpoint stood."""
    worker = program.worker
    tensors, facts = folder.read(worker.rank)
    where = str(folder.part(folder.current, worker.rank))
    with understood(where):
        restore_state(program, meter, session, tensors, facts, where)
        taken = checks.integer("taken", facts["taken"], 0)
    program.model.feed.skip(taken)


@contextmanager
def understood(where: str) -> Iterator[None]:
    """Raise CheckpointError, naming the file, where facts have another shape than those that are written."""
    try:
        yield
    except NOT_WRITTEN_SO as error:
        raise CheckpointError(
            f"{where} does not hold what this run wants: {type(error).__name__}: {error}"
        ) from error


def restore_state(
    program: Program, meter: Meter, session: Session, tensors: dict[str, Any], facts: Facts, where: str
) -> None:
    """Restore everything but the position in the data."""
    worker = program.worker
    program.enter(facts["program"].get("part", 0))
    if "params" in tensors:
        place(worker.params, tensors["params"], "params", where)
    if worker.rank == 0 or "moments" not in program.plan.strategy.shared_buffers:
        for number, moment in enumerate(worker.moments):
            place(moment, tensors.get(f"moment.{number}"), f"moment.{number}", where)
    for name, holder, key, value in leaves(program.state):
        if is_buffer(value):
            place(value, tensors.get(name), name, where)
        elif not isinstance(value, Shared):
            setattr(holder, key, from_json(facts["state"][name]))
        elif worker.rank == 0:
            session.store(value, tensors[name], facts["state"].get(name, 0))
    for group, owner, names in owners(program, meter):
        for name, attribute in names.items():
            setattr(owner, attribute, facts[group].get(name, getattr(owner, attribute)))
    session.resume(worker.rank, float(facts["seconds"]))


def place(buffer: Buffer, saved: Buffer | None, name: str, where: str) -> None:
    """Copy into the existing buffer, since addresses never change."""
    check_place(buffer, saved, name, where)
    buffer[...] = saved


def check_place(buffer: Buffer, saved: Buffer | None, name: str, where: str) -> None:
    """Refuse what is of another size or dtype than its buffer."""
    if saved is None or saved.size != buffer.size or saved.dtype != buffer.dtype:
        found = "is missing" if saved is None else f"holds {saved.size} {saved.dtype}"
        raise CheckpointError(f"{where}: {name} {found}, wanted {buffer.size} {buffer.dtype}")
